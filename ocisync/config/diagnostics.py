"""What is wrong with a configuration, where, and how it is told."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from ocisync.errors import ConfigError

KeyPath: TypeAlias = "tuple[str | int, ...]"
ConfigFinding: TypeAlias = "tuple[KeyPath, str]"  # where, and what to do about it
MAX_SHOWN = 200  # problems listed in one error

_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake: its line (from 1), its place, and what to do about it."""

    line: int
    path: KeyPath
    message: str

    def format(self, file: str) -> str:
        """`FILE:LINE: path.to.key: what is wrong. What to do`."""
        place = f"{show_path(self.path)}: " if self.path else ""
        return f"{file}:{self.line}: {place}{self.message}"


class InvalidConfig(ConfigError):
    """A configuration with problems, which it carries."""

    problems: tuple[Problem, ...] = ()


def make_config_error(file: str, problems: Iterable[Problem]) -> InvalidConfig:
    """One error that lists every problem, by line."""
    ordered = sorted(set(problems), key=lambda problem: (problem.line, show_path(problem.path), problem.message))
    told = [problem.format(file) for problem in ordered]
    if len(told) > MAX_SHOWN:
        told[MAX_SHOWN:] = [f"… and {len(told) - MAX_SHOWN} more"]
    error = InvalidConfig("\n".join(told), file=file, problems=len(ordered))
    error.problems = tuple(ordered)
    return error


def show_path(path: KeyPath) -> str:
    """`sync[0].tags.allow`, and `registries[docker.io].password` where a key is not a plain word."""
    shown = ""
    for key in path:
        if isinstance(key, str) and _SIMPLE_KEY.match(key):
            shown += f".{key}" if shown else key
        else:
            shown += f"[{str(key)[:100]}]"
    return shown


def find_suggestion(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    by_folded = {_fold(name): name for name in known}
    close = difflib.get_close_matches(_fold(word), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def suggest(word: str, known: Iterable[str]) -> str:
    """`: did you mean "x"?`, else `. Known: a, b, c`."""
    names = list(known)
    guess = find_suggestion(word, names)
    if guess:
        return f': did you mean "{guess}"?'
    return f". Known here: {', '.join(names)}" if names else ""


def _fold(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")
