"""What is remembered of drop folders' inputs, so that each content is taken once and back-off survives a restart."""

from __future__ import annotations

import enum
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ocisync.model.text.outside_json import storable
from ocisync.state.rows import CorruptDatabase, Database, Rows, upsert


class InputState(enum.Enum):
    """What became of an input."""

    DONE = "done"  # published; its files may still have to be moved or deleted
    QUARANTINED = "quarantined"  # refused; left alone until its content changes
    WAITING = "waiting"  # failed, and tried again when due


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """One file as it was read."""

    path: str  # below the drop folder
    size: int  # bytes
    mtime_ns: int
    inode: int
    digest: str  # of its bytes, or `image:` and of what it says it holds; empty when it was not read
    platform: str = ""  # os/architecture[/variant]; empty for a single archive
    ctime_ns: int = 0  # 0: written by an ocisync that did not look at it


@dataclass(frozen=True, slots=True)
class InputRecord:
    """What became of one input."""

    key: str
    state: InputState
    at: float  # seconds since the epoch
    purpose: str  # where it was published, so that a changed rule publishes it again
    identity: str  # of the content; empty when it was not read
    members: tuple[MemberRecord, ...] = ()
    published: tuple[str, ...] = ()
    failures: int = 0  # in a row
    due: float = 0.0  # seconds since the epoch: not tried again before
    code: str = ""
    message: str = ""


_COLUMNS = "key, state, at, purpose, identity, members, published, failures, due, code, message"
_SAVE = upsert("input", "rule, key", f"rule, {_COLUMNS}")


@dataclass(frozen=True, slots=True)
class InputRecords:
    """The records of every drop rule."""

    _database: Database

    async def of_rule(self, rule: str) -> Mapping[str, InputRecord]:
        """Key -> record."""
        return await self._database.read(
            lambda rows: {
                row[0]: _record(row) for row in rows.execute(f"SELECT {_COLUMNS} FROM input WHERE rule = ?", (rule,))
            }
        )

    async def find(self, rule: str, key: str) -> InputRecord | None:
        """What is known of one input."""

        def look(rows: Rows) -> InputRecord | None:
            row = rows.execute(f"SELECT {_COLUMNS} FROM input WHERE rule = ? AND key = ?", (rule, key)).fetchone()
            return _record(row) if row else None

        return await self._database.read(look)

    async def save(self, rule: str, record: InputRecord) -> None:
        """Remember an input in place of what was known of it."""
        await self._database.write(lambda rows: rows.execute(_SAVE, (rule, *_row(record))))

    async def remove(self, rule: str, keys: Collection[str]) -> None:
        """Forget inputs."""

        def drop(rows: Rows) -> None:
            rows.executemany("DELETE FROM input WHERE rule = ? AND key = ?", ((rule, key) for key in keys))

        if keys:
            await self._database.write(drop)


def _row(record: InputRecord) -> tuple[object, ...]:
    members = [
        [member.path, member.size, member.mtime_ns, member.inode, member.digest, member.platform, member.ctime_ns]
        for member in record.members
    ]
    head = (record.key, record.state.value, record.at, record.purpose, record.identity)
    facts = (json.dumps(members), json.dumps(record.published))
    return (*head, *facts, record.failures, record.due, record.code, storable(record.message))


def _record(row: tuple[str, str, float, str, str, str, str, int, float, str, str]) -> InputRecord:
    key, state, at, purpose, identity, members, published, failures, due, code, message = row
    try:
        return InputRecord(
            key,
            InputState(state),
            float(at),
            purpose,
            identity,
            tuple(MemberRecord(*member) for member in json.loads(members)),
            tuple(json.loads(published)),
            int(failures),
            float(due),
            code,
            message,
        )
    except (ValueError, TypeError) as exc:
        raise CorruptDatabase(f"the record of the input {key!r} is unreadable") from exc
