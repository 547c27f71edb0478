"""Memory stays flat whatever a layer's size; tests/prove/test_memory.py does it with 2 GiB."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.big import MIB, big_archive, measured, push_big
from tests.integration.mainjob import ENV, KINDS, Kind, Place, open_place, readable, write_config
from tests.servers.docker_registry import DockerRegistry
from tests.servers.seaweed import Seaweed
from tests.servers.skopeo import skopeo

LIMIT = 128 * MIB
SIZE = 200 * MIB


def prove_from_registry(kind: Kind, size: int, folder: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    """From a registry, as it is."""
    layer = push_big(registry, "big/app", "1", size)
    with open_place(kind, folder / "registry", s3) as place:
        rule = {"source": f"{registry.host}/big/app", "target": "out"}
        _run(write_config(folder, {"out": place.settings}, sync=[rule]), f"{size // MIB} MiB, registry to {kind}")
        pulled = folder / "pulled"
        _pull(place, "big/app:1", pulled)
        assert _sha256(pulled / layer.digest[7:]) == layer.digest


def prove_from_archive(kind: Kind, size: int, folder: Path, s3: Seaweed) -> None:
    """From a docker archive, compressed on the way; to S3 in parts."""
    big_archive(folder / "drop/big.tar", "big/app:1", size)
    with open_place(kind, folder / "registry", s3, multipart_threshold="64MiB") as place:
        rule = {"path": str(folder / "drop"), "target": "out", "stable": "0s"}
        _run(write_config(folder, {"out": place.settings}, drop=[rule]), f"{size // MIB} MiB, archive to {kind}")
        _pull(place, "big/app:1", folder / "pulled")


def _run(file: Path, what: str) -> None:
    done = measured("once", "-c", file, env=ENV, timeout=900)
    assert done.code == 0, done.output
    print(f"{what}: {done.peak / MIB:.0f} MiB at most, {done.seconds:.1f} s")  # noqa: T201 (the proof's figure)
    assert done.peak <= LIMIT, f"{done.peak / MIB:.0f} MiB"


def _pull(place: Place, reference: str, to: Path) -> None:
    with readable(place) as host:
        assert urlsplit(f"//{host}").port
        skopeo("copy", "--src-tls-verify=false", f"docker://{host}/{reference}", f"dir:{to}", timeout=600)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_big_layer_of_a_registry(kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    prove_from_registry(kind, SIZE, tmp_path, registry, s3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_big_layer_of_an_archive(kind: Kind, tmp_path: Path, s3: Seaweed) -> None:
    prove_from_archive(kind, SIZE, tmp_path, s3)
