"""Writing credentials down, as `podman login` does: into auth.json, or with a credential helper that the file names.

Blocking: read and write in a thread.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ocisync.errors import AuthError, DiskError
from ocisync.model.text.outside_json import load_json
from ocisync.stores.registry.auth.docker_config import helper_key, normal_key

_MODE = 0o600
_FOLDER_MODE = 0o700
_MAX_FILE = 4 * 1024 * 1024  # bytes


class LoginFile:
    """One file of credentials; what is not understood in it stays as it is."""

    def __init__(self, path: Path, document: dict[str, object]) -> None:
        self.path = path
        self._document = document

    @classmethod
    def read(cls, path: Path) -> LoginFile:
        """Read a file, or begin an empty one.

        Raises:
            AuthError: it holds something else.
            DiskError: it cannot be read.
        """
        try:
            with path.open("rb") as file:
                raw = file.read(_MAX_FILE)
        except FileNotFoundError:
            return cls(path, {})
        except OSError as exc:
            raise DiskError(f"{path}: the credentials cannot be read: {exc.strerror}", errno=exc.errno) from exc
        try:
            document = load_json(raw) if raw.strip() else {}
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise AuthError(f"{path}: not a JSON object, and it was left as it is. Correct it, or name another file")
        return cls(path, document)

    @property
    def keys(self) -> list[str]:
        """The registries that it has logins for."""
        return sorted({normal_key(key) for part in ("auths", "credHelpers") for key in self._section(part)})

    def helper_of(self, key: str) -> str:
        """The credential helper that keeps a registry's password; empty for none."""
        helpers = self._section("credHelpers")
        named = next(
            (name for own, name in helpers.items() if normal_key(own) == key), self._document.get("credsStore")
        )
        return named if isinstance(named, str) else ""

    def set_password(self, key: str, username: str, password: str) -> None:
        """Write a login into the file itself."""
        self.set_entry(key, {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()})

    def set_entry(self, key: str, entry: Mapping[str, str]) -> None:
        """Write an entry under the key that docker or podman would use; an empty one says that a store has it."""
        self.remove(key)
        # docker's own file has Docker Hub under its old address, and docker looks for no other.
        name = helper_key(key) if self.path.name == "config.json" else key
        self._document["auths"] = {**self._section("auths"), name: dict(entry)}

    def remove(self, key: str) -> bool:
        """Remove a registry's login, however it is spelled; whether there was one."""
        known = self._section("auths")
        kept = {name: entry for name, entry in known.items() if normal_key(name) != key}
        if len(kept) == len(known):
            return False
        self._document["auths"] = kept
        return True

    def write(self) -> None:
        """Write the file whole, for its owner only.

        Raises:
            DiskError: it cannot be written.
        """
        place = Path(os.path.realpath(self.path))  # a link to a file elsewhere stays one
        name = ""
        try:
            place.parent.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".auth-", dir=place.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), _MODE)
                json.dump(self._document, file, indent="\t")
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(place)
        except OSError as exc:
            if name:
                with suppress(OSError):
                    Path(name).unlink()
            raise DiskError(f"{place}: the credentials cannot be written: {exc.strerror}", errno=exc.errno) from exc

    def _section(self, name: str) -> dict[str, object]:
        found = self._document.get(name)
        return found if isinstance(found, dict) else {}
