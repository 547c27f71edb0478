"""Memory stays bounded however large a blob is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, Bucket

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]
MOST = 112 * MIB  # bytes of peak memory, Python and its libraries included


def peak_of(where: dict[str, object], size: int) -> int:
    """The peak memory in bytes of a process that pushes so many bytes."""
    command = [sys.executable, "-m", "tests.integration.static_writer", json.dumps(where), "push", str(size)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return int(done.stdout.split()[-1])


def test_a_large_blob_into_a_directory(tmp_path: Path) -> None:
    assert peak_of({"path": str(tmp_path / "registry")}, 600 * MIB) < MOST


@pytest.mark.parametrize("threshold", [1024 * MIB, 64 * MIB], ids=["one request", "parts"])
def test_a_large_blob_to_s3(bucket: Bucket, threshold: int) -> None:
    where = {
        "bucket": bucket.name, "endpoint": bucket.endpoint, "region": REGION, "path_style": True,
        "access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "multipart_threshold": threshold,
    }  # fmt: skip
    assert peak_of(where, 600 * MIB) < MOST
    (key,) = bucket.keys("v2/library/app/blobs/")
    assert bucket.client.head_object(Bucket=bucket.name, Key=key)["ContentLength"] == 600 * MIB
