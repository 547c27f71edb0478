"""Write manual pages from the commands' help, into a folder: `python tools/manpages.py DIR`.

One page for `ocisync`, which lists the commands, and one for each command: ocisync-copy(1).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from typer.core import TyperCommand, TyperGroup

from ocisync import __version__
from ocisync.cli.app import app
from ocisync.cli.display.help import description, examples, parameters, summary

AnyCommand = TyperCommand | TyperGroup

_FILES = """.SH FILES
.TP
.I /etc/ocisync/ocisync.yaml
The configuration, where there is no ./ocisync.yaml and $OCISYNC_CONFIG names none.
.SH EXIT STATUS
0 all good, 1 something failed, 2 wrong usage or configuration, 130 interrupted.
"""


def pages() -> dict[str, str]:
    """Every page's text by its file name."""
    root = app
    assert isinstance(root, TyperGroup)
    found = dict(_commands(root, "ocisync"))
    listed = "".join(
        f".TP\n.BR {_escape(name.replace(' ', '-'))} (1)\n{_escape(summary(command))}\n"
        for name, command in found.items()
    )
    written = {"ocisync.1": _page("ocisync", root) + ".SH COMMANDS\n" + listed + _FILES}
    for name, command in found.items():
        written[f"{name.replace(' ', '-')}.1"] = _page(name, command) + _FILES + ".SH SEE ALSO\n.BR ocisync (1)\n"
    return written


def _commands(group: TyperGroup, prefix: str) -> Iterator[tuple[str, AnyCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{prefix} {name}")
        elif isinstance(command, TyperCommand) and not command.hidden:
            yield f"{prefix} {name}", command


def _page(name: str, command: AnyCommand) -> str:
    context = command.context_class(command, info_name=name, help_option_names=["-h", "--help"])
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH {_escape(name.replace(" ", "-").upper())} 1 "" "ocisync {__version__}"',
        ".SH NAME",
        f"{_escape(name.replace(' ', '-'))} \\- {_escape(summary(command).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_escape(name)}",
        _escape(usage),
        ".SH DESCRIPTION",
    ]
    for paragraph in description(command):
        lines += [".PP", _escape(paragraph)]
    shown = list(parameters(command, context))
    for title in ("Arguments", "Options"):
        if records := [(form, text) for of, form, text in shown if of == title]:
            lines.append(f".SH {title.upper()}")
            lines += [line for form, text in records for line in (".TP", f".B {_escape(form)}", _escape(text))]
    if given := examples(command):
        lines += [".SH EXAMPLES", ".nf", *map(_escape, given), ".fi"]
    return "\n".join(line for line in lines if line) + "\n"


def _escape(text: str) -> str:
    """Roff: a backslash, a hyphen that can be copied, and no line that looks like a request."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("\n", " ")
    return f"\\&{plain}" if plain[:1] in (".", "'") else plain


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
