"""sync.ledger.Ledger in a database: verified tags, blob locations, layers by diff ID."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ocisync.errors import InvalidName
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, is_digest, parse_digest
from ocisync.state.rows import CorruptDatabase, Database, Rows, upsert
from ocisync.sync.ledger import Published

_FORGET_SEEN = 90 * 24 * 3600.0  # seconds
LOOKUP = 500  # digests per query; SQLite takes 999 variables and more

_ID = "SELECT id FROM repository WHERE target = ? AND name = ?"
_PUBLISHED = f"""
SELECT name, digest, verified_at, scope, referrers, media_type, size FROM tag WHERE repository = ({_ID})
"""
_PUBLISH = upsert(
    "tag", "repository, name", "repository, name, digest, verified_at, scope, referrers, media_type, size"
)
_LOCATED = upsert("blob", "digest, repository", "digest, repository, size")
_RECORD_LAYER = upsert(
    "layer", "repository, diff_id, variant", "repository, diff_id, variant, media_type, digest, size"
)
_SEEN = "INSERT INTO seen (source, tag, digest, at) VALUES (?, ?, ?, ?) ON CONFLICT (source, tag, digest) DO NOTHING"
_NOTE = upsert("note", "kind, digest", "kind, digest, fact")
_LOCATE = """
SELECT blob.digest, min(repository.name) FROM blob JOIN repository ON repository.id = blob.repository
WHERE repository.target = ? AND blob.digest IN ({marks}) GROUP BY blob.digest
"""
_LAYER = f"SELECT media_type, digest, size FROM layer WHERE repository = ({_ID}) AND diff_id = ? AND variant = ?"


class StoredLedger:
    """A Ledger. Each call is one transaction in the database's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_published(self, target: str, repository: str) -> Mapping[str, Published]:
        """Tag -> what was published under it."""
        return await self._database.read(
            lambda rows: {str(row[0]): _as_published(row) for row in rows.execute(_PUBLISHED, (target, repository))}
        )

    async def record(
        self, target: str, repository: str, tags: Mapping[str, Published], blobs: Mapping[Digest, int]
    ) -> None:
        """Remember verified tags and where blobs lie."""

        def write(rows: Rows) -> None:
            number = repository_id(rows, target, repository)
            rows.executemany(
                _PUBLISH,
                (
                    (
                        number,
                        tag,
                        one.digest,
                        one.verified_at,
                        one.scope,
                        one.referrers,
                        one.media_type,
                        one.size,
                    )
                    for tag, one in tags.items()
                ),
            )
            rows.executemany(
                _LOCATED,
                ((digest, number, size) for digest, size in blobs.items()),
            )

        await self._database.write(write)

    async def locate(self, target: str, digests: list[Digest]) -> Mapping[Digest, str]:
        """One repository for each blob that is known at the target."""
        found: dict[Digest, str] = {}
        for some in _split_queries(digests):
            found |= await self._database.read(partial(_locate_blobs, target=target, digests=some))
        return found

    async def find_layer(self, target: str, repository: str, diff_id: Digest, variant: str) -> Descriptor | None:
        """The layer that holds this content, made with this conversion."""

        def look(rows: Rows) -> Descriptor | None:
            row = rows.execute(_LAYER, (target, repository, diff_id, variant)).fetchone()
            return Descriptor(str(row[0]), _check_digest(row[1]), int(row[2])) if row else None

        return await self._database.read(look)

    async def record_layer(self, target: str, repository: str, diff_id: Digest, variant: str, desc: Descriptor) -> None:
        """Remember which layer holds a content."""
        await self._database.write(
            lambda rows: rows.execute(
                _RECORD_LAYER,
                (repository_id(rows, target, repository), diff_id, variant, desc.media_type, desc.digest, desc.size),
            )
        )

    async def forget(self, target: str, repository: str) -> None:
        """Drop one repository."""

        def drop(rows: Rows) -> None:
            number = repository_id(rows, target, repository)
            for table in ("tag", "blob", "layer"):
                rows.execute(f"DELETE FROM {table} WHERE repository = ?", (number,))

        await self._database.write(drop)

    async def record_seen(
        self, source: str, tags: Mapping[str, Digest], now: float
    ) -> tuple[Mapping[str, float], bool]:
        """When each tag was first seen to point at this digest; what is new is remembered where that may be.

        A tag that moves away and comes back keeps its age, but not for longer than `_FORGET_SEEN`.
        """
        known = await self._database.read(
            lambda rows: {
                (str(tag), _check_digest(digest)): _check_time(at)
                for tag, digest, at in rows.execute("SELECT tag, digest, at FROM seen WHERE source = ?", (source,))
            }
        )
        fresh = [(source, tag, digest, now) for tag, digest in tags.items() if (tag, digest) not in known]
        if fresh and not self._database.read_only:

            def write(rows: Rows) -> None:
                rows.executemany(_SEEN, fresh)
                rows.executemany(
                    "DELETE FROM seen WHERE source = ? AND tag = ? AND digest <> ? AND at < ?",
                    ((source, tag, digest, now - _FORGET_SEEN) for _, tag, digest, _ in fresh),
                )

            await self._database.write(write)
        return {tag: min(known.get((tag, digest), now), now) for tag, digest in tags.items()}, not known

    async def get_facts(self, kind: str, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        """What was noted about content."""
        found: dict[Digest, str] = {}
        for some in _split_queries(digests):
            found |= await self._database.read(partial(_read_facts, kind=kind, digests=some))
        return found

    async def put_facts(self, kind: str, facts: Mapping[Digest, str]) -> None:
        """Remember facts about content, where the state may be written."""
        if self._database.read_only:
            return
        await self._database.write(
            lambda rows: rows.executemany(
                _NOTE,
                ((kind, digest, fact) for digest, fact in facts.items()),
            )
        )


def _read_facts(rows: Rows, *, kind: str, digests: Sequence[Digest]) -> dict[Digest, str]:
    query = f"SELECT digest, fact FROM note WHERE kind = ? AND digest IN ({','.join('?' * len(digests))})"
    return dict(rows.execute(query, (kind, *digests)))  # of digests that were asked for


def repository_id(rows: Rows, target: str, repository: str) -> int:
    """A repository's number, which it gets when it has none yet."""
    rows.execute("INSERT INTO repository (target, name) VALUES (?, ?) ON CONFLICT DO NOTHING", (target, repository))
    (number,) = rows.execute(_ID, (target, repository)).fetchone()
    return int(number)


def _locate_blobs(rows: Rows, *, target: str, digests: Sequence[Digest]) -> dict[Digest, str]:
    query = _LOCATE.format(marks=",".join("?" * len(digests)))
    return {_check_digest(digest): str(name) for digest, name in rows.execute(query, (target, *digests))}


def _as_published(row: Sequence[Any]) -> Published:
    """All but the first column, which is the tag."""
    _, digest, verified_at, scope, referrers, media_type, size = row
    if not is_digest(digest) or type(verified_at) is not float or type(size) is not int or size < 0:
        digest, verified_at, size = _check_digest(digest), _check_time(verified_at), _check_size(size)
    return Published(Digest(digest), verified_at, str(scope), str(referrers), str(media_type), size)


def _check_time(value: object) -> float:
    if not isinstance(value, int | float):
        raise CorruptDatabase(f"{str(value)[:40]!r} is not a time")
    return float(value)


def _check_size(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise CorruptDatabase(f"{str(value)[:40]!r} is not a size")
    return value


def _check_digest(text: object) -> Digest:
    try:
        return parse_digest(text)
    except InvalidName as exc:
        raise CorruptDatabase(exc.message) from exc


def _split_queries(digests: Sequence[Digest]) -> Iterator[Sequence[Digest]]:
    return (digests[start : start + LOOKUP] for start in range(0, len(digests), LOOKUP))
