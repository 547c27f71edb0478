"""Credentials and trust that a command line gives for the registries it names: they go before the configuration."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.streams.tls
from pydantic import SecretStr

from ocisync.config.load import load_config
from ocisync.config.models import Config
from ocisync.config.sections.registries import Registry
from ocisync.errors import ConfigError, InvalidName
from ocisync.logs import register_secret
from ocisync.model.locator import parse_locator, registry_image

_PATIENCE = 10.0  # seconds for one look whether a host speaks TLS


@dataclass(frozen=True, slots=True)
class HostAccess:
    """How one side of a copy, or the only one, is talked to; nothing given: as the configuration says."""

    creds: str = ""  # USER:PASSWORD
    tls_verify: bool | None = None

    def __bool__(self) -> bool:
        return bool(self.creds) or self.tls_verify is not None


def hosts_of(texts: Iterable[str], access: HostAccess) -> dict[str, HostAccess]:
    """The registries that locators name, each with the access of their side; other places need none."""
    return {host: access for text in texts if access and (host := _host_of(text))}


def join_hosts(source: Mapping[str, HostAccess], destination: Mapping[str, HostAccess]) -> dict[str, HostAccess]:
    """Both sides' hosts.

    Raises:
        ConfigError: one host is on both sides, with different access.
    """
    for host in source.keys() & destination.keys():
        if source[host] != destination[host]:
            raise ConfigError(f"{host} is source and destination: give it one login, by --creds and --tls-verify")
    return {**source, **destination}


async def apply_access(file: Path | None, hosts: Mapping[str, HostAccess], authfile: Path | None) -> Config:
    """The configuration, or an empty one, changed for these hosts.

    Raises:
        ConfigError: the credentials are not USER:PASSWORD, or the file of credentials is not there.
    """
    config = await anyio.to_thread.run_sync(_load, file)
    registries = dict(config.registries)
    for host, access in hosts.items():
        registries[host] = registries.get(host, Registry()).model_copy(update=await _changes(host, access))
    defaults = config.defaults
    if authfile is not None:
        if not await anyio.Path(authfile).is_file():
            raise ConfigError(f"--authfile {authfile}: there is no such file; `ocisync login --authfile` makes one")
        defaults = defaults.model_copy(update={"docker_config": authfile})
        registries = {host: one.model_copy(update={"docker_config": authfile}) for host, one in registries.items()}
    return config.model_copy(update={"registries": registries, "defaults": defaults})


def _load(file: Path | None) -> Config:
    return load_config(file, needs_secrets=False) if file else Config(version=1)


async def _changes(host: str, access: HostAccess) -> dict[str, object]:
    changes: dict[str, object] = {}
    if access.creds:
        name, colon, password = access.creds.partition(":")
        register_secret(password)
        if not (name and colon and password):
            raise ConfigError("--creds: expected USER:PASSWORD")
        changes |= {"username": name, "password": SecretStr(password)}
        changes |= {"identity_token": None, "credential_helper": None, "ecr": None}
    if access.tls_verify is True:
        changes |= {"insecure_skip_verify": False, "plain_http": False}
    if access.tls_verify is False:
        changes |= {"insecure_skip_verify": True, "plain_http": not await _speaks_tls(host)}
    return changes


async def _speaks_tls(host: str) -> bool:
    """Whether a host answers by TLS, with whatever certificate; also where that cannot be found out."""
    name, _, port = host.rpartition(":") if host.rpartition(":")[2].isdecimal() else (host, "", "443")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with anyio.move_on_after(_PATIENCE):
        try:
            stream = await anyio.connect_tcp(name.strip("[]"), int(port))
        except OSError:
            return True  # nobody is there, which the first request will say
        try:
            await anyio.streams.tls.TLSStream.wrap(stream, server_side=False, hostname=name, ssl_context=context)
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream):  # an SSLError is an OSError
            return False
        finally:
            await anyio.aclose_forcefully(stream)
    return True


def _host_of(text: str) -> str:
    if not text.startswith("docker://"):
        return ""
    try:
        image = registry_image(parse_locator(text))
    except InvalidName:  # the root of a registry, or an error that the command itself will tell
        return text.removeprefix("docker://").partition("/")[0]
    return image.host if image else ""
