"""What any database of the state must do: the same answers from SQLite and from PostgreSQL."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import anyio
import psycopg
import pytest

from ocisync.errors import ConfigError, StoreError
from ocisync.model.digest import sha256
from ocisync.model.media_types import OCI_MANIFEST
from ocisync.state.database import migrate as migrate_sqlite
from ocisync.state.input_records import InputRecord, InputState, MemberRecord
from ocisync.state.ledger import LOOKUP
from ocisync.state.move import _OTHERS, _OWN, copy_state
from ocisync.state.open import State, open_database, open_state, state_of
from ocisync.state.postgres_database import migrate
from ocisync.state.postgres_schema import STEPS
from ocisync.state.rule_records import RuleStatus
from ocisync.sync.ledger import Ledger, MemoryLedger, Published
from ocisync.sync.reports import JobReport, TagReport, Verdict
from tests.ledger_samples import fill_ledger, list_digests
from tests.servers.postgres import PASSWORD, Postgres

Opener = Callable[[], AbstractAsyncContextManager[State]]


@pytest.fixture(params=["sqlite", "postgres"])
def open_it(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same state each time."""
    dsn = ""
    if request.param == "postgres":
        dsn = request.getfixturevalue("postgresql").database()
        migrate(dsn)
    return partial(open_state, tmp_path, dsn=dsn)


async def _everything(ledger: Ledger) -> object:
    digests = list_digests(4)
    return (
        {
            place: dict(await ledger.get_published(*place))
            for place in (("t", "a"), ("t", "b"), ("other", "a"), ("t", "c"))
        },
        dict(await ledger.locate("t", digests)),
        dict(await ledger.locate("other", digests)),
        {kind: dict(await ledger.get_facts(kind, digests)) for kind in ("created", "platforms", "none")},
        [await ledger.find_layer("t", name, sha256(b"diff"), kind) for name in ("a", "b") for kind in ("gzip", "zstd")],
    )


async def test_when_tags_were_first_seen(open_it: Opener) -> None:
    one, two, _ = list_digests(3)
    day = 24 * 3600.0
    async with open_it() as state:
        for ledger in (state.ledger, MemoryLedger()):
            assert await ledger.record_seen("a.test/x", {"1": one}, 100.0) == ({"1": 100.0}, True)
            assert await ledger.record_seen("a.test/x", {"1": one, "2": two}, 200.0) == (
                {"1": 100.0, "2": 200.0},
                False,
            )
            assert await ledger.record_seen("a.test/y", {"1": one}, 300.0) == ({"1": 300.0}, True)
            assert await ledger.record_seen("a.test/x", {"1": two}, 400.0) == ({"1": 400.0}, False)
            assert await ledger.record_seen("a.test/x", {"1": one}, 500.0) == ({"1": 100.0}, False)  # it came back
    async with open_it() as state:
        assert await state.ledger.record_seen("a.test/x", {"1": one}, 600.0) == ({"1": 100.0}, False)
        assert await state.ledger.record_seen("a.test/x", {"1": one}, 50.0) == ({"1": 50.0}, False)  # the clock was set
        other = list_digests(4)[3]
        await state.ledger.record_seen("a.test/x", {"1": other}, 100 * day)
        assert await state.ledger.record_seen("a.test/x", {"1": one}, 101 * day) == ({"1": 101 * day}, False)


async def test_the_ledger_answers_as_the_one_in_memory_does_also_after_a_restart(open_it: Opener) -> None:
    memory = MemoryLedger()
    await fill_ledger(memory)
    async with open_it() as state:
        await fill_ledger(state.ledger)
    async with open_it() as state:
        assert await _everything(state.ledger) == await _everything(memory)
        await state.ledger.forget("t", "a")
        assert await state.ledger.get_published("t", "a") == {}
        assert await state.ledger.find_layer("t", "a", sha256(b"diff"), "gzip") is None
        assert await state.ledger.locate("t", list_digests(3)) == {list_digests(1)[0]: "b"}
        assert await state.ledger.get_published("other", "a") != {}


async def test_locate_takes_more_digests_than_one_query(open_it: Opener) -> None:
    digests = list_digests(LOOKUP * 2 + 1)
    async with open_it() as state:
        await state.ledger.record("t", "a", {}, dict.fromkeys(digests, 1))
        assert await state.ledger.locate("t", digests) == dict.fromkeys(digests, "a")


async def test_ten_thousand_tags_are_one_transaction(open_it: Opener) -> None:
    tags = {f"v{number}": Published(digest, 1.0) for number, digest in enumerate(list_digests(10_000))}
    async with open_it() as state:
        await state.ledger.record("t", "a", tags, {known.digest: 1 for known in tags.values()})
        assert await state.ledger.get_published("t", "a") == tags


async def test_rules_and_inputs_are_remembered(open_it: Opener) -> None:
    status = RuleStatus(1.5, None, 2.5, "net.unreachable", "no route", 3, 99.0)
    member = MemberRecord("app/1.0/linux.amd64.tar", 7, 2**62, 11, sha256(b"x"), "linux/amd64")
    record = InputRecord(
        "app/1.0/", InputState.WAITING, 5.0, "t/", sha256(b"id"), (member,), ("t/app:1.0",), 2, 8.5, "c", "m"
    )
    async with open_it() as state:
        await state.rules.save_rule_status("r", status)
        await state.inputs.save("r", record)
    async with open_it() as state:
        assert await state.rules.rule_status("r") == status
        assert await state.rules.rule_status("unknown") is None
        assert await state.inputs.of_rule("r") == {record.key: record}
        assert await state.inputs.of_rule("other") == {}
        await state.inputs.remove("r", [record.key])
        assert await state.inputs.of_rule("r") == {}


async def test_two_may_write_at_a_time(open_it: Opener) -> None:
    async with open_it() as daemon, open_it() as once, anyio.create_task_group() as group:
        for number, state in enumerate([daemon, once] * 10):
            group.start_soon(state.ledger.record, "t", f"r{number}", {}, {list_digests(20)[number]: 1})
    async with open_it() as state:
        assert len(await state.ledger.locate("t", list_digests(20))) == 20


async def test_text_that_no_database_holds_is_kept_readable(open_it: Opener) -> None:
    status = RuleStatus(1.0, message="a lone \ud800 surrogate, and \0 NUL")
    async with open_it() as state:
        await state.rules.save_rule_status("r", status)
        known = await state.rules.rule_status("r")
    assert known is not None
    assert known.message == r"a lone \ud800 surrogate, and \x00 NUL"


async def test_images_are_remembered_by_rule_target_and_tag(open_it: Opener) -> None:
    report = JobReport(
        "r", "docker://s/a", "t/a", tags=[TagReport("1", Verdict.COPIED, "new", digest=list_digests(1)[0])]
    )
    async with open_it() as state:
        await state.images.record(report)
        await state.images.record(JobReport("r", "docker://s/b", "t/b", tags=[TagReport("2", Verdict.UNCHANGED, "")]))
        assert [(one.target, one.tag, one.verdict) for one in await state.images.of_rule("r")] == [
            ("t/a", "1", "copied"),
            ("t/b", "2", "unchanged"),
        ]
        report.tags = []
        await state.images.record(report)
        assert [one.target for one in await state.images.of_rule("r")] == ["t/b"]


async def test_numbers_beyond_32_bits_and_fractions_of_seconds_are_kept(open_it: Opener) -> None:
    one = Published(list_digests(1)[0], 1764457200.123456, media_type=OCI_MANIFEST, size=2**40)
    async with open_it() as state:
        await state.ledger.record("t", "a", {"1": one}, {one.digest: 2**41})
        assert await state.ledger.get_published("t", "a") == {"1": one}


def test_both_databases_have_the_same_tables_and_columns(postgresql: Postgres) -> None:
    dsn = postgresql.database()
    migrate(dsn)
    query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'ocisync'"
    with psycopg.connect(dsn) as connection:
        found = {(str(table), str(column)) for table, column in connection.execute(query)}
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as file:
        migrate_sqlite(file)
        tables = (
            "SELECT t.name, c.name FROM sqlite_schema AS t JOIN pragma_table_info(t.name) AS c WHERE t.type = 'table'"
        )
        wanted = {(str(table), str(column)) for table, column in file.execute(tables)}
    assert wanted - found == set()


async def test_a_server_that_restarts_is_waited_for(postgresql: Postgres) -> None:
    dsn = postgresql.database()
    migrate(dsn)
    status = RuleStatus(1.0)
    async with open_state(Path("unused"), dsn=dsn) as state:
        await state.rules.save_rule_status("before", status)
        await anyio.to_thread.run_sync(postgresql.stop)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(state.rules.save_rule_status, "after", status)
            tasks.start_soon(anyio.to_thread.run_sync, postgresql.start)
        assert [await state.rules.rule_status(name) for name in ("before", "after")] == [status, status]


async def test_what_cannot_be_reached_or_lacks_its_tables_is_said_without_the_password(postgresql: Postgres) -> None:
    dsn = postgresql.database()
    with pytest.raises(ConfigError, match="ocisync engine migrate"):
        async with open_state(Path("unused"), dsn=dsn):
            pass
    wrong = dsn.replace(PASSWORD, "wrong-password")
    with pytest.raises(StoreError, match="password authentication failed") as refused:
        async with open_state(Path("unused"), dsn=wrong):
            pass
    assert "wrong-password" not in str(refused.value)


async def test_a_newer_schema_is_left_alone(postgresql: Postgres) -> None:
    dsn = postgresql.database()
    assert migrate(dsn) == (0, len(STEPS))
    assert migrate(dsn) == (len(STEPS), len(STEPS))
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE ocisync.schema_version SET version = version + 1")
    with pytest.raises(ConfigError, match="update this ocisync"):
        migrate(dsn)
    with pytest.raises(ConfigError, match="update this ocisync"):
        async with open_state(Path("unused"), dsn=dsn):
            pass


async def test_a_state_moves_to_the_other_database_and_back(postgresql: Postgres, tmp_path: Path) -> None:
    dsn = postgresql.database()
    migrate(dsn)
    status = RuleStatus(1.5, 2.5, None, "c", "m", 3, 99.0)
    member = MemberRecord("a.tar", 7, 2**62, 11, sha256(b"x"))
    record = InputRecord("a.tar", InputState.DONE, 5.0, "t/", sha256(b"id"), (member,), ("t/app:1",))
    async with open_state(tmp_path / "old") as state:
        await fill_ledger(state.ledger)
        await state.ledger.record("t", "many", {}, dict.fromkeys(list_digests(12_000), 1))
        await state.rules.save_rule_status("r", status)
        await state.inputs.save("r", record)
        await state.images.record(JobReport("r", "s", "t/a", tags=[TagReport("1", Verdict.COPIED, "new")]))
        wanted = await _everything(state.ledger)
    for source, target in ((str(tmp_path / "old"), dsn), (dsn, str(tmp_path / "new"))):
        async with open_database(source, read_only=True) as old, open_database(target) as new:
            moved = await copy_state(old, new)
            assert moved.rows["blob"] == 12_005
            state = state_of(new)
            assert await _everything(state.ledger) == wanted
            assert len(await state.ledger.locate("t", list_digests(12_000))) == 12_000
            assert await state.rules.rule_status("r") == status
            assert await state.inputs.of_rule("r") == {"a.tar": record}
            assert [one.tag for one in await state.images.of_rule("r")] == ["1"]


def test_every_table_is_moved() -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as file:
        migrate_sqlite(file)
        found = {
            (str(table), str(column))
            for table, column in file.execute(
                "SELECT t.name, c.name FROM sqlite_schema AS t JOIN pragma_table_info(t.name) AS c"
            )
        }
    named = {("repository", "id"), ("repository", "target"), ("repository", "name")}
    for tables, before in ((_OWN, ("repository",)), (_OTHERS, ())):
        for table, (_, columns) in tables.items():
            named |= {(table, column.strip()) for column in (*before, *columns.split(","))}
    assert named == found
