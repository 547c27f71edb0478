"""Asking a running daemon, over its own listener."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import aiohttp
import anyio

from ocisync.config.load import load_config
from ocisync.config.models import Config
from ocisync.config.units import Address
from ocisync.content.tls import system_context
from ocisync.errors import ConfigError, NetworkError, NotFound, OcisyncError, RegistryError

_TIMEOUT = aiohttp.ClientTimeout(total=30)  # seconds; the daemon answers at once, whatever it works on
_ANSWER = 4096  # bytes of an answer that are shown
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


async def sync_now(file: Path, rules: Sequence[str], part: Mapping[str, str], url: str) -> None:
    """Have a running daemon run rules now, or look at the part of them that a `tag` and a `repository` name.

    Raises:
        ConfigError: a rule cannot be asked for, or the configuration does not tell where or as whom to ask.
        OcisyncError: the daemon cannot be reached, or refuses.
    """
    config = await anyio.to_thread.run_sync(partial(load_config, file, needs_secrets=False))
    _check_rules(config, rules)
    if config.daemon.token is None:
        raise ConfigError(
            f"{file}: the daemon takes no requests without `daemon.token`. Set it, and restart the daemon"
        )
    base = url.rstrip("/") or _own_url(config.daemon.listen, file)
    headers = {"Authorization": f"Bearer {config.daemon.token.get_secret_value()}"}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=system_context() if base.startswith("https:") else True),
        timeout=_TIMEOUT,
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        for rule in rules:
            await _ask(session, f"{base}/v1/sync", {"rule": rule, **part})


def _check_rules(config: Config, rules: Sequence[str]) -> None:
    drops = {rule.name for rule in config.drop}
    syncs = {rule.name: rule.enabled for rule in config.sync}
    for rule in rules:
        if rule in drops:
            raise ConfigError(f"{rule} is a drop rule: the daemon takes what is put into its folder by itself")
        if syncs.get(rule) is False:
            raise ConfigError(f"{rule} is switched off by `enabled: false`; `ocisync once {rule}` runs it all the same")


def _own_url(listen: Address, file: Path) -> str:
    if listen.port == 0:
        raise ConfigError(f"{file}: `daemon.listen` leaves the port to the system. Name the daemon with --url")
    return f"http://{Address(_ANY.get(listen.host, listen.host), listen.port)}"


async def _ask(session: aiohttp.ClientSession, url: str, wish: dict[str, str]) -> None:
    try:
        async with session.post(url, json=wish, allow_redirects=False) as reply:
            if reply.status != 202:
                raise _refusal(reply.status, (await reply.content.read(_ANSWER)).decode(errors="replace"), url)
    except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as exc:
        reason = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc)
        raise NetworkError(
            f"{url}: no daemon answers: {reason}. Is it running (systemctl status ocisync)? Is --url right?"
        ) from exc


def _refusal(status: int, text: str, url: str) -> OcisyncError:
    told = " ".join(text.split())
    if status == 404:
        return NotFound(f"{told}. Was the daemon reloaded since the rule was written? SIGHUP does it")
    if status == 401:
        return RegistryError(
            f"{url}: the token is not the daemon's. Was it changed? Then restart the daemon", code="auth.denied"
        )
    return RegistryError(f"{url}: the daemon refused with status {status}: {told}")
