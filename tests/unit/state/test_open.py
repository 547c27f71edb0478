"""The state: a ledger, rules and inputs that outlive the process, and a file that may be damaged at any time."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from ocisync.errors import ConfigError, DiskError, Handling, StoreError
from ocisync.model.digest import sha256
from ocisync.state.database import FILE_NAME, SqliteDatabase, migrate, version_of
from ocisync.state.lock import LOCK_NAME, daemon_lock, hold_daemon_lock
from ocisync.state.migrations import APPLICATION_ID, STEPS
from ocisync.state.open import State, open_state
from ocisync.state.rule_records import RuleStatus, StoredRuleRecords
from ocisync.sync.ledger import Published
from tests.ledger_samples import fill_ledger, list_digests


async def test_ten_thousand_tags_take_little_room(tmp_path: Path) -> None:
    tags = {f"v{number}": Published(digest, 1.0) for number, digest in enumerate(list_digests(10_000))}
    async with open_state(tmp_path) as state:
        await state.ledger.record("t", "a", tags, {known.digest: 1 for known in tags.values()})
    assert (tmp_path / FILE_NAME).stat().st_size < 4096 * 10_000


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 + 100])


def _garble(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(len(data) - 4096))


def _replace_by_text(path: Path) -> None:
    path.write_text("this is no database\n" * 1000)


def _replace_by_another_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()


def _overwrite(folder: Path) -> None:
    for path in folder.glob(f"{FILE_NAME}*"):
        path.write_bytes(b"\xa5" * max(path.stat().st_size, 4096))


def _kept(folder: Path, kind: str) -> list[Path]:
    return list(folder.glob(f"{FILE_NAME}.{kind}-*"))


def _drop_tables(path: Path) -> None:
    with sqlite3.connect(path) as ours:
        for table in ("tag", "blob", "layer", "input", "note"):
            ours.execute(f"DROP TABLE {table}")
    ours.close()


def _drop_a_column(path: Path) -> None:
    with sqlite3.connect(path) as ours:
        ours.execute("ALTER TABLE rule DROP COLUMN next_due")
    ours.close()


DAMAGES = [_truncate, _garble, _replace_by_text, _replace_by_another_database, _drop_tables, _drop_a_column]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_fault_51_a_damaged_state_is_moved_aside_and_begun_anew(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async with open_state(tmp_path) as state:
        await fill_ledger(state.ledger)
        await state.ledger.record("t", "many", {}, dict.fromkeys(list_digests(2000), 1))
    damage(tmp_path / FILE_NAME)
    with capture_logs() as logs:
        async with open_state(tmp_path) as state:
            assert await state.ledger.get_published("t", "a") == {}
            await _works(state)
    assert [entry["event"] for entry in logs] == ["state.rebuilt"]
    assert _kept(tmp_path, "damaged")


async def _works(state: State) -> None:
    await fill_ledger(state.ledger)
    assert set(await state.ledger.get_published("t", "a")) == {"1", "2"}


async def test_fault_51_a_state_garbled_while_it_is_used_is_rebuilt_once_and_the_call_goes_on(tmp_path: Path) -> None:
    async with open_state(tmp_path) as state:
        await fill_ledger(state.ledger)
    async with open_state(tmp_path) as state:
        _overwrite(tmp_path)
        with capture_logs() as logs:
            await state.ledger.record("t", "a", {"1": Published(list_digests(1)[0], 1.0)}, {})
        assert set(await state.ledger.get_published("t", "a")) == {"1"}
    assert [entry["event"] for entry in logs] == ["state.rebuilt"]


async def test_a_large_file_is_looked_through_where_it_is_asked_for_else_where_damage_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_state(tmp_path) as state:
        await fill_ledger(state.ledger)
        for start in range(10):
            await state.ledger.record("t", f"r{start}", {}, dict.fromkeys(list_digests(2000), start))
    path = tmp_path / FILE_NAME
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\xa5" * (len(data) - len(data) // 2))
    monkeypatch.setattr("ocisync.state.database._SMALL", 4096)
    with capture_logs() as logs:
        async with open_state(tmp_path, read_only=True) as status:
            assert await status.rules.rule_status("app") is None
        async with open_state(tmp_path):
            pass
    assert logs == []
    with capture_logs() as logs:
        async with open_state(tmp_path, in_full=True) as state:
            await _works(state)
    assert [entry["event"] for entry in logs] == ["state.rebuilt"]


async def test_fault_51_a_value_that_cannot_be_is_no_answer(tmp_path: Path) -> None:
    async with open_state(tmp_path) as state:
        await fill_ledger(state.ledger)
        with sqlite3.connect(tmp_path / FILE_NAME) as other:
            other.execute("UPDATE tag SET digest = 'sha256:../../x'")
        other.close()
        assert await state.ledger.get_published("t", "a") == {}
        await _works(state)


async def test_a_newer_state_is_moved_aside(tmp_path: Path) -> None:
    async with open_state(tmp_path):
        pass
    with sqlite3.connect(tmp_path / FILE_NAME) as newer:
        newer.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    newer.close()
    async with open_state(tmp_path) as state:
        await _works(state)
    assert _kept(tmp_path, "newer")


def test_an_older_state_is_upgraded_step_by_step() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    first = ("CREATE TABLE a (x); INSERT INTO a VALUES (1)",)
    assert migrate(connection, first) == 0
    assert migrate(connection, (*first, "ALTER TABLE a ADD COLUMN y DEFAULT 2", "UPDATE a SET x = x + y")) == 1
    assert connection.execute("SELECT x, y FROM a").fetchall() == [(3, 2)]
    assert version_of(connection) == 3
    connection.close()


def _write_before_roots(path: Path) -> None:
    older = sqlite3.connect(path, isolation_level=None)
    older.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    migrate(older, STEPS[:4])
    older.execute("INSERT INTO repository VALUES (1, 't', 'a')")
    older.execute("INSERT INTO tag VALUES (1, '1', ?, 10.0, '', '')", list_digests(1))
    older.close()


async def test_tags_of_an_older_state_are_known_without_what_it_did_not_keep(tmp_path: Path) -> None:
    await anyio.to_thread.run_sync(_write_before_roots, tmp_path / FILE_NAME)
    async with open_state(tmp_path) as state:
        (known,) = (await state.ledger.get_published("t", "a")).values()
        assert known == Published(list_digests(1)[0], 10.0)
        assert known.root is None


def test_a_step_that_fails_leaves_the_version_before_it() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, ("CREATE TABLE a (x)", "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1)"))
    connection.rollback()
    assert version_of(connection) == 1
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("a",)]
    connection.close()


async def test_reading_works_beside_a_writer_and_where_nothing_is(tmp_path: Path) -> None:
    async with open_state(tmp_path / "none", read_only=True) as state:
        assert await state.ledger.get_published("t", "a") == {}
    assert not (tmp_path / "none").exists()
    async with open_state(tmp_path) as daemon, open_state(tmp_path, read_only=True) as status:
        await _works(daemon)
        await _works_to_read(status)


async def _works_to_read(state: State) -> None:
    assert set(await state.ledger.get_published("t", "a")) == {"1", "2"}
    with pytest.raises(DiskError):
        await state.ledger.forget("t", "a")


async def test_of_what_is_written_together_one_that_fails_fails_alone_and_leaves_nothing(tmp_path: Path) -> None:
    def failing(rows: sqlite3.Connection) -> None:
        rows.execute("UPDATE rule SET failures = 9")
        rows.execute("INSERT INTO rule (name, failures) VALUES (1, 2, 3)")

    refused = []
    database = SqliteDatabase(tmp_path)
    await database.open()

    rules = StoredRuleRecords(database)

    async def write(name: str) -> None:
        await rules.save_rule_status(name, RuleStatus(failures=1))

    async def fail() -> None:
        with pytest.raises(StoreError, match="3 values for 2 columns"):
            await database.write(failing)
        refused.append("alone")

    async with anyio.create_task_group() as group:
        for name in ("first", "second"):
            group.start_soon(write, name)
        group.start_soon(fail)
        for name in ("third", "fourth"):
            group.start_soon(write, name)
    statuses = [await rules.rule_status(name) for name in ("first", "second", "third", "fourth")]
    await database.close()
    assert refused
    assert [status and status.failures for status in statuses] == [1, 1, 1, 1]


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="state folder"):
        async with open_state(tmp_path / "file" / "state"):
            pass


async def test_a_closed_state_refuses(tmp_path: Path) -> None:
    async with open_state(tmp_path) as state:
        pass
    with pytest.raises(StoreError, match="closed"):
        await state.rules.rule_status("r")


HOLD = """
import sys
from pathlib import Path
from ocisync.state.lock import hold_daemon_lock
with hold_daemon_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_fault_59_a_second_daemon_on_the_same_state_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        assert first.stdout.readline() == "held\n"
        with pytest.raises(ConfigError) as refused, hold_daemon_lock(tmp_path):
            pass
        assert (refused.value.code, refused.value.handling) == ("state.locked", Handling.EXIT)
        assert f"pid {first.pid})" in refused.value.message
        first.kill()
    with hold_daemon_lock(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"
    assert (tmp_path / LOCK_NAME).read_text() == ""


async def test_fault_59_the_lock_inside_an_event_loop(tmp_path: Path) -> None:
    async with daemon_lock(tmp_path):
        with pytest.raises(ConfigError, match=f"pid {os.getpid()}"):
            async with daemon_lock(tmp_path):
                pass
    async with daemon_lock(tmp_path):
        pass


RECORD = """
import sys, anyio
from pathlib import Path
from ocisync.state.open import open_state
from ocisync.model.digest import sha256
from ocisync.sync.ledger import Published

async def main():
    async with open_state(Path(sys.argv[1])) as state:
        for tag in ("1", "2"):
            await state.ledger.record("t", "a", {tag: Published(sha256(tag.encode()), 1.0)}, {sha256(b"b"): 1})

anyio.run(main)
"""


async def test_fault_57_killed_before_a_commit_the_ledger_is_as_before_and_the_rerun_completes_it(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", RECORD, str(tmp_path)]
    killed = await anyio.run_process(command, env={**os.environ, "OCISYNC_KILL_AT": "ledger@2"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    async with open_state(tmp_path, read_only=True) as state:
        assert set(await state.ledger.get_published("t", "a")) == {"1"}
    await anyio.run_process(command)
    async with open_state(tmp_path, read_only=True) as state:
        assert set(await state.ledger.get_published("t", "a")) == {"1", "2"}
    assert not _kept(tmp_path, "damaged")


async def test_tables_that_vanish_while_the_state_is_used_are_made_anew(tmp_path: Path) -> None:
    async with open_state(tmp_path) as state:
        _drop_tables(tmp_path / FILE_NAME)
        await state.ledger.record("t", "a", {}, {sha256(b"x"): 1})
        assert await state.inputs.of_rule("r") == {}
        assert await state.ledger.locate("t", [sha256(b"x")]) == {sha256(b"x"): "a"}
    assert len(_kept(tmp_path, "damaged")) == 1


def _modes(folder: Path) -> dict[str, int]:
    paths = {".": folder, **{path.name: path for path in folder.iterdir()}}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in paths.items()}


def _let_all_read(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o644)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_only_the_owner_may_open_the_state(tmp_path: Path, umask: int) -> None:
    folder, before = tmp_path / "state", os.umask(umask)
    try:
        async with daemon_lock(folder), open_state(folder) as state:
            await state.inputs.of_rule("r")
            modes = _modes(folder)
    finally:
        os.umask(before)
    assert modes.pop(".") == 0o700
    assert {"daemon.lock", FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"} <= modes.keys()
    assert set(modes.values()) == {0o600}


async def test_a_state_that_all_could_open_is_made_private(tmp_path: Path) -> None:
    async with open_state(tmp_path) as state:
        await state.inputs.of_rule("r")
    _let_all_read(tmp_path)
    async with open_state(tmp_path):
        modes = _modes(tmp_path)
    del modes["."]
    assert set(modes.values()) == {0o600}
