"""A kill in the middle of a big blob: the next run reads next to nothing again; tests/prove does it with 2 GiB."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from tests.integration.big import MIB, measured, push_big
from tests.integration.mainjob import ENV, BucketPlace, open_place, readable, write_config
from tests.integration.test_memory import LIMIT
from tests.servers.command import started
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy, fault_proxy
from tests.servers.faults import Stall
from tests.servers.process import wait_for
from tests.servers.seaweed import Seaweed
from tests.servers.skopeo import skopeo

Kind = Literal["directory", "s3", "registry"]
KINDS: tuple[Kind, ...] = ("directory", "s3", "registry")
NAME = "big/app"
SIZE = 96 * MIB
_PARTS = {"multipart_threshold": "64MiB", "part_size": "5MiB"}
_LONG = 300.0  # seconds


def prove_resume(kind: Kind, size: int, folder: Path, registry: DockerRegistry, s3: Seaweed, **daemon: object) -> None:
    """Kill when half has come, run again, and count what the source sent."""
    layer = push_big(registry, NAME, "1", size)
    blob = f"/blobs/{layer.digest}"
    with fault_proxy(registry.url) as source, resumed_target(kind, folder, s3) as (settings, kept, host):
        rule = {"source": f"{source.host}/{NAME}", "target": "out"}
        file = write_config(folder, {"out": settings}, sync=[rule], daemon=daemon)
        source.on("GET", blob, Stall(size // 2), times=1)
        with started("once", "-c", file, env=ENV) as child:
            wait_for(lambda: kept() > size // 2 - 6 * MIB, "half of the blob", _LONG)
            child.kill()
        done = measured("once", "-c", file, env=ENV, timeout=900)
        assert done.code == 0, done.output
        assert done.peak <= LIMIT, f"{done.peak / MIB:.0f} MiB"
        _check_reads(source, blob, layer.size)
        skopeo("copy", "--src-tls-verify=false", f"docker://{host()}/{NAME}:1", f"dir:{folder / 'pulled'}", timeout=900)


def _check_reads(source: FaultProxy, blob: str, size: int) -> None:
    reads = source.seen("GET", blob)
    again = sum(one.sent for one in reads) - size
    print(f"{again / MIB:.1f} MiB of {size / MIB:.0f} MiB were read again, by {len(reads)} requests")  # noqa: T201
    assert len(reads) == 2
    assert "range" in reads[1].headers
    assert 0 <= again < size / 10


@contextmanager
def resumed_target(
    kind: Kind, folder: Path, s3: Seaweed
) -> Iterator[tuple[dict[str, object], Callable[[], int], Callable[[], str]]]:
    """The target's settings, what is safe of an upload to it, and where it is pulled from."""
    if kind == "registry":
        with docker_registry(folder / "target") as target:
            spool = folder / "state/tmp/spool"
            kept = lambda: sum(path.stat().st_size for path in spool.glob("sha256-*"))  # noqa: E731
            yield {"type": "registry", "url": target.url}, kept, lambda: target.host
        return
    if kind == "directory":
        with open_place("directory", folder / "target", s3) as place, readable(place) as host:
            kept = lambda: sum(path.stat().st_size for path in (folder / "target").rglob("part-*"))  # noqa: E731
            yield place.settings, kept, lambda: host
        return
    with open_place("s3", folder / "bucket", s3, **_PARTS) as place, readable(place) as host:
        assert isinstance(place, BucketPlace)
        yield place.settings, lambda: _parts(place), lambda: host


def _parts(place: BucketPlace) -> int:
    client, bucket, total = place.bucket.client, place.bucket.name, 0
    for key in place.bucket.uploads():
        for upload in client.list_multipart_uploads(Bucket=bucket)["Uploads"]:
            parts = client.list_parts(Bucket=bucket, Key=key, UploadId=upload["UploadId"]).get("Parts", [])
            total += sum(part["Size"] for part in parts)
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_in_the_middle_of_a_blob(kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    prove_resume(kind, SIZE, tmp_path, registry, s3, spool_from="64MiB")
