"""`python -m MODULE`, forked from a process that has ocisync imported: most of the CPU time of a start is spared."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from .fork_server import LONGEST

_ROOT = Path(__file__).parents[2]
_AT_START = ("PYTHON", "LANG", "LC_", "TERM", "COLUMNS", "FORCE_COLOR", "_OCISYNC")  # read when things are imported
_KEPT = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
_ENV = _KEPT | {"PYTHONPATH": str(_ROOT), "PYTHONWARNINGS": "default", "NO_COLOR": "1"}


class Process(Protocol):
    """What the tests use of `subprocess.Popen`."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """The exit status, when it ended."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; `timeout` in seconds."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, when it has not ended."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


class Fork:
    """A forked process, with what tests use of `subprocess.Popen`."""

    def __init__(self, command: Sequence[str], told: int) -> None:
        self._command, self._told = command, told
        self.returncode: int | None = None
        self.pid = self._read()

    def poll(self) -> int | None:
        """The exit status, when it ended."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; `timeout` in seconds."""
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._told, select.POLLIN)
            if not ended.poll(None if timeout is None else max(0, timeout) * 1000):
                raise subprocess.TimeoutExpired(self._command, timeout or 0)
            self.returncode = self._read()
            os.close(self._told)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal, when it has not ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _read(self) -> int:
        number = os.read(self._told, 8)
        if not number:
            raise RuntimeError("the process that others are forked from is gone")
        return int.from_bytes(number, "little", signed=True)


class _Server:
    """The process that others are forked from, and the way to ask it."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.servers.fork_server"]
        with theirs:
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), env=_ENV)
        atexit.register(self._end)

    def fork(self, command: Sequence[str], streams: Sequence[int], env: Mapping[str, str], cwd: str) -> Fork:
        """A process that runs a module; its streams are standard input, output and error."""
        _, _, module, *arguments = command
        request = json.dumps({"module": module, "arguments": arguments, "env": dict(env), "cwd": cwd}).encode()
        told, tell = os.pipe()
        try:
            socket.send_fds(self._requests, [request], [*streams, tell])
        finally:
            os.close(tell)
        return Fork(command, told)

    def _end(self) -> None:
        self._requests.close()
        self._process.wait()


_SERVERS: list[_Server] = []  # none, or the one
_LOCK = threading.Lock()


def start(
    command: Sequence[str],
    stdin: IO[bytes] | IO[str] | int,
    stdout: IO[bytes] | IO[str],
    stderr: IO[bytes] | IO[str],
    env: Mapping[str, str],
    cwd: str | Path | None = None,
) -> Process:
    """Run `python -m MODULE`, as `subprocess.Popen` does, which is asked where the start itself would read `env`."""
    is_large = sum(map(len, (*command, *env, *env.values()))) > LONGEST // 8
    if is_large or any(name.startswith(_AT_START) and _ENV.get(name) != env[name] for name in env):
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd)
    with _LOCK:
        server = _SERVERS[0] if _SERVERS else _Server()
        _SERVERS[:] = [server]
    with Path(os.devnull).open("rb") as nothing:
        source = nothing if stdin == subprocess.DEVNULL else stdin
        streams = [one if isinstance(one, int) else one.fileno() for one in (source, stdout, stderr)]
        return server.fork(command, streams, env, str(cwd or Path.cwd()))
