"""What commands print: renderings that several commands share, and the way to the terminal.

Names, messages and manifests come from registries, archives and file names, and a user may type a password into a URL.
So all that a command prints goes through `show`, `warn` and `show_json`, which clean it with `logs.clean`, the same as
for the log: no control character steers a terminal, and no secret is shown. Only `show_raw` prints bytes as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress

from ocisync.model.text.quantities import time_text


class OutputFailed(Exception):
    """Standard output cannot be written, or nobody reads it any more, as behind `head`."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def show(text: str, end: str = "\n") -> None:
    """Print the result of a command, cleaned.

    Raises:
        OutputFailed: it cannot be printed; this holds for the two functions below, too.
    """
    from ocisync.logs import clean  # structlog is no part of the start of `--help`

    _write(clean(text) + end)


def show_json(document: object) -> None:
    """Print JSON for machines; every text in it is cleaned, because it may end on a terminal all the same."""
    from pydantic_core import to_json

    from ocisync.logs import clean_document

    cleaned = clean_document(document)
    raw = to_json(cleaned, indent=2)  # json takes long for indented text; but this leaves letters as they are
    _write((raw.decode() if raw.isascii() else json.dumps(cleaned, indent=2)) + "\n")


def show_raw(data: bytes) -> None:
    """Print bytes as they are, for a file or a pipe."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as exc:
        raise OutputFailed(exc) from exc


def warn(text: str) -> None:
    """Print a failure, a warning or progress to standard error, cleaned; it is lost where that cannot be written."""
    from ocisync.logs import clean

    with suppress(OSError):
        print(clean(text), file=sys.stderr, flush=True)


def _write(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except OSError as exc:
        raise OutputFailed(exc) from exc


def local_time(moment: float | None) -> str:
    """Seconds since the epoch as local time, or "never"."""
    return "never" if moment is None else time_text(moment, is_local=True)


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns padded to their widest cell; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def printable(text: object) -> str:
    """Text that came from outside, without control characters that could move a terminal's cursor."""
    return "".join(char if char.isprintable() else "?" for char in str(text))


def counted(number: int, noun: str) -> str:
    """A number and its noun, in the singular or plural."""
    if number == 1:
        return f"{number} {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"
