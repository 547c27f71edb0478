"""Help: whole sentences, and examples that the command line itself takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from typer.core import TyperCommand, TyperGroup

from ocisync.cli.app import app
from ocisync.cli.display.help import examples, parameters, summary


def commands(group: TyperGroup, prefix: str = "") -> Iterator[tuple[str, TyperCommand]]:
    """Every command by its name, such as `config check`."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{prefix}{name} ")
        elif isinstance(command, TyperCommand):
            yield f"{prefix}{name}", command


ROOT = app
assert isinstance(ROOT, TyperGroup)
COMMANDS = dict(commands(ROOT))
EXAMPLES = [(name, text) for name, command in COMMANDS.items() for text in examples(command)]


def test_every_command_has_an_example() -> None:
    assert [name for name, command in COMMANDS.items() if not examples(command)] == []


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[text for _, text in EXAMPLES])
def test_an_example_is_a_command_line(name: str, text: str) -> None:
    words = shlex.split(text.replace("<(", "").replace(")", ""), comments=False)
    words = words[words.index("ocisync") :]
    words = words[: next((at for at, word in enumerate(words) if word in ("<", ">", "|")), len(words))]
    own = name.split()
    assert words[1 : 1 + len(own)] == own
    COMMANDS[name].make_context(name, words[1 + len(own) :])  # raises where it does not fit


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_sentences(name: str) -> None:
    command = COMMANDS[name]
    assert summary(command).endswith("."), summary(command)
    context = command.context_class(command, info_name=name)
    for _, form, text in parameters(command, context):
        assert text, form
        assert "<" not in form, form
        assert text[0].isupper() or not text[0].isalpha(), text
        assert not any(word in text for word in ("given again", "otherwise;", " so.")), text


def test_the_list_of_commands_cuts_nothing() -> None:
    assert isinstance(ROOT, TyperGroup)
    shown = ROOT.get_help(ROOT.context_class(ROOT, info_name="ocisync")).partition("Mirroring by rules:")[2]
    assert "..." not in shown
    text = "".join(shown.split())
    for name, command in ROOT.commands.items():
        assert "".join(f"{name}{summary(command)}".split()) in text
