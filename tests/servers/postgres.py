"""Debian's PostgreSQL as a child process: one cluster per run, a database per test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

from .process import free_port, wait_for

PASSWORD = "not-a-secret-in-tests"
_FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=200", "shared_buffers=32MB")


class Postgres:
    """A cluster that can be stopped, killed and started again, on the same port and data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self._names = count(1)

    def database(self) -> str:
        """The connection string of a new, empty database."""
        name = f"test{next(self._names)}"
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self._dsn(name)

    def initialise(self) -> None:
        """Make the cluster."""
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(password, "postgres")
            shutil.chown(self.folder, "postgres")
        command: list[str | Path] = [
            _program("initdb"),
            "-D",
            self.folder / "data",
            "-U",
            "ocisync",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        command += ["--auth=scram-sha-256", f"--pwfile={password}", "--locale=C"]
        subprocess.run(command, check=True, capture_output=True, user=_user(), group=_user(), cwd=self.folder)

    def start(self) -> None:
        """Start, and wait until it answers."""
        settings = [part for setting in _FAST for part in ("-c", setting)]
        command: list[str | Path] = [_program("postgres"), "-D", self.folder / "data", "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [*command, "-h", "127.0.0.1", "-k", self.folder, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=_user(),
                group=_user(),
                cwd=self.folder,
            )
        wait_for(self._answers, f"PostgreSQL: {(self.folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """Stop at once and orderly; connections are cut."""
        if self._server:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(30)

    def _dsn(self, database: str) -> str:
        return f"postgresql://ocisync:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._dsn("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running cluster in a folder of its own: the user that runs it must be able to enter the folder."""
    folder = Path(tempfile.mkdtemp(prefix="ocisync-postgres-"))
    server = Postgres(folder)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> str | None:
    return "postgres" if os.getuid() == 0 else None


def _program(name: str) -> Path:
    """Debian keeps the server's programs outside PATH, in a folder per version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    if not found:
        raise FileNotFoundError(f"PostgreSQL's {name} is not in /usr/lib/postgresql: apt-get install postgresql")
    return found[-1]
