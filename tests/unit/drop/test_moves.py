"""Files are moved and deleted by descriptors: whoever may drop files cannot have others moved, written or deleted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ocisync.drop.disposal import REASON, clear_done, quarantine, remove_old
from ocisync.drop.inputs import Input, InputMember
from ocisync.drop.moves import restore
from ocisync.drop.rule import DropRule, DropTarget
from ocisync.drop.scan import DELETING, FolderEntry, scan
from ocisync.errors import DiskError, InputChanged
from ocisync.sync.reports import Failure

BAD = Failure("archive.invalid", "it is no archive", "quarantine")
DAY = 86400.0


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder that the daemon may write to, and the dropper may not."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "precious.tar").write_text("PRECIOUS")
    return folder


def _rule(tmp_path: Path, done: str = "move") -> DropRule:
    (tmp_path / "drop").mkdir(exist_ok=True)
    return DropRule("builds", tmp_path / "drop", (DropTarget("local"),), done=done)  # type: ignore[arg-type]


def _put(rule: DropRule, relative: str, content: str = "dropped") -> Input:
    path = rule.path / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return Input(relative, (InputMember(_entry(rule, relative)),), "app", "1")


def _entry(rule: DropRule, relative: str) -> FolderEntry:
    (found,) = [entry for entry in scan(rule).entries if entry.relative == relative]
    return found


def _refuse(dropped: Input, rule: DropRule) -> str:
    return quarantine(dropped, rule, BAD, 0.0)


@pytest.mark.parametrize(("act", "folder"), [(_refuse, "failed"), (clear_done, "done")])
@pytest.mark.parametrize("below", ["", "team/"])
def test_a_link_in_place_of_the_done_or_failed_folder_is_not_followed(
    tmp_path: Path, victim: Path, act: Callable[[Input, DropRule], str], folder: str, below: str
) -> None:
    rule = _rule(tmp_path)
    dropped = _put(rule, f"{below}evil.tar")
    if below:
        (rule.path / folder).mkdir()
        (rule.path / folder / "team").symlink_to(victim)
    else:
        (rule.path / folder).symlink_to(victim)
    with pytest.raises(DiskError, match=folder):
        act(dropped, rule)
    assert [path.name for path in victim.iterdir()] == ["precious.tar"]
    assert (rule.path / f"{below}evil.tar").read_text() == "dropped"


def test_a_reason_is_written_through_no_link(tmp_path: Path, victim: Path) -> None:
    rule = _rule(tmp_path)
    dropped = _put(rule, "evil.tar")
    rule.failed_path.mkdir()
    for name in (f"evil.tar{REASON}", f".evil.tar{REASON}.part"):
        (rule.failed_path / name).symlink_to(victim / "precious.tar")
    assert _refuse(dropped, rule) == "quarantined"
    assert (victim / "precious.tar").read_text() == "PRECIOUS"
    reason = rule.failed_path / f"evil.tar{REASON}"
    assert not reason.is_symlink()
    assert "it is no archive" in reason.read_text()


def test_a_reason_has_no_lines_of_the_droppers(tmp_path: Path) -> None:
    rule = _rule(tmp_path)
    said = Failure("archive.invalid", "bad member 'x\nssh-ed25519 KEY\r\x1b[2J\ud800'", "quarantine")
    quarantine(_put(rule, "evil.tar"), rule, said, 0.0)
    text = (rule.failed_path / f"evil.tar{REASON}").read_text()
    assert len(text.splitlines()) == 9
    assert "\x1b" not in text
    assert r"x\nssh-ed25519 KEY" in text


def test_a_link_under_the_name_in_the_failed_folder_is_left_and_another_name_taken(
    tmp_path: Path, victim: Path
) -> None:
    rule = _rule(tmp_path)
    dropped = _put(rule, "evil.tar")
    rule.failed_path.mkdir()
    (rule.failed_path / "evil.tar").symlink_to(victim / "precious.tar")
    _refuse(dropped, rule)
    assert (rule.failed_path / "evil.tar.2").read_text() == "dropped"
    assert (victim / "precious.tar").read_text() == "PRECIOUS"


def test_a_file_whose_folder_was_swapped_for_a_link_is_not_deleted(tmp_path: Path, victim: Path) -> None:
    rule = _rule(tmp_path, "delete")
    dropped = _put(rule, "team/precious.tar", "PRECIOUS")
    (rule.path / "team").rename(rule.path / "away")
    (rule.path / "team").symlink_to(victim)
    with pytest.raises(DiskError):
        clear_done(dropped, rule)
    assert (victim / "precious.tar").read_text() == "PRECIOUS"


@pytest.mark.parametrize("done", ["move", "delete"])
def test_another_file_of_the_same_name_and_size_is_left_alone(tmp_path: Path, done: str) -> None:
    rule = _rule(tmp_path, done)
    dropped = _put(rule, "a.tar", "first")
    was = (rule.path / "a.tar").stat()
    (rule.path / "a.tar").rename(tmp_path / "kept")
    (rule.path / "a.tar").write_text("other")
    os.utime(rule.path / "a.tar", ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(InputChanged):
        clear_done(dropped, rule)
    assert (rule.path / "a.tar").read_text() == "other"


def test_old_files_are_removed_through_no_link(tmp_path: Path, victim: Path) -> None:
    rule = _rule(tmp_path)
    rule.failed_path.mkdir()
    (rule.failed_path / "linked").symlink_to(victim)
    (rule.failed_path / "old.tar").write_text("")
    (rule.failed_path / "file.tar").symlink_to(victim / "precious.tar")
    layout = rule.failed_path / "team/app"
    layout.mkdir(parents=True)
    (layout / "oci-layout").write_text("{}")
    (layout / "in").symlink_to(victim)
    assert len(remove_old(rule, rule.failed_path, DAY, layout.stat().st_ctime + 2 * DAY)) == 3
    assert (victim / "precious.tar").read_text() == "PRECIOUS"
    assert [path.name for path in rule.failed_path.iterdir()] == ["linked"]
    other = _rule(tmp_path)
    (rule.failed_path / "linked").unlink()
    rule.failed_path.rmdir()
    rule.failed_path.symlink_to(victim)
    with pytest.raises(DiskError):
        remove_old(other, other.failed_path, 0.0, 9e9)
    assert (victim / "precious.tar").exists()


@pytest.mark.parametrize("name", ["", ".", "..", DELETING, "x.tar"])
def test_leftovers_of_any_name_do_no_harm(tmp_path: Path, name: str) -> None:
    rule = _rule(tmp_path)
    (rule.path / f"{DELETING}{name}").write_text("")
    for leftover in scan(rule).leftovers:
        restore(rule.path, leftover)
    assert (rule.path / "x.tar").exists() == (name == "x.tar")


def test_names_that_are_as_long_as_can_be_are_moved_and_deleted(tmp_path: Path) -> None:
    name = "n" * 251 + ".tar"
    _refuse(_put(_rule(tmp_path), name), _rule(tmp_path))
    moved = sorted(path.name for path in (tmp_path / "drop/failed").iterdir())
    assert len(moved) == 2
    assert name in moved
    assert clear_done(_put(_rule(tmp_path), name), _rule(tmp_path, "delete")) == "deleted"


def test_an_unreadable_file_is_told_with_its_mode_and_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = _rule(tmp_path)
    _put(rule, "a.tar")
    (rule.path / "a.tar").chmod(0o600)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root may read everything
    (reason,) = scan(rule).skipped.values()
    assert all(text in reason for text in ("0600", "chmod a+r", "docker save IMAGE > a.tar"))
