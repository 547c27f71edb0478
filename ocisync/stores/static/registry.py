"""A static registry on any object store."""

from __future__ import annotations

from ocisync.content.object_store import ObjectStore
from ocisync.stores.static import layout
from ocisync.stores.static.derived import RetryPolicy
from ocisync.stores.static.maintenance import RegistryMaintenance
from ocisync.stores.static.options import StaticOptions
from ocisync.stores.static.registry_context import RegistryContext
from ocisync.stores.static.repository import StaticRepository


class StaticRegistry:
    """The repositories of one object store; `workers` bounds the requests of one publication."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        workers: int = 8,
        retries: RetryPolicy | None = None,
        options: StaticOptions | None = None,
    ) -> None:
        self.store = store
        self._context = RegistryContext(store, workers, retries or RetryPolicy(), options or StaticOptions())

    def repository(self, name: str) -> StaticRepository:
        """One repository, which need not exist yet.

        Raises:
            InvalidName: not a name that a static registry can hold.
        """
        return StaticRepository(self._context, layout.check_name(name))

    @property
    def options(self) -> StaticOptions:
        """What the registry keeps."""
        return self._context.options

    def audit(self) -> RegistryMaintenance:
        """The whole registry, for verifying, repairing and collecting it."""
        return RegistryMaintenance(self._context)

    async def prepare(self) -> None:
        """Write what clients ask for first, where it is not there; `publish` does so by itself."""
        await self._context.prepare()
