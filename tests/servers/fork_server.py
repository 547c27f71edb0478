"""Runs modules, each in a child of this process, which has ocisync imported: the other end of forks.py."""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from typing import Any, NoReturn

import ocisync
from ocisync.content import failpoints

LONGEST = 100_000  # bytes of a request


class Server:
    """Starts what a socket asks for.

    A request is JSON with four descriptors: the child's standard input, output and error, and a pipe that is told the
    child's number and, when it ended, its exit status.
    """

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._running: dict[int, tuple[int, int]] = {}  # descriptor of a child -> its number, and the pipe to tell
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until the socket's other end is closed."""
        while True:
            for key, _ in self._selector.select():
                if key.fd in self._running:
                    self._tell_end(key.fd)
                    continue
                request, descriptors, _, _ = socket.recv_fds(self._requests, LONGEST, 4)
                if not request:
                    return
                self._start(descriptors, json.loads(request))

    def _start(self, descriptors: list[int], request: dict[str, Any]) -> None:
        *streams, pipe = descriptors
        importlib.import_module(request["module"])  # and what it imports, once for all
        if (pid := os.fork()) == 0:
            pipes = [other for _, other in self._running.values()]
            for inherited in (self._selector.fileno(), self._requests.fileno(), *self._running, *pipes, pipe):
                os.close(inherited)
            _become(streams, **request)
        for stream in streams:
            os.close(stream)
        _write(pipe, pid)
        child = os.pidfd_open(pid)
        self._running[child] = pid, pipe
        self._selector.register(child, selectors.EVENT_READ)

    def _tell_end(self, child: int) -> None:
        self._selector.unregister(child)
        os.close(child)
        pid, pipe = self._running.pop(child)
        _write(pipe, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os.close(pipe)


def _import_all() -> None:
    for module in pkgutil.walk_packages(ocisync.__path__, "ocisync."):
        if module.name != "ocisync.__main__":
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()


def _write(pipe: int, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody wants to know
        os.write(pipe, number.to_bytes(8, "little", signed=True))


def _become(streams: list[int], module: str, arguments: list[str], env: dict[str, str], cwd: str) -> NoReturn:
    """Be the process that `python -m module arguments` would be; taking down what is imported is spared."""
    code: object = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
        tempfile.tempdir = None  # it, and what is reloaded, depend on the environment
        importlib.reload(failpoints)
        sys.argv = [module, *arguments]
        if "." in module:
            del sys.modules[module]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as exc:
        code = exc.code or 0
    except BaseException:  # noqa: BLE001 (as the interpreter does at its end)
        sys.excepthook(*sys.exc_info())
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream_out in (sys.stdout, sys.stderr):
        stream_out.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the tests end their children themselves
    _import_all()
    with socket.socket(fileno=os.dup(0)) as requests:
        Server(requests).serve()
