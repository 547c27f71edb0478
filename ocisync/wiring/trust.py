"""From the configuration's policies to what checks signatures. The room `trust` is imported when a rule needs it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import structlog

from ocisync.config.models import VerifyPolicy
from ocisync.content.threads import run_file
from ocisync.errors import ConfigError
from ocisync.sync.judging.acceptance import Acceptance
from ocisync.sync.judging.judge import SignatureChecker
from ocisync.sync.ledger import Ledger

if TYPE_CHECKING:
    from ocisync.trust.checker import PolicyChecker
    from ocisync.trust.policies import Policy

log = structlog.get_logger()

_FRESH = 24 * 3600.0  # seconds after which sigstore's public root is brought up to date again
_RETRY = 3600.0  # seconds, where that failed


def _read_public_root() -> bytes:
    from ocisync.trust.keyless import read_public_root

    return read_public_root()


def make_policy(name: str, settings: VerifyPolicy, root: bytes) -> Policy:
    """A policy; `root` are the bytes of its trusted root, empty where it has none.

    Raises:
        ConfigError: its keys or its trusted root cannot be used.
    """
    from ocisync.trust.keyless import load_trusted_root
    from ocisync.trust.keys import load_public_key
    from ocisync.trust.policies import Identity, Policy

    try:
        return Policy(
            name,
            tuple(load_public_key(pem.encode()) for pem in settings.keys),
            tuple(Identity(one.issuer, one.identity) for one in settings.keyless),
            load_trusted_root(root) if root else None,
            settings.signed_as,
            settings.predicates,
        )
    except ConfigError as exc:
        raise exc.at(f"verify.{name}") from exc


def check_policies(settings: Mapping[str, VerifyPolicy]) -> None:
    """See that policies can be used, without the network.

    Raises:
        ConfigError: the keys or the trusted root of one cannot.
    """
    for name, policy in settings.items():
        make_policy(name, policy, _read_root(policy.trusted_root) if policy.trusted_root else b"")


def fingerprint_policy(settings: VerifyPolicy, root: bytes) -> str:
    """Another one when anything changes that a verdict depends on."""
    identities = [[one.issuer, one.identity] for one in settings.keyless]
    said = [settings.keys, identities, hashlib.sha256(root).hexdigest(), settings.signed_as, settings.predicates]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


@dataclass(slots=True)
class _ReadPolicy:
    """What of a policy is known before a signature is checked by it."""

    fingerprint: str
    root: bytes
    until: float  # when it is read again
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of a configuration; each is read when it is first used, and made when it checks something.

    One that trusts sigstore's public root is read anew each day, because that root changes: authorities are retired.
    """

    settings: Mapping[str, VerifyPolicy]
    public_root: Callable[[], bytes] = _read_public_root
    clock: Callable[[], float] = time.monotonic
    _read: dict[str, _ReadPolicy] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)  # several jobs begin at a time, and the public root has one folder

    async def open_checker(self, wanted: Acceptance, repository: str, ledger: Ledger) -> SignatureChecker:
        """What checks the images of a repository (OpenChecker).

        Raises:
            ConfigError: a policy is not known, or its trusted root cannot be had.
        """
        from ocisync.trust.recorded_checker import RecordedChecker
        from ocisync.trust.verdict_records import policies_kind

        found = {name: known for name in wanted.policies if (known := self._find_fresh(name)) is not None}
        if len(found) < len(wanted.policies):  # a thread reads files, or asks the network
            found = await run_file(lambda: {name: self._find(name) for name in wanted.policies})
        wants_time = bool(wanted.min_age) and wanted.age_of == "log"
        demands = [wanted.needs_all, wanted.each_platform, wants_time]
        kind = policies_kind({name: one.fingerprint for name, one in found.items()}, repository, demands)

        def load() -> PolicyChecker:
            from ocisync.trust.checker import PolicyChecker

            policies = [self._make(name, one) for name, one in found.items()]
            return PolicyChecker(policies, wanted.needs_all, wanted.each_platform, wants_time, repository)

        return RecordedChecker(kind, ledger, lambda: run_file(load))

    def _find_fresh(self, name: str) -> _ReadPolicy | None:
        """A policy that was read, and need not be read again yet."""
        known = self._read.get(name)
        return known if known is not None and self.clock() < known.until else None

    def _find(self, name: str) -> _ReadPolicy:
        """A policy as far as it is read, in a thread."""
        if name not in self.settings:
            raise ConfigError(f'no policy is named "{name[:80]}": define it under `verify:` in the configuration')
        settings = self.settings[name]
        with self._lock:
            if (known := self._find_fresh(name)) is not None:
                return known
            known = self._read.get(name)
            until = float("inf")
            if settings.trusted_root is not None:
                root = _read_root(settings.trusted_root)
            elif settings.keyless:
                root, until = self._refresh(name, known)
            else:
                root = b""
            if known is None or known.root != root:
                known = self._read[name] = _ReadPolicy(fingerprint_policy(settings, root), root, until)
            known.until = until
            return known

    def _refresh(self, name: str, known: _ReadPolicy | None) -> tuple[bytes, float]:
        """The public root, and until when it is fresh; where it cannot be had, the one that was had before."""
        try:
            return self.public_root(), self.clock() + _FRESH
        except ConfigError as exc:
            if known is None:
                raise exc.at(f"verify.{name}") from exc
            log.warning("trust.root_kept", policy=name, error=exc.message)
            return known.root, self.clock() + _RETRY

    def _make(self, name: str, known: _ReadPolicy) -> Policy:
        """A policy, in a thread."""
        if known.policy is None:
            known.policy = make_policy(name, self.settings[name], known.root)
        return known.policy


def _read_root(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
