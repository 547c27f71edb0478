"""What others read of bundles, how large they are, what is read for them, and ordinary registries as targets."""

import base64
import hashlib
import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from anyio import to_thread

from ocisync.commands.bundle import ApplyRequest, apply
from ocisync.config.load import load_config
from ocisync.content.files import InputFile
from ocisync.sync.context import Progress
from tests.integration.bundling import APP, TOOL, Site, change
from tests.integration.mainjob import ENV, Directory, Kind, contents, open_place
from tests.integration.test_bundle_daemon import make_keys
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.images import make_image
from tests.servers.seaweed import Seaweed
from tests.servers.skopeo import inspect_raw, list_tags, skopeo


@pytest.fixture
def site(tmp_path: Path, registry: DockerRegistry) -> Site:
    """One connected side."""
    places = {"out": Directory(tmp_path / "out"), "inner": Directory(tmp_path / "inner")}
    return Site(tmp_path / "site", registry, places)


def test_skopeo_reads_an_unpacked_full_bundle(site: Site, tmp_path: Path) -> None:
    site.put(APP, "big", make_image("big", layers=1, size=2_300_000))
    change(site, 0)
    change(site, 1)
    site.create("--volume", "1MiB")
    layout = tmp_path / "layout"
    layout.mkdir()
    for volume in sorted(site.media.glob("*.tar")):
        subprocess.run(["tar", "-xf", volume, "-C", layout], check=True)
    (layout / "mirror-0001.bundle.json").unlink()
    parts = sorted(layout.rglob("*.part-*"))
    assert len(parts) >= 3
    for part in parts:  # as `cat` joins them
        with part.with_suffix("").open("ab") as whole:
            whole.write(part.read_bytes())
        part.unlink()
    for path in (layout / "blobs/sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    for name, digest in site.tags.items():
        raw = skopeo("inspect", "--raw", f"oci:{layout}:{name}")
        assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == digest, name
        skopeo("copy", "--all", f"oci:{layout}:{name}", f"dir:{tmp_path / name.replace('/', '-').replace(':', '-')}")
    index = json.loads((layout / "index.json").read_text())
    known = {digest for image in _images(site) for digest in (image["digest"], *image.get("referrers", ()))}
    assert {entry["digest"] for entry in index["manifests"]} == known
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


def _images(site: Site) -> list[dict[str, str]]:
    return list(json.loads(site.inventory(1).read_text())["images"])


def test_openssl_checks_the_signature(site: Site, tmp_path: Path) -> None:
    """What cosign verify-blob --key checks: ECDSA over the SHA-256 of the inventory."""
    private, public = make_keys(tmp_path / "keys")
    change(site, 0)
    site.create("--key", private)
    bundle = json.loads((site.media / "mirror-0001.sigstore.json").read_text())
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    signature = tmp_path / "signature"
    signature.write_bytes(base64.b64decode(bundle["messageSignature"]["signature"]))
    files = ("-verify", public, "-signature", signature, site.inventory(1))
    command = ["openssl", "dgst", "-sha256", *map(str, files)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "Verified OK"
    site.apply(*site.files(1), options=("--trust", public))
    other, wrong = make_keys(tmp_path / "keys", "other")
    assert "verify.untrusted" in site.apply(*site.files(1), options=("--trust", wrong), code=1).stderr
    assert "verify.untrusted" in run_ocisync("bundle", "inspect", *site.files(1), "--trust", wrong).stderr
    (site.media / "mirror-0001.sigstore.json").unlink()
    assert "verify.unsigned" in site.apply(*site.files(1), options=("--trust", public), code=1).stderr
    assert other.exists()


def test_a_delta_is_hardly_larger_than_its_new_blobs(site: Site) -> None:
    for number in range(30):
        site.put(TOOL, f"v{number}", make_image(f"tool {number}", layers=4, size=50_000))
    change(site, 0)
    site.create()
    site.put(TOOL, "new", make_image("new", layers=3, size=400_000))
    done = json.loads(site.create("--base", site.inventory(1), "--json").stdout)
    size = sum(path.stat().st_size for path in site.files(2))
    print(f"{done['newBytes']} bytes of new blobs, {size} bytes on the medium")  # noqa: T201 (the proof's figure)
    assert done["newBlobs"] == 5
    assert size <= 1.01 * done["newBytes"] + 64 * 1024


def test_create_reads_each_byte_once(site: Site) -> None:
    site.put(APP, "big", make_image("big", layers=2, size=2_300_000))
    change(site, 0)
    before = len(site.registry.requests())
    site.create("--volume", "1MiB")
    asked = site.registry.requests()[before:]
    read = [one for one in asked if one.method == "GET" and "/blobs/" in one.path]
    assert len({one.path for one in read}) == len(read), "a blob was asked for twice"
    inventory = json.loads(site.inventory(1).read_text())
    blobs = {digest: entry["size"] for digest, entry in inventory["blobs"].items() if "type" not in entry}
    assert sum(one.size for one in read) == sum(blobs.values())
    manifests = [one.path for one in asked if one.method == "GET" and "/manifests/sha256:" in one.path]
    assert max(Counter(manifests).values()) <= 2  # the survey may have looked at one before


async def test_apply_reads_each_byte_at_most_twice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put(APP, "big", make_image("big", layers=2, size=2_300_000))
    site.put(TOOL, "big", make_image("big", layers=2, size=2_300_000))
    change(site, 0)
    site.create("--volume", "1MiB")
    reads: dict[str, bytearray] = {}  # how often each byte was read
    one_more = bytes(min(count + 1, 255) for count in range(256))
    plain = InputFile.read_at

    def read_at(self: InputFile, offset: int, length: int) -> bytes:
        counts = reads.setdefault(self.path.name, bytearray(self.size))
        counts[offset : offset + length] = counts[offset : offset + length].translate(one_more)
        return plain(self, offset, length)

    monkeypatch.setattr(InputFile, "read_at", read_at)
    request = ApplyRequest("inner", receipts=site.folder / "receipts")
    (done,) = await apply(await to_thread.run_sync(load_config, site.file), site.files(1), request, Progress())
    assert done.applied is not None
    assert done.ok
    volumes = {name: max(counts) for name, counts in reads.items() if name.endswith(".tar")}
    assert len(volumes) >= 5
    assert max(volumes.values()) == 2


@pytest.mark.parametrize("kind", ["directory", pytest.param("s3", marks=pytest.mark.prove)])
def test_a_lost_delta_recovered_by_a_cumulative_one_equals_a_direct_mirror(
    kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    with open_place(kind, tmp_path / "out", s3) as out, open_place(kind, tmp_path / "inner", s3) as inner:
        site = Site(tmp_path / "site", registry, {"out": out, "inner": inner})
        for number in range(4):
            change(site, number)
            site.create(*(("--base", site.inventory(number)) if number else ()))
            if number != 2:  # what was lost, the other side never saw
                site.mirror()
        site.apply(*site.files(1), options=("--prune",))
        site.apply(*site.files(2), options=("--prune",))
        before = contents(inner)
        site.apply(*site.files(4), code=1)  # the third is lost
        assert contents(inner) == before
        site.create("--base", site.inventory(2))
        site.apply(*site.files(5), options=("--prune",))
        assert contents(inner) == contents(out)


def test_an_ordinary_registry_takes_them(site: Site, tmp_path: Path) -> None:
    """Deltas, too: what they lack is read and asked for at the registry itself."""
    with docker_registry(tmp_path / "target") as target:
        place = f"docker://{target.host}/mirror"
        for number in range(3):
            change(site, number)
            site.create(*(("--base", site.inventory(number)) if number else ()))
            where = ("--target", place, "--receipts", tmp_path / "receipts")
            done = run_ocisync("bundle", "apply", *site.files(number + 1), *where, env=ENV)
            assert done.code == 0, done.stderr
        for name, digest in site.tags.items():
            raw = inspect_raw(f"{target.host}/mirror/{name}")
            assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == digest
        assert "v0" in list_tags(f"{target.host}/mirror/{APP}"), "without --prune it stays"


def test_other_names_inside(site: Site, tmp_path: Path) -> None:
    change(site, 0)
    site.create()
    names = tmp_path / "names.yaml"
    names.write_text(
        "strip_prefix: team/\nrepositories: {\"(.*)\": 'mirrored/\\1'}\ntags: {\"v(.*)\": 'release-\\1'}\n"
    )
    site.apply(*site.files(1), options=("--rename", names))
    inner = Directory(tmp_path / "inner")
    assert inner.read("v2/mirrored/app/manifests/release-0")
    assert inner.read("v2/mirrored/tool/manifests/stable")
    assert inner.read(f"v2/{APP}/tags/list") is None
    names.write_text("repositories: {'.*': all}\n")
    said = site.apply(*site.files(1), options=("--rename", names), code=2).stderr
    assert "would both become" in said
    names.write_text("repository: {}\n")
    assert "names.yaml:1" in site.apply(*site.files(1), options=("--rename", names), code=2).stderr
