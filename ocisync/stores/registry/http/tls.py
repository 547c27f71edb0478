"""Which certificates are believed and shown: authorities, client certificates, each read again when it changes."""

from __future__ import annotations

import ssl
from pathlib import Path

import anyio
from anyio import to_thread
from yarl import URL

from ocisync.content.network.tls import system_context
from ocisync.errors import ConfigError
from ocisync.stores.registry.auth.reloading_file import Stamp, stamp
from ocisync.stores.registry.options import RegistryOptions

_LOOK_EVERY = 15.0  # seconds between two looks at the files


class Trust:
    """What TLS connections on behalf of one registry host go by."""

    def __init__(self, hostname: str, options: RegistryOptions) -> None:
        self._hostname = hostname
        self._options = options
        self._contexts: dict[bool, _ReloadingContext] = {}
        self._system_context: ssl.SSLContext | None = None

    async def context_for(self, url: URL, proxy: URL | None = None) -> ssl.SSLContext | bool:
        """What aiohttp takes as `ssl` for a URL: a context, false for any certificate, true where there is no TLS.

        Only the host itself is shown the client certificate, and only its own certificate may be anything.

        Raises:
            ConfigError: a file cannot be used.
        """
        if url.scheme != "https":
            return await self._system() if proxy is not None and proxy.scheme == "https" else True
        is_own = url.host == self._hostname
        options = self._options
        shows = is_own and options.client_cert is not None
        if is_own and options.insecure_tls and not shows:
            return False
        if options.ca_file is None and not shows:
            return await self._system()
        if is_own not in self._contexts:
            self._contexts[is_own] = _ReloadingContext(
                options, shows=shows, checks=not (is_own and options.insecure_tls)
            )
        return await self._contexts[is_own].current()

    async def _system(self) -> ssl.SSLContext:
        if self._system_context is None:
            self._system_context = await to_thread.run_sync(system_context)
        return self._system_context


class _ReloadingContext:
    """A context that follows its files."""

    def __init__(self, options: RegistryOptions, *, shows: bool, checks: bool) -> None:
        self._ca = options.ca_file
        self._certificate = options.client_cert if shows else None
        self._key = options.client_key if shows else None
        self._checks = checks
        self._context: ssl.SSLContext | None = None
        self._stamps: list[Stamp] = []
        self._next_look = float("-inf")
        self._lock = anyio.Lock(fast_acquire=True)

    async def current(self) -> ssl.SSLContext:
        if self._context is None or anyio.current_time() >= self._next_look:
            async with self._lock:
                if self._context is None or anyio.current_time() >= self._next_look:
                    self._context = await to_thread.run_sync(self._load_changed)
                    self._next_look = anyio.current_time() + _LOOK_EVERY
        return self._context

    def _load_changed(self) -> ssl.SSLContext:
        try:
            stamps = [stamp(path) for path in (self._ca, self._certificate, self._key) if path]
            if self._context is not None and stamps == self._stamps:
                return self._context
            context = self._load()
        except (OSError, ConfigError):
            if self._context is not None:  # replaced in two steps: what was read before serves until both are there
                return self._context
            raise
        self._stamps = stamps
        return context

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if not self._checks:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self._ca is not None:
            _load_authorities(context, self._ca)
        if self._certificate is not None:
            _load_certificate(context, self._certificate, self._key)
        return context


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"ca {path}: cannot be used: {exc}") from exc


def _load_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        context.load_cert_chain(certificate, key, password="")  # a prompt would wait for ever
    except (OSError, ssl.SSLError) as exc:
        place = f"client_cert {certificate}" + (f" with client_key {key}" if key else "")
        raise ConfigError(
            f"{place}: cannot be used: {exc}; both must be PEM files that belong together, the key without a passphrase"
        ) from exc
