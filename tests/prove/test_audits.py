"""The long proofs of static registries that many write to, and that are large."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ocisync.spec import media_types
from ocisync.spec.descriptor import Descriptor
from ocisync.spec.referrers import referrers_body
from ocisync.stores.static import layout
from tests.contract.graphs import described
from tests.integration.registry_writer import Moves
from tests.integration.static_targets import KINDS, Kind
from tests.integration.test_gc_writers import new_place, prove_collection, prove_tags
from tests.servers.seaweed import Seaweed

pytestmark = pytest.mark.prove
MOVES: dict[Kind, Moves] = {
    "directory": Moves(turns=60, variants=16, grace=0.3),
    "s3": Moves(turns=60, variants=40, grace=3.0),
}
MIB = 1 << 20
RUNS, TAGS = 20, 50
ROOT = Path(__file__).parents[2]
LAYERS, PER_REPOSITORY = 7, 10  # 7 layers, a configuration, a manifest, a tag and a list: 11 objects for each image


@pytest.mark.parametrize("conditional", [True, False], ids=["conditional", "unconditional"])
async def test_400_tags_by_8_processes_20_times(conditional: bool, tmp_path: Path, s3: Seaweed) -> None:
    for _ in range(RUNS):
        await prove_tags(new_place("s3", tmp_path, s3), conditional, 8, TAGS)


@pytest.mark.parametrize("kind", KINDS)
async def test_collecting_beside_4_writers_50_times(kind: Kind, tmp_path: Path, s3: Seaweed) -> None:
    rounds = removed = 0
    for number in range(50):
        found = await prove_collection(new_place(kind, tmp_path / str(number), s3), 4, MOVES[kind], tmp_path)
        rounds, removed = rounds + found[0], removed + found[1]
    print(f"{kind}: {rounds} collections beside writers removed {removed} objects")  # noqa: T201 (the figure)
    assert removed > 0


def fill(root: Path, images: int) -> int:
    """So many tiny images, ten to a repository, every other one without a tag, all old; the number of objects."""
    names = sorted({f"r{number // PER_REPOSITORY:05}" for number in range(images)})
    for number in range(images):
        blobs = [(described(data), data) for data in (f"{number} {part}".encode() for part in range(LAYERS + 1))]
        raw = _manifest([desc for desc, _ in blobs])
        base, digest = root / f"v2/r{number // PER_REPOSITORY:05}", described(raw).digest
        parts = {f"blobs/{desc.digest}": data for desc, data in blobs}
        parts |= {f"manifests/{digest}": raw, f"referrers/{digest}": referrers_body({})}
        if number % PER_REPOSITORY == 0:
            tags = [f"v{one}" for one in range(number, min(number + PER_REPOSITORY, images)) if one % 2]
            parts["tags/list"] = layout.tags_list_body(base.name, tags)
        for key, data in parts.items():
            (base / key).parent.mkdir(parents=True, exist_ok=True)
            (base / key).write_bytes(data)
            os.utime(base / key, (1, 1))
        if number % 2:
            os.link(base / f"manifests/{digest}", base / f"manifests/v{number}")
    (root / layout.CATALOG_KEY).write_bytes(layout.catalog_body(names))
    return images * (LAYERS + 3) + images // 2 + len(names) + 1


def _manifest(blobs: list[Descriptor]) -> bytes:
    config, *layers = [{"mediaType": one.media_type, "digest": one.digest, "size": one.size} for one in blobs]
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": layers}
    return json.dumps(document).encode()


def test_200_000_objects(tmp_path: Path) -> None:
    count = fill(tmp_path / "registry", 19_100)
    assert count >= 200_000
    place = f"static:{tmp_path / 'registry'}"
    plan, peak = measured(tmp_path, "gc", place, "--dry-run", "--json")
    assert json.loads(plan)["plan"]["doomed"] == 19_100 // 2 * (LAYERS + 2)
    assert peak < 200 * MIB
    print(f"gc plan over {count} objects: peak {peak // MIB} MiB")  # noqa: T201 (the figure)
    report, peak = measured(tmp_path, "verify", place, "--json")
    assert json.loads(report)["ok"]
    assert peak < 200 * MIB
    print(f"verify of {count} objects: peak {peak // MIB} MiB")  # noqa: T201 (the figure)


def measured(cwd: Path, *arguments: str) -> tuple[str, int]:
    """What a command printed, and its peak memory in bytes."""
    status = "print(re.search('VmHWM.*', Path('/proc/self/status').read_text())[0], file=sys.stderr)"
    code = f"import atexit, re, sys; from pathlib import Path; atexit.register(lambda: {status})\n"
    command = [sys.executable, "-c", f"{code}from ocisync.cli import main; main()", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)
    found = re.search(r"VmHWM:\s+(\d+)", done.stderr)
    assert found, done.stderr[-2000:]
    return done.stdout, int(found[1]) * 1024
