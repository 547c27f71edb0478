"""Many readers of one large blob of a directory: `ocisync serve` beside nginx, with the same readers in turn."""

import hashlib
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers.command import served
from tests.servers.nginx import nginx

pytestmark = pytest.mark.prove
READERS = 64
SIZE = 256 << 20  # bytes
TURNS = 3
LEAST = 0.8  # of what nginx sends in the same time


def test_64_readers_of_a_directory(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    path = _put_blob(root)
    seconds: dict[str, list[float]] = {"ocisync": [], "nginx": []}
    for _ in range(TURNS):
        with served(root) as url:
            seconds["ocisync"].append(_read(f"{url}{path}"))
        with nginx(tmp_path / "nginx", f"root {root}; sendfile on; tcp_nopush on;") as url:
            seconds["nginx"].append(_read(f"{url}{path}"))
    reached = statistics.median(seconds["nginx"]) / statistics.median(seconds["ocisync"])
    print(f"{READERS} readers: {reached:.2f} of nginx's throughput; seconds: {seconds}")  # noqa: T201 (the figure)
    assert reached >= LEAST


def _put_blob(root: Path) -> str:
    """A blob of a static registry; its path in the URL."""
    data = random.Random(1).randbytes(1 << 20) * (SIZE >> 20)
    path = f"/v2/app/blobs/sha256:{hashlib.sha256(data).hexdigest()}"
    (root / path[1:]).parent.mkdir(parents=True)
    (root / path[1:]).write_bytes(data)
    return path


def _read(url: str) -> float:
    """Seconds until all readers have all of it."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.prove.many_readers", url, str(READERS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) >= READERS * SIZE
    return time.monotonic() - began
