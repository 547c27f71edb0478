"""Many command lines, each in a child of one process that has ocisync imported, or in that process itself.

A child takes a tenth of the time of a start, and the process itself a tenth of that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 60.0  # seconds
_SERVER = Path(__file__).with_name("command_server.py")


@dataclass(frozen=True, slots=True)
class Ended:
    """A command line, and what became of it."""

    arguments: Sequence[str]
    code: int
    peak: int  # bytes
    stdout: str
    stderr: str


Run = Callable[..., Ended]


def environment(work: Path, **more: str) -> dict[str, str]:
    """What command lines in a folder see of the environment; `more` is added."""
    return {"HOME": str(work.parent / "home"), "PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true", **more}


@contextmanager
def command_runner(work: Path, **more: str) -> Iterator[Run]:
    """Runs command lines in a folder, one after the other; its output goes to files beside the folder.

    With `is_inside` a command runs in the process that the others are children of: the next one meets what it leaves
    behind there. `more` is added to the environment.
    """
    command = [sys.executable, "-P", str(_SERVER)]
    with subprocess.Popen(
        command, cwd=work, env=environment(work, **more), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin, stdout = server.stdin, server.stdout

        def run(*arguments: str, patience: float = PATIENCE, is_inside: bool = False) -> Ended:
            stdin.write(json.dumps([arguments, patience, is_inside]) + "\n")
            stdin.flush()
            answer = stdout.readline()
            if not answer:
                raise RuntimeError(f"{arguments!r} ended the process, by its defect or because it hung")
            return Ended(arguments, *json.loads(answer))

        yield run
        stdin.close()
