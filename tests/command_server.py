"""Runs command lines of ocisync that come as lines of JSON, in children of this process or in it: tests/forked.py."""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import ocisync
from ocisync.cli import main

_CLEAN_EVERY = 50  # commands


def run_inside(arguments: Sequence[str], patience: float, out: int, err: int) -> tuple[int, int]:
    """Run a command in this very process; one that hangs ends it, which is seen at the other side."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    kept = [os.dup(fd) for fd in (1, 2)]
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.argv = ["ocisync", *arguments]
    signal.alarm(int(patience))
    code: object = 99
    try:
        main()
    except SystemExit as exc:
        code = exc.code
    except BaseException:  # noqa: BLE001 (it is told as what it is)
        traceback.print_exc()
    signal.alarm(0)
    sys.stdout.flush()
    sys.stderr.flush()
    for fd, old in zip((1, 2), kept, strict=True):
        os.dup2(old, fd)
        os.close(old)
    status = Path("/proc/self/status").read_text()
    return code if isinstance(code, int) else 0, int(status.partition("VmHWM:")[2].split()[0]) * 1024


def run_child(arguments: Sequence[str], patience: float, out: int, err: int) -> tuple[int, int]:
    """Run a command in a child of this process; one that hangs is killed."""
    child = os.fork()
    if child == 0:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.argv = ["ocisync", *arguments]
        try:
            main()
        except SystemExit as exc:
            os._exit(exc.code if isinstance(exc.code, int) else 0)  # to take down what is imported takes long
    end = time.monotonic() + patience
    while (ended := os.wait4(child, os.WNOHANG))[0] == 0 and time.monotonic() < end:
        time.sleep(0.002)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        ended = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(ended[1]), ended[2].ru_maxrss * 1024


def serve() -> None:
    """Answer each line with the exit status, the peak of memory and what was said."""
    for module in pkgutil.walk_packages(ocisync.__path__, "ocisync."):
        if module.name != "ocisync.__main__":
            importlib.import_module(module.name)
    gc.freeze()
    with os.fdopen(os.dup(0)) as requests, os.fdopen(os.dup(1), "w") as answers:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, line in enumerate(requests, 1):
            if number % _CLEAN_EVERY == 0:  # a command freezes what it leaves
                gc.unfreeze()
                gc.collect()
                gc.freeze()
            arguments, patience, is_inside = json.loads(line)
            out, err = (os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) for name in ("../out", "../err"))
            ended = (run_inside if is_inside else run_child)(arguments, patience, out, err)
            said = [os.pread(fd, 10_000_000, 0).decode("utf-8", "surrogateescape") for fd in (out, err)]
            os.close(out)
            os.close(err)
            print(json.dumps([*ended, *said]), file=answers, flush=True)


if __name__ == "__main__":
    serve()
