"""The long proofs of static registries that many write to, and that are large."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest

from bench.measure import BucketPlace, s3_server
from ocisync.content.concurrency import for_each
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.subjects import format_referrers
from ocisync.stores.s3.store import S3Store, open_s3
from ocisync.stores.static import layout
from tests.contract.graphs import described
from tests.contract.test_s3 import options_for
from tests.integration.registry_writer import Moves
from tests.integration.static_targets import KINDS, Kind, put
from tests.integration.test_gc import grow_old
from tests.integration.test_gc_writers import new_place, prove_collection, prove_tags
from tests.servers.seaweed import REGION, Bucket, Seaweed

pytestmark = pytest.mark.prove
MOVES: dict[Kind, Moves] = {
    "directory": Moves(turns=60, variants=16, grace=0.3),
    "s3": Moves(turns=60, variants=40, grace=3.0),
}
MIB = 1 << 20
RUNS, TAGS = 20, 50
ROOT = Path(__file__).parents[2]
IMAGES = 19_100
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


def objects(images: int) -> Iterator[tuple[str, bytes]]:
    """So many tiny images, ten to a repository, every other one without a tag: keys and bodies, tags after digests."""
    names = sorted({f"r{number // PER_REPOSITORY:05}" for number in range(images)})
    for number in range(images):
        blobs = [(described(data), data) for data in (f"{number} {part}".encode() for part in range(LAYERS + 1))]
        raw = _manifest([desc for desc, _ in blobs])
        name, digest = f"r{number // PER_REPOSITORY:05}", described(raw).digest
        yield from ((layout.blob_key(name, desc.digest), data) for desc, data in blobs)
        yield layout.manifest_key(name, digest), raw
        yield layout.referrers_key(name, digest), format_referrers({})
        if number % 2:
            yield layout.manifest_key(name, f"v{number}"), raw
        if number % PER_REPOSITORY == 0:
            tags = [f"v{one}" for one in range(number, min(number + PER_REPOSITORY, images)) if one % 2]
            yield layout.tags_key(name), layout.tags_list_body(name, tags)
    yield layout.CATALOG_KEY, layout.catalog_body(names)
    yield layout.ROOT_INDEX, layout.ROOT_BODY


def fill_directory(root: Path) -> int:
    """Files that are old, tags linked to their manifests; the number of objects."""
    count, last = 0, root
    for key, data in objects(IMAGES):
        count, path = count + 1, root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if "/manifests/v" in key:
            os.link(last, path)
            continue
        path.write_bytes(data)
        os.utime(path, (1, 1))
        last = path if "/manifests/" in key else last
    return count


async def fill_bucket(bucket: Bucket) -> int:
    """Objects with their types; their number."""
    count = 0

    async def write(store: S3Store, batch: Sequence[tuple[str, bytes]]) -> None:
        async def one(item: tuple[str, bytes]) -> None:
            key, data = item
            await put(store, key, data, layout.content_type_of(key, data))

        await for_each(batch, one, 64)

    async with open_s3(options_for(bucket, concurrency=64)) as store:
        await put(store, layout.ROOT, layout.ROOT_BODY)
        every = objects(IMAGES)
        while batch := list(islice(every, 4000)):
            await write(store, batch)
            count += len(batch)
        await grow_old(store, 1.0)
    return count + 1


def _manifest(blobs: list[Descriptor]) -> bytes:
    config, *layers = [{"mediaType": one.media_type, "digest": one.digest, "size": one.size} for one in blobs]
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": layers}
    return json.dumps(document).encode()


def test_200_000_objects_in_a_directory(tmp_path: Path) -> None:
    count = fill_directory(tmp_path / "registry")
    check_large(f"static:{tmp_path / 'registry'}", count, "directory", tmp_path, {}, Counter)


async def test_200_000_objects_in_a_bucket(tmp_path: Path) -> None:
    with s3_server(tmp_path / "seaweed") as s3:
        bucket = s3.server.bucket()
        count = await fill_bucket(bucket)
        place = BucketPlace(bucket, s3.metrics)
        place.skip()
        address = f"s3://{bucket.name}?endpoint={bucket.endpoint}&region={REGION}&s3ForcePathStyle=true"
        check_large(address, count, "S3", tmp_path, s3.server.env, place.asked)


def check_large(
    place: str, count: int, kind: str, folder: Path, env: dict[str, str], asked: Callable[[], Counter[str]]
) -> None:
    """Plan a collection, then verify; memory is bounded, and so are requests."""
    assert count >= 200_000
    repositories, tagged = IMAGES // PER_REPOSITORY, IMAGES // 2
    plan, peak = measured(folder, env, "gc", place, "--dry-run", "--json", "--grace", "1s")
    requests = asked()
    print(f"gc plan over {count} objects, {kind}: peak {peak // MIB} MiB, {dict(requests)}")  # noqa: T201 (the figure)
    assert json.loads(plan)["plan"]["doomed"] == tagged * (LAYERS + 2)
    assert peak < 200 * MIB
    assert requests["LIST"] <= count / 1000 + 8 * repositories + 100
    assert requests["GET"] <= IMAGES + repositories + 100
    report, peak = measured(folder, env, "verify", place, "--json")
    requests = asked()
    print(f"verify of {count} objects, {kind}: peak {peak // MIB} MiB, {dict(requests)}")  # noqa: T201 (the figure)
    assert json.loads(report)["ok"]
    assert peak < 200 * MIB
    assert requests["LIST"] <= count / 1000 * 2 + 10 * repositories + 100
    assert requests["GET"] <= 3 * IMAGES + repositories + 100


def measured(cwd: Path, keys: dict[str, str], *arguments: str) -> tuple[str, int]:
    """What a command printed, and its peak memory in bytes."""
    status = "print(re.search('VmHWM.*', Path('/proc/self/status').read_text())[0], file=sys.stderr)"
    code = f"import atexit, re, sys; from pathlib import Path; atexit.register(lambda: {status})\n"
    command = [sys.executable, "-c", f"{code}from ocisync.cli import main; main()", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | keys
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)
    found = re.search(r"VmHWM:\s+(\d+)", done.stderr)
    assert found, done.stderr[-2000:]
    return done.stdout, int(found[1]) * 1024
