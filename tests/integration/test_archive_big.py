"""A big docker-archive is copied with flat memory and without a temporary copy; tests/prove does it with 3 GiB."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired
from time import monotonic

from tests.integration.big import MIB, LayerFile
from tests.servers.command import started

LIMIT = 128 * MIB
WORKERS = 3  # layers that are compressed at a time
LAYERS = 12
PLACES = {"static": "static:{}/registry//big/app:1", "oci-archive": "oci-archive:{}/out.tar:1"}


def archive_of_layers(path: Path, size: int) -> int:
    """A docker-archive of LAYERS layers that are `size` bytes together; one layer's size."""
    diff_ids, each = [], 0
    with tarfile.open(path, "w") as archive:
        for number in range(LAYERS):
            name = f"{number}/layer.tar"
            layer = LayerFile(size // LAYERS + number * MIB)  # so that they differ
            member = tarfile.TarInfo(name)
            member.size = each = layer.total
            hashing = _Hashing(layer)
            archive.addfile(member, hashing)  # type: ignore[arg-type]
            diff_ids.append(f"sha256:{hashing.hasher.hexdigest()}")
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        names = [f"{number}/layer.tar" for number in range(LAYERS)]
        listed = [{"Config": "config.json", "RepoTags": ["big/app:1"], "Layers": names}]
        for name, document in (("config.json", config), ("manifest.json", listed)):
            data = json.dumps(document).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return each


class _Hashing:
    """A file object that hashes what is read."""

    def __init__(self, file: LayerFile) -> None:
        self._file = file
        self.hasher = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self.hasher.update(data)
        return data


def copied(source: Path, place: str, scratch: Path, timeout: float) -> tuple[int, int]:
    """Peak memory and the most that lay in temporary files at a time, in bytes."""
    scratch.mkdir()
    memory = spooled = 0
    deadline = monotonic() + timeout
    with started("copy", source, place, env={"TMPDIR": str(scratch)}, is_fork=False) as child:
        process = Path(f"/proc/{child.process.pid}")
        while monotonic() < deadline:
            found = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
            memory = max(memory, int(found[1]) * 1024 if found else 0)
            spooled = max(spooled, _spooled(process, scratch))
            try:
                code = child.process.wait(0.02)
            except TimeoutExpired:
                continue
            assert code == 0, child.output
            return memory, spooled
    raise TimeoutError(f"the copy to {place} still runs after {timeout:g} s")


def _spooled(process: Path, scratch: Path) -> int:
    """How much the process keeps in files of a folder, those without a name included."""
    total = 0
    for link in (process / "fd").glob("*"):
        with suppress(OSError):  # closed meanwhile
            if str(link.readlink()).startswith(f"{scratch}/"):
                total += link.stat().st_size
    return total


def prove_archive(folder: Path, size: int, timeout: float, *transports: str) -> None:
    """To each of some places: flat memory, and one spooled layer for each worker, never the image."""
    layer = archive_of_layers(folder / "big.tar", size)
    for transport in transports:
        place = PLACES[transport].format(folder)
        memory, spooled = copied(folder / "big.tar", place, folder / f"scratch-{transport}", timeout)
        told = f"{size // MIB} MiB to {transport}: {memory // MIB} MiB of memory, {spooled // MIB} MiB spooled"
        print(told)  # noqa: T201 (the proof's figures)
        assert memory <= LIMIT, told
        assert 0 < spooled <= (WORKERS + 0.1) * layer, told


def test_a_big_archive_is_copied_with_flat_memory_and_no_copy_of_it(tmp_path: Path) -> None:
    prove_archive(tmp_path, 300 * MIB, 100, "oci-archive")  # test_memory.py does it to static registries
    with tarfile.open(tmp_path / "out.tar") as archive:
        listed = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
    assert len(listed[0]["Layers"]) == LAYERS
