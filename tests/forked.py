"""Many command lines, each in a child of one process that has ocisync imported: a tenth of the time of a start."""

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
_CHILD = """
import gc, importlib, json, os, pkgutil, sys, time
import ocisync
from ocisync.cli import main
for module in pkgutil.walk_packages(ocisync.__path__, "ocisync."):
    if module.name != "ocisync.__main__":
        importlib.import_module(module.name)
gc.freeze()
for line in sys.stdin:
    arguments, patience = json.loads(line)
    out, err = (os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) for name in ("../out", "../err"))
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0); os.dup2(out, 1); os.dup2(err, 2)
        sys.argv = ["ocisync", *arguments]
        try:
            main()
        except SystemExit as end:
            os._exit(end.code)  # taking down what is imported would be most of the time
    end = time.monotonic() + patience
    while (ended := os.wait4(child, os.WNOHANG))[0] == 0 and time.monotonic() < end:
        time.sleep(0.002)
    if ended[0] == 0:
        os.kill(child, 9); ended = os.wait4(child, 0)
    said = [os.pread(fd, 10_000_000, 0).decode("utf-8", "surrogateescape") for fd in (out, err)]
    os.close(out); os.close(err)
    print(json.dumps([os.waitstatus_to_exitcode(ended[1]), ended[2].ru_maxrss * 1024, *said]), flush=True)
"""


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

    `more` is added to the environment.
    """
    command = [sys.executable, "-c", _CHILD]
    with subprocess.Popen(
        command, cwd=work, env=environment(work, **more), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin, stdout = server.stdin, server.stdout

        def run(*arguments: str, patience: float = PATIENCE) -> Ended:
            stdin.write(json.dumps([arguments, patience]) + "\n")
            stdin.flush()
            return Ended(arguments, *json.loads(stdout.readline()))

        yield run
        stdin.close()
