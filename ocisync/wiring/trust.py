"""From the configuration's policies to what checks signatures. The room `trust` is imported when a rule needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocisync.config.models import DropRuleSettings, SyncRule, VerifyPolicy
from ocisync.content.threads import run_file
from ocisync.errors import ConfigError
from ocisync.sync.judging.acceptance import Acceptance
from ocisync.sync.judging.judge import SignatureChecker
from ocisync.sync.ledger import Ledger

if TYPE_CHECKING:
    from ocisync.trust.policies import Policy


def acceptance_of(rule: DropRuleSettings | SyncRule) -> Acceptance | None:
    """What a rule demands of images; None where it takes all."""
    demand, age = rule.verify, rule.min_age if isinstance(rule, SyncRule) else None
    if demand is None and (age is None or not age.of):
        return None
    return Acceptance(
        demand.names if demand else (),
        bool(demand and demand.all),
        demand is not None and demand.otherwise == "warn",
        demand.wait if demand else 0.0,
        demand is not None and demand.each is not None,
        age.of if age else 0.0,
        age.by if age else "seen",
    )


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of a configuration; each is made when it is first used."""

    settings: Mapping[str, VerifyPolicy]
    _made: dict[str, Policy] = field(default_factory=dict)

    async def open_checker(self, wanted: Acceptance, repository: str, ledger: Ledger) -> SignatureChecker:
        """What checks the images of a repository (OpenChecker).

        Raises:
            ConfigError: a policy is not known, or its keys or trusted root cannot be used.
        """
        from ocisync.trust.checker import PolicyChecker

        policies = await run_file(lambda: [self._make(name) for name in wanted.policies])
        return PolicyChecker(policies, wanted.needs_all, wanted.each_platform, repository, ledger)

    def _make(self, name: str) -> Policy:
        if name not in self._made:
            if name not in self.settings:
                raise ConfigError(f'no policy is named "{name[:80]}": define it under `verify:` in the configuration')
            try:
                self._made[name] = make_policy(name, self.settings[name])
            except ConfigError as exc:
                raise exc.at(f"verify.{name}") from exc
        return self._made[name]


def make_policy(name: str, settings: VerifyPolicy) -> Policy:
    """A policy.

    Raises:
        ConfigError: its keys or its trusted root cannot be used.
    """
    from ocisync.trust.keys import load_public_key
    from ocisync.trust.policies import Identity, Policy

    root = None
    if settings.keyless:
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
