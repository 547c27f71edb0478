"""Asking a running daemon, over its own listener."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import anyio

from ocisync.config.load import load_config
from ocisync.config.models import Config
from ocisync.config.parsers import Address
from ocisync.content.network.tls import system_context
from ocisync.errors import ConfigError, LimitExceeded, NetworkError, NotFound, OcisyncError, RegistryError
from ocisync.logs import clean_document
from ocisync.model.text.outside_json import load_json

_TIMEOUT = aiohttp.ClientTimeout(total=30)  # seconds; the daemon answers at once, whatever it works on
_ANSWER = 4096  # bytes of an answer that are shown
_LONGEST = 64 * 1024 * 1024  # bytes of a status
_CHUNK = 256 * 1024  # bytes
_LOOK = 0.5  # seconds between two looks at what was asked for
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class DaemonClient:
    """Asks one daemon."""

    session: aiohttp.ClientSession
    url: str

    async def status(self) -> dict[str, Any]:
        """What it tells of itself, its texts cleaned: not every server at a given URL is a daemon of ours.

        Raises:
            OcisyncError: it does not answer, or with something else.
        """
        try:
            async with self.session.get(f"{self.url}/v1/status", allow_redirects=False) as reply:
                body = bytearray()
                async for chunk in reply.content.iter_chunked(_CHUNK):
                    body += chunk
                    if len(body) > _LONGEST:
                        raise LimitExceeded(f"{self.url}: the answer has more than {_LONGEST} bytes")
                if reply.status != 200:
                    raise _refusal(reply.status, body[:_ANSWER].decode(errors="replace"), self.url)
                found = clean_document(load_json(bytes(body)))
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError, RecursionError) as exc:
            raise _unreachable(self.url, exc) from exc
        if not isinstance(found, dict) or not isinstance(found.get("rules"), dict):
            raise RegistryError(f"{self.url}: this is not an answer of an ocisync daemon. Is the address right?")
        return found

    async def ask(self, wish: Mapping[str, str]) -> None:
        """Have it run a rule, or look at a part of it; raises as `status` does."""
        url = f"{self.url}/v1/sync"
        try:
            async with self.session.post(url, json=dict(wish), allow_redirects=False) as reply:
                if reply.status != 202:
                    raise _refusal(reply.status, (await reply.content.read(_ANSWER)).decode(errors="replace"), url)
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as exc:
            raise _unreachable(url, exc) from exc


@asynccontextmanager
async def open_client(file: Path, url: str, rules: Sequence[str] | None = None) -> AsyncIterator[DaemonClient]:
    """A client of the daemon with this configuration, or of the one at `url`; with `rules`, one that may ask for them.

    Raises:
        ConfigError: a rule cannot be asked for, or the configuration does not tell where or as whom to ask.
    """
    config = await anyio.to_thread.run_sync(partial(load_config, file, needs_secrets=False))
    headers = {}
    if rules is not None:
        _check_rules(config, rules)
        if config.daemon.token is None:
            raise ConfigError(
                f"{file}: the daemon takes no requests without `daemon.token`. Set it, and restart the daemon"
            )
        headers["Authorization"] = f"Bearer {config.daemon.token.get_secret_value()}"
    base = url.rstrip("/") or _own_url(config.daemon.listen, file)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=system_context() if base.startswith("https:") else True),
        timeout=_TIMEOUT,
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield DaemonClient(session, base)


async def sync_now(
    file: Path,
    rules: Sequence[str],
    part: Mapping[str, str],
    url: str,
    watch: Callable[[Mapping[str, Any]], None] | None = None,
) -> Mapping[str, str]:
    """Have a running daemon run rules now, or look at the part of them that a `tag` and a `repository` name.

    With `watch`, wait until they ended; it is called with the daemon's status from time to time. Rule -> why it failed,
    for those that did.

    Raises:
        ConfigError: a rule cannot be asked for, or the configuration does not tell where or as whom to ask.
        OcisyncError: the daemon cannot be reached, or refuses.
    """
    async with open_client(file, url, rules) as client:
        since = float((await client.status())["now"]) if watch else 0.0
        for rule in rules:
            await client.ask({"rule": rule, **part})
        if watch is None:
            return {}
        while True:
            found = await client.status()
            if found["now"] <= since:  # from before it was asked
                await anyio.sleep(_LOOK)
                continue
            watch(found)
            if gone := [rule for rule in rules if rule not in found["rules"]]:
                raise NotFound(f"{gone[0]}: the daemon has no such rule any more")
            if not any(_is_under_way(found, rule, since, is_part=bool(part)) for rule in rules):
                return {rule: why for rule in rules if (why := _find_failure(found, rule, since))}
            await anyio.sleep(_LOOK)


def _is_under_way(found: Mapping[str, Any], rule: str, since: float, *, is_part: bool) -> bool:
    view = found["rules"][rule]
    has_ended = max(view["last_success"] or 0.0, view["last_failure"] or 0.0) >= since
    is_busy = view["running"] or view["wanted"] or found["queue"]["by_rule"].get(rule)
    is_busy = is_busy or any(job["rule"] == rule for job in found["jobs"])
    return bool(is_busy or not (has_ended or is_part))


def _find_failure(found: Mapping[str, Any], rule: str, since: float) -> str:
    """Why a rule, or the part of it that was asked for, failed since a moment."""
    view = found["rules"][rule]
    if view["code"] and (view["last_failure"] or 0.0) >= since:
        return f"{view['message']} [{view['code']}]"
    failures = (one for one in found["failures"] if one["rule"] == rule and one["at"] >= since)
    return next((f"{one['what']}: {one['message']} [{one['code']}]" for one in failures), "")


def _unreachable(url: str, error: Exception) -> NetworkError:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return NetworkError(
        f"{url}: no daemon answers: {reason}. Is it running (systemctl status ocisync)? Is --url right?"
    )


def _check_rules(config: Config, rules: Sequence[str]) -> None:
    drops = {rule.name for rule in config.drop}
    syncs = {rule.name: rule.enabled for rule in config.sync}
    for rule in rules:
        if rule in drops:
            raise ConfigError(f"{rule} is a drop rule: the daemon publishes what is put into its folder by itself")
        if syncs.get(rule) is False:
            raise ConfigError(f"{rule} is switched off by `enabled: false`; `ocisync once {rule}` runs it anyway")


def _own_url(listen: Address, file: Path) -> str:
    if listen.port == 0:
        raise ConfigError(f"{file}: `daemon.listen` leaves the port to the system. Name the daemon with --url")
    return f"http://{Address(_ANY.get(listen.host, listen.host), listen.port)}"


def _refusal(status: int, text: str, url: str) -> OcisyncError:
    told = " ".join(text.split())
    if status == 404:
        return NotFound(f"{told}. Was the daemon reloaded since the rule was written? SIGHUP does it")
    if status == 401:
        return RegistryError(
            f"{url}: the token is not the daemon's. Was it changed? Then restart the daemon", code="auth.denied"
        )
    return RegistryError(f"{url}: the daemon refused with status {status}: {told}")
