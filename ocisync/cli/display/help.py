"""How help looks: whole sentences, plain words for what a value is, and examples at the end.

The manual pages (tools/manpages.py) and the reference of the documentation are made from the same pieces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

if TYPE_CHECKING:
    import typer

_EXAMPLE = "Example: "
_WORDS = {"str": "TEXT", "path": "PATH", "int": "NUMBER", "float": "NUMBER"}
_TYPE = re.compile(r" <(?P<list>list\[)?(?P<kind>[^<>\[\] ]+)(?: range)?\]?>")


class Command(TyperCommand):
    """A command; its docstring's paragraphs that begin with "Example:" are shown at the end."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """`copy [OPTIONS] SOURCE... DESTINATION`."""
        return ["[OPTIONS]", *(argument_name(one) for one in self.params if isinstance(one, TyperArgument))]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """What it does."""
        for paragraph in description(self):
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(paragraph)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments and options."""
        _format_parameters(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Examples, in lines that can be copied: they are not wrapped."""
        if lines := examples(self):
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in lines))


class CommandGroup(TyperGroup):
    """Commands under the headings of their `rich_help_panel`, each with its whole first sentence."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options, then commands."""
        _format_parameters(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """All commands; their names stand below each other across the sections."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            if not command.hidden:
                heading = getattr(command, "rich_help_panel", None) or "Commands"
                sections.setdefault(heading, []).append((name, summary(command)))
        width = max(len(name) for rows in sections.values() for name, _ in rows)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])


def summary(command: Any) -> str:
    """The first paragraph of a command's help, in one line."""
    return " ".join((command.help or "").split("\n\n")[0].split())


def description(command: Any) -> list[str]:
    """The paragraphs of a command's help without examples."""
    paragraphs = [" ".join(one.split()) for one in (command.help or "").strip().split("\n\n")]
    return [one for one in paragraphs if one and not one.startswith(_EXAMPLE)]


def examples(command: Any) -> list[str]:
    """The command lines that a command's help gives as examples."""
    paragraphs = (" ".join(one.split()) for one in (command.help or "").split("\n\n"))
    return [one.removeprefix(_EXAMPLE) for one in paragraphs if one.startswith(_EXAMPLE)]


def argument_name(argument: TyperArgument) -> str:
    """`SOURCE...`, or `[RULE]` where it may be left out."""
    name = (argument.metavar or argument.name or "").replace("...", "")
    name = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    name = name if argument.metavar else name.upper()
    more = "..." if argument.nargs != 1 else ""
    return f"{name}{more}" if argument.required else f"[{name}]{more}"


def parameters(command: Any, context: typer.Context | Any) -> Iterator[tuple[str, str, str]]:
    """The heading ("Arguments" or "Options"), the form and the help of each parameter that is shown."""
    for parameter in command.get_params(context):
        if getattr(parameter, "hidden", False) or (record := parameter.get_help_record(context)) is None:
            continue
        form, text = record
        if isinstance(parameter, TyperArgument):
            yield "Arguments", argument_name(parameter), text.removesuffix("[required]").rstrip()
        elif isinstance(parameter, TyperOption):
            yield "Options", _TYPE.sub(_plain_type, form), text
        else:  # --help, which click makes
            yield "Options", form, text


def _plain_type(found: re.Match[str]) -> str:
    """`TEXT` for `<str>`; choices stay as they are. What may be given again is told by the option's own help."""
    kind = found["kind"]
    return f" {_WORDS.get(kind, kind)}"


def _format_parameters(command: Any, context: Any, formatter: Any) -> None:
    rows = list(parameters(command, context))
    for heading in ("Arguments", "Options"):
        if listed := [(form, text) for of, form, text in rows if of == heading]:
            with formatter.section(heading):
                formatter.write_dl(listed)
