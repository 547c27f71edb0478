"""Debian's docker-registry (distribution 2.8) as a child process."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .client import RegistryClient, fetch
from .process import Child, wait_for
from .tls import Certificate

USERNAME, PASSWORD = "tester", "open-sesame"
_HTPASSWD = "tester:$2b$05$abcdefghijklmnopqrstuutXu9KzOt.1yBoZUeFWoT/914/JfszCO\n"  # bcrypt of PASSWORD
_ACCESS = re.compile(
    r'^\S+ - \S+ \[[^\]]+\] "(?P<method>\S+) (?P<path>\S+) \S+" (?P<status>\d+) (?P<size>\d+)', re.MULTILINE
)
_LISTENS = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
_MARK = "/v2/?mark="


@dataclass(frozen=True, slots=True)
class Access:
    """One line of the access log; `size` is the reply's body in bytes."""

    method: str
    path: str
    status: int
    size: int


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """Where the registry sends clients for a token, and whose signature it believes."""

    realm: str
    service: str
    issuer: str
    authority: Path


class DockerRegistry:
    """A registry that can be stopped and started again, on the same port and storage."""

    program = "docker-registry"

    def __init__(
        self,
        folder: Path,
        *,
        basic: bool = False,
        tls: Certificate | None = None,
        token: TokenAuth | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.folder = folder
        self.storage = folder / "storage"
        self.authority = tls.authority if tls else None
        self._basic, self._tls, self._token = basic, tls, token
        self._settings = dict(settings or {})
        self._child: Child | None = None
        self._marks = 0
        self.port = 0

    @property
    def host(self) -> str:
        """`127.0.0.1:port`, as a reference begins."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The origin, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def client(self) -> RegistryClient:
        """A client with the registry's credentials, when it wants some."""
        secret = self._basic or self._token
        return RegistryClient(self.url, *((USERNAME, PASSWORD) if secret else ("", "")), authority=self.authority)

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "config.json"  # JSON is YAML
        config.write_text(json.dumps(self._config()))
        self._child = child = Child([self.program, "serve", config], self.folder)
        if not self.port:
            found = child.wait_until(lambda: _LISTENS.search(child.output), "docker-registry to listen")
            self.port = int(found[1])
        child.wait_until(self._answers, "docker-registry to answer")

    def stop(self) -> None:
        """Stop; the port refuses connections until the next start."""
        if self._child:
            self._child.stop()

    def requests(self) -> list[Access]:
        """Every request answered so far, in the order of their ends.

        The log's line follows the reply, so a marked request is sent and waited for; marks are left out.
        """
        self._marks += 1
        mark = f"{_MARK}{self._marks} "
        self.client.request("GET", mark.strip())
        text = wait_for(lambda: self._log_with(mark), "the access log")
        found = (Access(m["method"], m["path"], int(m["status"]), int(m["size"])) for m in _ACCESS.finditer(text))
        return [access for access in found if not access.path.startswith(_MARK)]

    def _answers(self) -> bool:
        with suppress(OSError):
            return fetch("GET", f"{self.url}/v2/", authority=self.authority).status in (200, 401)
        return False

    def _log_with(self, mark: str) -> str | None:
        text = (self.folder / "stdout.log").read_text()
        return text if mark in text else None

    def _config(self) -> dict[str, object]:
        listener: dict[str, object] = {"addr": f"127.0.0.1:{self.port}", "secret": "not-a-secret"}
        if self._tls:
            listener["tls"] = {"certificate": str(self._tls.certificate), "key": str(self._tls.key)}
        storage = {
            "filesystem": {"rootdirectory": str(self.storage)},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
            "maintenance": {"uploadpurging": {"enabled": False}},
        }
        log = {"level": "info", "accesslog": {"disabled": False}}
        return {"version": "0.1", "log": log, "storage": storage, "http": listener, **self._auth(), **self._settings}

    def _auth(self) -> dict[str, object]:
        if self._basic:
            htpasswd = self.folder / "htpasswd"
            htpasswd.write_text(_HTPASSWD)
            return {"auth": {"htpasswd": {"realm": "tests", "path": str(htpasswd)}}}
        if self._token:
            facts = {name: getattr(self._token, name) for name in ("realm", "service", "issuer")}
            return {"auth": {"token": facts | {"rootcertbundle": str(self._token.authority)}}}
        return {}


@contextmanager
def docker_registry(
    folder: Path,
    *,
    basic: bool = False,
    tls: Certificate | None = None,
    token: TokenAuth | None = None,
    settings: Mapping[str, object] | None = None,
) -> Iterator[DockerRegistry]:
    """A running registry; `settings` are merged over the configuration's top level."""
    registry = DockerRegistry(folder, basic=basic, tls=tls, token=token, settings=settings)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
