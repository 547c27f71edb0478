"""Reconcile: derive anew whatever follows from tags and manifests, after other tools wrote to the registry."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from ocisync.errors import OcisyncError
from ocisync.maintenance.protocols import MaintainedRegistry
from ocisync.sync.reports import Failure, describe_failure

log = structlog.get_logger()


@dataclass(slots=True)
class Reconciled:
    """What a reconciliation did."""

    repositories: int = 0
    changed: list[str] = field(default_factory=list)  # keys that were written or removed
    failures: dict[str, Failure] = field(default_factory=dict)  # by repository; "" is the registry as a whole

    @property
    def ok(self) -> bool:
        """Whether everything is right now."""
        return not self.failures


async def reconcile(registry: MaintainedRegistry, within: str = "") -> Reconciled:
    """Heal every repository, then the registry; one that fails does not stop the others."""
    done = Reconciled()
    async for name in registry.list_repositories(within):
        done.repositories += 1
        try:
            done.changed.extend(await registry.repository(name).rebuild_derived())
        except OcisyncError as exc:
            done.failures[name] = describe_failure(exc)
            log.warning("repository.unreconciled", repository=name, code=exc.code, error=exc.message)
    try:
        done.changed.extend(await registry.rebuild_derived())
    except OcisyncError as exc:
        done.failures[""] = describe_failure(exc)
    if done.changed:
        log.info("registry.reconciled", repositories=done.repositories, changed=len(done.changed))
    return done
