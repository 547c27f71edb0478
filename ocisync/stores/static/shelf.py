"""What all repositories of a static registry share."""

from __future__ import annotations

from ocisync.content.memory import bytes_opener
from ocisync.content.protocols import ObjectHeaders, ObjectInfo, ObjectStore
from ocisync.errors import Handling, StoreError
from ocisync.spec.digest import sha256
from ocisync.stores.static import layout
from ocisync.stores.static.tags_list import Rounds


class Shelf:
    """An object store, and what is known of it."""

    def __init__(self, store: ObjectStore, workers: int, rounds: Rounds) -> None:
        self.store = store
        self.workers = workers
        self.rounds = rounds
        self._is_prepared = False
        self._types_seen: set[str] = set()

    async def prepare(self) -> None:
        """Write what clients ask for first, where it is not there."""
        if self._is_prepared:
            return
        for key in layout.ROOT_KEYS:
            found = await self.store.head(key)
            if found is None or (not key.endswith("/") and found.size != len(layout.ROOT_BODY)):
                await self.write(key, layout.ROOT_BODY, layout.JSON_HEADERS)
        self._is_prepared = True

    async def write(self, key: str, body: bytes, headers: ObjectHeaders) -> None:
        """Write small content that is at hand."""
        await self.store.put(key, bytes_opener(body), headers, size=len(body), digest=sha256(body))

    async def check_type(self, key: str, expected: str) -> None:
        """See once per media type that the store gives back the type that was sent.

        Raises:
            StoreError: it does not, so every client would refuse the manifests.
        """
        if expected in self._types_seen:
            return
        found = await self.store.head(key)
        if found is not None and found.content_type != expected:
            raise StoreError(
                f"{key} at {self.store}: stored as {expected} but given back as {found.content_type or 'no type'}: "
                "clients refuse such manifests; make the store keep Content-Type",
                handling=Handling.FAIL, key=key,
            )  # fmt: skip
        self._types_seen.add(expected)

    async def listed(self, prefix: str) -> dict[str, ObjectInfo]:
        """Everything below a prefix, by the rest of its key."""
        return {info.key.removeprefix(prefix): info async for info in self.store.list(prefix)}
