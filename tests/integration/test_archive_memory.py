"""A big archive is converted with flat memory, and while that goes on the event loop answers."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from ocisync.stores.archive.docker_archive import open_docker_archive
from tests.integration.archives import Sink
from tests.servers.images import noise

MiB = 1024 * 1024
SIZE = 300 * MiB

CONVERT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import anyio
    from ocisync.stores.archive.open_any import open_any
    from ocisync.stores.archive.oci_layout_target import open_layout_target

    class Sink:
        def __init__(self, target): self.target = target
        async def lookup(self, diff_id): return None
        async def push(self, desc, opener): await self.target.push(desc, opener)
        async def record(self, diff_id, desc): pass

    async def main(path, scratch, layout):
        async with open_any(path, scratch=scratch) as source, open_layout_target(layout) as target:
            print((await source.convert("", Sink(target))).digest)

    anyio.run(main, *map(Path, sys.argv[1:]))
    status = Path("/proc/self/status").read_text()  # getrusage would count the parent before exec as well
    print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
    """
)


def big_archive(path: Path, *, packed: bool = False) -> Path:
    """A docker-archive with two layers that are SIZE together; compressible by half."""
    with (
        gzip.open(path, "wb", compresslevel=1) if packed else path.open("wb") as out,
        tarfile.open(fileobj=out, mode="w|") as archive,
    ):
        diff_ids = [_add_layer(archive, number) for number in range(2)]
        config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": diff_ids}})
        listed = json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": ["0.tar", "1.tar"]}])
        for name, text in (("c.json", config), ("manifest.json", listed)):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def _blocks(number: int) -> Iterator[bytes]:
    half = noise(MiB // 2, f"{number}") + bytes(MiB // 2)
    for count in range(SIZE // 2 // MiB):
        yield count.to_bytes(8, "big") + half[8:]


def _add_layer(archive: tarfile.TarFile, number: int) -> str:
    hasher = hashlib.sha256()
    for block in _blocks(number):
        hasher.update(block)
    info = tarfile.TarInfo(f"{number}.tar")
    info.size = SIZE // 2
    archive.addfile(info, _Reader(_blocks(number)))  # type: ignore[arg-type]
    return f"sha256:{hasher.hexdigest()}"


class _Reader:
    """A file object over blocks."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._rest += next(self._blocks)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


@pytest.mark.parametrize("packed", [False, True])
def test_fault_67_a_big_archive_is_converted_in_flat_memory(tmp_path: Path, packed: bool) -> None:
    path = big_archive(tmp_path / "big.tar", packed=packed)
    command: list[str | Path] = [sys.executable, "-c", CONVERT, path, tmp_path, tmp_path / "layout"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    digest, peak = done.stdout.splitlines()[-2:]  # the log comes before
    assert digest.startswith("sha256:")
    assert int(peak) < 100  # MiB


@pytest.mark.anyio
async def test_the_loop_answers_while_an_archive_is_converted(tmp_path: Path) -> None:
    path = await anyio.to_thread.run_sync(lambda: big_archive(tmp_path / "big.tar"))
    longest = 0.0
    finished = anyio.Event()

    async def look() -> None:
        nonlocal longest
        while not finished.is_set():
            began = anyio.current_time()
            await anyio.sleep(0.01)
            longest = max(longest, anyio.current_time() - began)

    class Nowhere(Sink):
        async def push(self, *_: object) -> None: ...
        async def record(self, *_: object) -> None: ...

    async with open_docker_archive(path, scratch=tmp_path) as source, anyio.create_task_group() as group:
        group.start_soon(look)
        await source.convert("", Nowhere())
        finished.set()
    assert longest < 0.5
    assert source.references() == ((),)


@pytest.mark.anyio
async def test_a_conversion_is_cancelled_within_a_moment(tmp_path: Path) -> None:
    path = await anyio.to_thread.run_sync(lambda: big_archive(tmp_path / "big.tar"))
    with anyio.move_on_after(0.2) as scope:
        async with open_docker_archive(path, scratch=tmp_path) as source:
            await source.convert("", Sink())
    assert scope.cancelled_caught
    assert anyio.current_time() - scope.deadline < 1
