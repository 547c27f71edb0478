"""`login` and `logout`: a registry's password, checked and kept where podman and docker keep theirs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from ocisync.commands.registry.access import HostAccess, apply_access
from ocisync.errors import ConfigError
from ocisync.model.image_name import parse_host, parse_name
from ocisync.stores.registry.auth.credential_helpers import erase_from_helper, store_in_helper
from ocisync.stores.registry.auth.credentials import usual_places
from ocisync.stores.registry.auth.docker_config import helper_key
from ocisync.stores.registry.auth.login_file import LoginFile
from ocisync.wiring.session import optional_session


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Where a login was written, and whether the registry looked at it."""

    key: str
    place: str
    is_checked: bool  # False: the registry lets anybody in


def registry_key(text: str) -> str:
    """`HOST[/PATH]` of what somebody typed, a URL or `docker://` among it.

    Raises:
        InvalidName: the host or the path breaks its form.
    """
    bare = text
    for scheme in ("docker://", "https://", "http://"):
        bare = bare.removeprefix(scheme)
    host, _, path = bare.strip("/").partition("/")
    host = parse_host(host)
    return f"{host}/{parse_name(path)}" if path and path not in ("v1", "v2") else host


async def log_in(
    key: str, username: str, password: str, config: Path | None, tls_verify: bool | None, authfile: Path | None
) -> LoggedIn:
    """Check a login at the registry, then write it down.

    Raises:
        AuthError: the registry refuses it; nothing was written.
        OcisyncError: the registry cannot be asked, or nothing can be written.
    """
    host = key.partition("/")[0]
    access = HostAccess(f"{username}:{password}", tls_verify)
    settings = await apply_access(config, {host: access}, None)
    async with optional_session(settings) as session:
        is_checked = await session.stores.check_login(host)
    file = await to_thread.run_sync(LoginFile.read, authfile or _usual_place())
    helper = file.helper_of(key)
    if helper:
        await store_in_helper(helper, helper_key(key), username, password)
        file.set_entry(key, {})
    else:
        file.set_password(key, username, password)
    await to_thread.run_sync(file.write)
    return LoggedIn(key, f"the credential helper {helper}" if helper else str(file.path), is_checked)


async def log_out(keys: list[str], authfile: Path | None, *, every: bool) -> list[tuple[str, str]]:
    """Remove logins; each one that went, and from where.

    Without a file all usual ones are looked through: a login that is left in another would be used still.

    Raises:
        ConfigError: there is no such login.
        OcisyncError: a file or helper cannot be changed.
    """
    removed: list[tuple[str, str]] = []
    for place in [authfile] if authfile else usual_places():
        file = await to_thread.run_sync(LoginFile.read, place)
        gone = [(key, str(place)) for key in (file.keys if every else keys) if file.remove(key)]
        if gone:
            await to_thread.run_sync(file.write)
        removed += gone
        for key in file.keys if every else keys:
            helper = file.helper_of(key)
            if helper and await erase_from_helper(helper, helper_key(key)):
                removed.append((key, f"the credential helper {helper}"))
    if not removed and not every:
        looked = ", ".join(str(place) for place in ([authfile] if authfile else usual_places()))
        raise ConfigError(f"not logged in to {', '.join(keys)} (looked in {looked})")
    return removed


def _usual_place() -> Path:
    """The file that is read first."""
    return usual_places()[0]
