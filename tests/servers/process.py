"""Run servers as child processes, on loopback ports that the system picks."""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TypeVar

from .forks import Process

_T = TypeVar("_T")
_PAUSE = threading.Event()  # never set: waiting on it is the pause between two looks


def wait_for(look: Callable[[], _T | None], what: str, timeout: float = 30) -> _T:
    """Look again and again until there is something true to see; `timeout` in seconds.

    Raises:
        TimeoutError: nothing came; says what was waited for.
    """
    deadline = monotonic() + timeout
    while monotonic() < deadline:
        if seen := look():
            return seen
        _PAUSE.wait(0.02)
    raise TimeoutError(f"waited {timeout:g} s in vain for {what}")


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Whether something accepts connections on the loopback port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Child:
    """A child process whose output goes to files, so that it can never block on a full pipe."""

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        start: Callable[..., Process] = subprocess.Popen,
    ) -> None:
        self.stdout = folder / "stdout.log"
        self.stderr = folder / "stderr.log"
        with self.stdout.open("ab") as out, self.stderr.open("ab") as err:
            self.process: Process = start(
                list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd=cwd
            )

    @property
    def output(self) -> str:
        """Everything written so far, standard output first."""
        return "".join(path.read_text("utf-8", "replace") for path in (self.stdout, self.stderr))

    def wait_until(self, ready: Callable[[], _T | None], what: str, timeout: float = 30) -> _T:
        """As `wait_for`, but a child that ends is an error at once, with its last output."""

        def look() -> _T | None:
            if self.process.poll() is not None:
                raise RuntimeError(f"{what}: exit {self.process.returncode}: {self.output[-3000:]}")
            return ready()

        try:
            return wait_for(look, what, timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.output[-3000:]}") from None

    def stop(self, timeout: float = 20) -> int:
        """Terminate, after `timeout` seconds kill; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def kill(self) -> None:
        """End at once, as a crash does."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running(command: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Child]:
    """A child process with nothing worth keeping, so it is killed at the block's end."""
    child = Child(command, folder, env)
    try:
        yield child
    finally:
        child.kill()
