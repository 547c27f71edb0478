"""Folders of bundles into which others may write: links in them lend nothing, and trouble of the machine is told."""

import os
import resource
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ocisync.bundles.bundle_files import find_bundles, group_files, is_file
from ocisync.bundles.inbox import _move
from ocisync.bundles.inventory import BundleInventory, Volume
from ocisync.bundles.inventory_json import MAX_INVENTORY, parse_inventory, render_inventory
from ocisync.bundles.receipt import read_inventory_file, write_receipt
from ocisync.bundles.work_folder import MAX_SUMS, WorkFolder, add_sums, open_work_folder
from ocisync.content.files import FileGuard, open_folder_beneath
from ocisync.errors import BundleError, Handling, OcisyncError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256
from ocisync.model.media_types import OCI_INDEX

LINE = f"{'0' * 64}  m-0001.tar\n"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that nothing may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept").write_text(LINE)
    return folder


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    folder = tmp_path / "outbox"
    folder.mkdir()
    return folder


def check_untouched(outside: Path) -> None:
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_text() == LINE


def bring_out(work: WorkFolder) -> None:
    """Bring out a bundle without images, of one volume."""
    index = Descriptor(OCI_INDEX, sha256(b""), 0)
    inventory = BundleInventory("m", 1, volumes=(Volume(6, "0" * 64),), index=index)
    (work.path / "001.tar").write_bytes(b"volume")
    work.seal(render_inventory(inventory), b"signature", {"m-0001.tar": "0" * 64})
    work.bring_out(inventory)
    work.close()


def test_a_link_in_the_place_of_the_hidden_folder(outbox: Path, outside: Path) -> None:
    (outbox / ".m.partial").symlink_to(outside)
    with pytest.raises(OcisyncError, match=r"m\.partial"):
        open_work_folder(outbox, "m", 1)
    check_untouched(outside)


def test_a_hidden_folder_that_is_replaced_while_it_is_used(outbox: Path, outside: Path) -> None:
    work = open_work_folder(outbox, "m", 1)
    (outbox / ".m.partial").rename(outbox / "own")
    (outbox / ".m.partial").symlink_to(outside)
    work.begin(None, 0)
    assert (outbox / "own/journal.jsonl").is_file()
    work.clear()
    work.close()
    check_untouched(outside)


@pytest.mark.parametrize("name", ["SHA256SUMS", "m-0001.bundle.json", "m-0001.sigstore.json", "m-0001.tar"])
def test_a_link_in_the_place_of_what_is_brought_out(outbox: Path, outside: Path, name: str) -> None:
    work = open_work_folder(outbox, "m", 1)
    (outbox / name).symlink_to(outside / "kept")
    bring_out(work)
    check_untouched(outside)
    assert not any(path.is_symlink() for path in outbox.iterdir())
    raw = (outbox / "m-0001.bundle.json").read_bytes()
    assert render_inventory(parse_inventory(raw)) == raw, "the daemon keeps what it renders anew"


def test_sums_that_are_none_are_replaced(outbox: Path) -> None:
    os.mkfifo(outbox / "SHA256SUMS")
    with open_folder_beneath(outbox, ()) as root:
        add_sums(outbox, root, LINE)
        assert (outbox / "SHA256SUMS").read_text() == LINE
        with (outbox / "SHA256SUMS").open("wb") as file:
            file.truncate(MAX_SUMS + 1)
        add_sums(outbox, root, LINE)
    assert (outbox / "SHA256SUMS").read_text() == LINE


def test_another_process_at_work_is_waited_for(outbox: Path) -> None:
    work = open_work_folder(outbox, "m", 1)
    with pytest.raises(BundleError, match="another process") as caught:
        open_work_folder(outbox, "m", 1)
    assert (caught.value.code, caught.value.handling) == ("bundle.busy", Handling.RETRY)
    work.close()
    open_work_folder(outbox, "m", 1).close()


def test_receipts(outbox: Path, outside: Path) -> None:
    receipt = BundleInventory("m", 1, "receipt")
    (outbox / "m-0001.receipt.json").symlink_to(outside / "kept")
    with pytest.raises(BundleError):
        read_inventory_file(outbox, "m-0001.receipt.json")
    path = write_receipt(outbox, receipt)
    assert read_inventory_file(outbox, path.name) == render_inventory(receipt)
    (outbox / "receipts").symlink_to(outside)
    with pytest.raises(OcisyncError, match="cannot be written"):
        write_receipt(outbox / "receipts", receipt, outbox)
    check_untouched(outside)
    assert read_inventory_file(outbox, "m-0002.receipt.json") is None
    os.mkfifo(outbox / "m-0003.receipt.json")
    (outbox / "m-0004.receipt.json").write_bytes(b"")
    os.truncate(outbox / "m-0004.receipt.json", MAX_INVENTORY + 1)
    for number in (3, 4):
        with pytest.raises(BundleError):
            read_inventory_file(outbox, f"m-000{number}.receipt.json")


def test_links_in_an_inbox_are_nothing(outbox: Path, outside: Path) -> None:
    (outbox / "m-0001.bundle.json").symlink_to(outside / "kept")
    (outbox / "SHA256SUMS").symlink_to(outside / "kept")
    (outbox / "m-0002.bundle.json").write_text("")
    guard = FileGuard(outbox)
    assert not is_file(outbox / "m-0001.bundle.json", guard)
    (found,) = group_files([outbox / "m-0002.bundle.json"], guard)
    assert found.sums is None
    assert len(find_bundles([outbox])) == 2, "who names a medium on the command line may have links there"


def test_files_are_moved_to_another_file_system(outbox: Path) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == outbox.stat().st_dev:
        pytest.skip("there is no other file system")
    (outbox / "m-0001.tar").write_bytes(b"volume" * 300_000)
    with TemporaryDirectory(dir=shared) as folder:
        _move(outbox, Path(folder) / "done", ["m-0001.tar"])
        assert (Path(folder) / "done/m-0001.tar").read_bytes() == b"volume" * 300_000
    assert not list(outbox.iterdir())


def test_a_process_without_descriptors_does_not_miss_files(outbox: Path) -> None:
    (outbox / "m-0001.sigstore.json").write_text("")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
        with suppress(OSError):
            while True:
                taken.append(os.open(outbox, os.O_RDONLY))
        with pytest.raises(OcisyncError) as caught:
            is_file(outbox / "m-0001.sigstore.json", FileGuard(outbox))
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (caught.value.code, caught.value.handling) == ("limit.files", Handling.RETRY)
