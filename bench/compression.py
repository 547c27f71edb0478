"""A bare conversion of an archive's layers, `python -m bench.compression FILE RESULT`: the least that Python needs.

Each layer is read, hashed, compressed by the library, level and blocks that ocisync uses, hashed again and written,
by as many threads as there are CPUs, with nothing around it.
"""

import hashlib
import json
import os
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import deflate

from bench.storage import MIB

NAME = "bare compression"


class _Layer:
    """A layer on its way: read in order, compressed side by side, written in order."""

    def __init__(self, archive: BinaryIO, size: int, out: Path) -> None:
        self._archive = archive
        self._left = size
        self._out = out.open("wb")
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._hashes = hashlib.sha256(), hashlib.sha256()
        self._ready: dict[int, bytes | bytearray] = {}
        self._read = self._written = 0  # blocks

    def work(self, _: int) -> None:
        while (block := self._take()) is not None:
            data = deflate.gzip_compress(block[1], 1)
            with self._writing:
                self._ready[block[0]] = data
                for following in self._follow():
                    self._hashes[1].update(following)
                    self._out.write(following)

    def _take(self) -> tuple[int, bytes] | None:
        with self._reading:
            if not (block := self._archive.read(min(MIB, self._left))):
                return None
            self._left -= len(block)
            self._hashes[0].update(block)
            self._read += 1
            return self._read - 1, block

    def _follow(self) -> Iterator[bytes | bytearray]:
        while self._written in self._ready:
            yield self._ready.pop(self._written)
            self._written += 1

    def finish(self) -> None:
        for hasher in self._hashes:
            hasher.hexdigest()
        self._out.close()


def _convert(path: Path, folder: Path) -> dict[str, float]:
    threads = os.cpu_count() or 1
    began, used = time.monotonic(), time.process_time()
    with tarfile.open(path) as archive, path.open("rb", buffering=0) as file, ThreadPoolExecutor(threads) as pool:
        for number, member in enumerate(archive.getmembers()):
            file.seek(member.offset_data)
            layer = _Layer(file, member.size, folder / f"{number}.gz")
            list(pool.map(layer.work, range(threads)))
            layer.finish()
    return {"wall": time.monotonic() - began, "cpu": time.process_time() - used}


def main() -> None:
    """Convert the archive that the file names, and write how long it took."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps(_convert(Path(asked["archive"]), Path(asked["folder"]))))


if __name__ == "__main__":
    main()
