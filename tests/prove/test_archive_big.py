"""A docker-archive of 3 GiB: 128 MiB of memory at most, and one layer spooled for each worker."""

from pathlib import Path

import pytest

from tests.integration.big import MIB
from tests.integration.test_archive_big import LAYERS, prove_archive
from tests.servers.skopeo import skopeo

pytestmark = pytest.mark.prove


def test_three_gibibytes(tmp_path: Path) -> None:
    prove_archive(tmp_path, 3072 * MIB, 900, "static", "oci-archive")
    skopeo("copy", f"oci-archive:{tmp_path}/out.tar:1", f"dir:{tmp_path}/out", timeout=900)
    held = {path.name.removeprefix("sha256:") for path in (tmp_path / "registry").rglob("blobs/sha256:*")}
    assert held <= {path.name for path in (tmp_path / "out").iterdir()}
    assert len(held) == LAYERS + 1
