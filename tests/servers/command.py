"""The command line as a user has it: a child process."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from time import monotonic
from typing import IO

import yaml

from . import forks
from .client import Reply, fetch
from .process import Child

_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
_NO_AWS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_ROOT = Path(__file__).parents[2]
_SERVED = re.compile(r"url=(http://[^/]+)/v2/")


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    def expect(self, code: int = 0) -> "Finished":
        """Itself, when the exit status is this one; else an error with what it said."""
        if self.code != code:
            raise RuntimeError(f"exit {self.code}, not {code}:\n{self.stdout[-3000:]}\n{self.stderr[-3000:]}")
        return self


def run_ocisync(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
    stdin: str = "",
    is_fork: bool = True,
) -> Finished:
    """Run `ocisync` to its end, without the user's docker credentials; blocking, `timeout` in seconds.

    Not a fork, but a process of its own, is for tests that look at the start.
    """
    return run_module("ocisync", *arguments, env=env, cwd=cwd, timeout=timeout, stdin=stdin, is_fork=is_fork)


def run_module(
    module: str,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
    stdin: str = "",
    is_fork: bool = True,
) -> Finished:
    """As `run_ocisync`, for any module."""
    with TemporaryDirectory() as folder, _file() as out, _file() as err:
        began = monotonic()
        start = forks.start if is_fork else subprocess.Popen
        with _pipe(stdin) as given:
            process: forks.Process = start(
                _command(arguments, module), stdin=given, stdout=out, stderr=err, env=_environment(env, folder), cwd=cwd
            )
        try:
            code = process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = monotonic() - began
        out.seek(0)
        err.seek(0)
        return Finished(code, out.read(), err.read(), seconds)


@contextmanager
def started(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    module: str = "ocisync",
    is_fork: bool = True,
) -> Iterator[Child]:
    """`ocisync`, or another module, as a child that runs on; killed at the block's end when it has not ended.

    Not a fork, but a process of its own, is for tests that look at its memory or its start.
    """
    with TemporaryDirectory() as folder:
        start = forks.start if is_fork else subprocess.Popen
        child = Child(_command(arguments, module), Path(folder), _environment(env, folder), cwd, start)
        try:
            yield child
        finally:
            child.kill()


@contextmanager
def served(place: str | Path, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """`ocisync serve PLACE`; its URL, without a slash at the end."""
    with started("serve", place, "--listen", "127.0.0.1:0", env=env) as child:
        found = child.wait_until(lambda: _SERVED.search(child.output), "ocisync serve to listen")
        yield found[1]


@dataclass(slots=True)
class Daemon:
    """A running `ocisync run`."""

    child: Child
    url: str

    @property
    def pid(self) -> int:
        """For signals."""
        return self.child.process.pid

    @property
    def log(self) -> str:
        """Everything it wrote so far."""
        return self.child.output

    def get(self, path: str) -> Reply:
        """GET from its own listener."""
        return fetch("GET", self.url + path)

    def ready(self) -> bool:
        """Whether /readyz says so."""
        with suppress(OSError):
            return self.get("/readyz").status == 200
        return False


@contextmanager
def daemon(
    config: Path,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    ready: bool = True,
    exit_code: int | None = 0,
    timeout: float = 40,
    is_fork: bool = True,
) -> Iterator[Daemon]:
    """`ocisync run -c config`, ready, in the configuration's folder; SIGTERM at the block's end.

    The configuration's `daemon.listen` names the port (see `process.free_port`). The exit status must then be
    `exit_code` (None: any, as after a kill); `timeout` is for start and stop each, in seconds. With `ready=False`
    nothing is waited for.
    """
    listen = yaml.safe_load(config.read_text())["daemon"]["listen"]
    with TemporaryDirectory() as folder:
        command = _command(("run", "-c", config.absolute(), *arguments))
        start = forks.start if is_fork else subprocess.Popen
        child = Child(command, Path(folder), _environment(env, folder), config.resolve().parent, start)
        started = Daemon(child, f"http://{listen}")
        try:
            if ready:
                child.wait_until(started.ready, "the daemon to be ready", timeout)
            yield started
        except BaseException:
            child.kill()
            raise
        code = child.stop(timeout)
        if exit_code is not None and code != exit_code:
            raise RuntimeError(f"the daemon ended with {code}, not {exit_code}: {child.output[-3000:]}")


def _file() -> IO[str]:
    return TemporaryFile("w+", encoding="utf-8", errors="replace")


@contextmanager
def _pipe(text: str) -> Iterator[int]:
    """What reads the text; it has to fit the pipe."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        given = text.encode()
        assert os.write(writer, given) == len(given), "too long for a pipe"
        os.close(writer)
        yield reader
    finally:
        os.close(reader)


def _command(arguments: tuple[str | Path, ...], module: str = "ocisync") -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def _environment(given: Mapping[str, str] | None, folder: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    clean = {"DOCKER_CONFIG": folder, "PYTHONPATH": str(_ROOT), "PYTHONWARNINGS": "default", "NO_COLOR": "1"}
    return kept | clean | _NO_AWS | dict(given or {})
