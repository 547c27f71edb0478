"""From the configuration's policies to what checks signatures. The room `trust` is imported when a rule needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    from ocisync.trust.policies import Policy

log = structlog.get_logger()

_FRESH = 24 * 3600.0  # seconds after which sigstore's public root is brought up to date again
_RETRY = 3600.0  # seconds, where that failed


def make_policy(name: str, settings: VerifyPolicy) -> Policy:
    """A policy.

    Raises:
        ConfigError: its keys or its trusted root cannot be used.
    """
    from ocisync.trust.keys import load_public_key
    from ocisync.trust.policies import Identity, Policy

    root = None
    if settings.keyless or settings.trusted_root:
        from ocisync.trust.keyless import load_trusted_root, read_trusted_root

        root = load_trusted_root(read_trusted_root(settings.trusted_root))
    return Policy(
        name,
        tuple(load_public_key(pem.encode()) for pem in settings.keys),
        tuple(Identity(one.issuer, one.identity) for one in settings.keyless),
        root,
        settings.signed_as,
        settings.predicates,
    )


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of a configuration; each is made when it is first used.

    One that trusts sigstore's public root is made anew each day, because that root changes: authorities are retired.
    """

    settings: Mapping[str, VerifyPolicy]
    make: Callable[[str, VerifyPolicy], Policy] = make_policy
    clock: Callable[[], float] = time.monotonic
    _made: dict[str, tuple[Policy, float]] = field(default_factory=dict)  # until when each holds
    _lock: Lock = field(default_factory=Lock)  # several jobs begin at a time, and the public root has one folder

    async def open_checker(self, wanted: Acceptance, repository: str, ledger: Ledger) -> SignatureChecker:
        """What checks the images of a repository (OpenChecker).

        Raises:
            ConfigError: a policy is not known, or its keys or trusted root cannot be used.
        """
        from ocisync.trust.checker import PolicyChecker

        policies = await run_file(lambda: [self._find(name) for name in wanted.policies])
        wants_time = bool(wanted.min_age) and wanted.age_of == "log"
        return PolicyChecker(policies, wanted.needs_all, wanted.each_platform, wants_time, repository, ledger)

    def _find(self, name: str) -> Policy:
        """A policy, in a thread."""
        if name not in self.settings:
            raise ConfigError(f'no policy is named "{name[:80]}": define it under `verify:` in the configuration')
        with self._lock:
            policy, until = self._made.get(name, (None, 0.0))
            if policy is not None and self.clock() < until:
                return policy
            settings = self.settings[name]
            lasts = _FRESH if settings.keyless and settings.trusted_root is None else float("inf")
            try:
                policy = self.make(name, settings)
            except ConfigError as exc:
                if policy is None:
                    raise exc.at(f"verify.{name}") from exc
                log.warning("trust.root_kept", policy=name, error=exc.message)
                lasts = _RETRY
            self._made[name] = policy, self.clock() + lasts
            return policy
