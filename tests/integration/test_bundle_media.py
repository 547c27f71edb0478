"""What media do to bundles: lost, swapped, replayed, cut, foreign and damaged files; and people who change them."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.bundle_flips import flip_bits, make_flipping_site
from tests.integration.bundling import APP, Site, change
from tests.integration.mainjob import ENV, Directory, contents, open_place
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.images import make_image
from tests.servers.seaweed import Seaweed

VOLUME = "1MiB"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A full bundle and two deltas in volumes of 1 MiB; the first is larger than one volume."""
    folder = tmp_path_factory.mktemp("bundles")
    with docker_registry(folder / "registry") as registry:
        inner = Directory(folder / "inner")
        made = Site(folder / "site", registry, {"out": Directory(folder / "out"), "inner": inner})
        made.put(APP, "big", make_image("big", layers=2, size=1_300_000))
        for number in range(3):
            change(made, number)
            made.create("--volume", VOLUME, *(("--base", made.inventory(number)) if number else ()))
        yield made


class Inner:
    """An empty other side, and a copy of the media that may be spoiled."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.place = Directory(folder / "place")
        self.media = folder / "media"
        shutil.copytree(site.media, self.media)

    def apply(self, *arguments: str | Path, paths: list[Path] | None = None) -> tuple[int, str]:
        """Apply the first bundle, or what is given; exit status and what was said."""
        given = paths if paths is not None else sorted(self.media.glob("mirror-0001*"))
        target = f"static:{self.place.path}"
        receipts = self.media.parent / "receipts"
        done = run_ocisync("bundle", "apply", *given, "--target", target, "--receipts", receipts, *arguments, env=ENV)
        return done.code, done.stderr

    def refuse(self, *words: str, paths: list[Path] | None = None, arguments: tuple[str | Path, ...] = ()) -> None:
        """It is refused with these words, and nothing is there, nor left over."""
        code, said = self.apply(*arguments, paths=paths)
        assert code == 1, said
        assert all(word in said for word in words), said
        assert not list(self.place.path.rglob("*")) if self.place.path.exists() else True
        assert not (self.media.parent / "receipts").exists()

    def file(self, ending: str) -> Path:
        """A file of the first bundle."""
        return self.media / f"mirror-0001{ending}"


@pytest.fixture
def inner(site: Site, tmp_path: Path) -> Inner:
    """An empty other side."""
    return Inner(site, tmp_path)


def test_sums_are_those_of_sha256sum(site: Site) -> None:
    done = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=site.media, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = {path.name for path in site.media.iterdir()} - {"SHA256SUMS"}
    assert {line.partition(": ")[0] for line in done.stdout.splitlines()} == files


def test_no_volume_is_larger_than_the_medium(site: Site) -> None:
    volumes = [path for path in site.media.iterdir() if path.suffix == ".tar"]
    assert len([path for path in volumes if path.name.startswith("mirror-0001.")]) >= 3
    assert max(path.stat().st_size for path in volumes) <= 1 << 20
    assert {path.name for path in site.media.iterdir() if path.name.startswith(".")} == set()


def test_a_whole_bundle_is_taken(inner: Inner) -> None:
    code, said = inner.apply()
    assert code == 0, said
    assert inner.place.read(f"v2/{APP}/manifests/big")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda one: one.file(".002.tar").unlink(), ("mirror-0001.002.tar is missing",)),
        (lambda one: one.file(".bundle.json").unlink(), ("mirror-0001.bundle.json is missing",)),
        (lambda one: _swap(one.file(".001.tar"), one.file(".002.tar")), ("mirror-0001.001.tar",)),
        (lambda one: shutil.copy(one.media / "mirror-0002.tar", one.file(".002.tar")), ("mirror-0001.002.tar",)),
        (lambda one: _cut(one.file(".002.tar")), ("mirror-0001.002.tar", "it was cut")),
        (lambda one: _extend(one.file(".002.tar")), ("mirror-0001.002.tar", "longer")),
        (lambda one: _zero(one.file(".001.tar")), ("mirror-0001.001.tar",)),
        (lambda one: shutil.copy(one.media / "mirror-0002.bundle.json", one.file(".bundle.json")), ("renamed",)),
    ],
    ids=["missing", "no inventory", "swapped", "foreign", "cut", "longer", "zeroed", "another's inventory"],
)
def test_volumes_that_are_not_what_they_should_be(
    inner: Inner, spoil: Callable[[Inner], object], words: tuple[str, ...]
) -> None:
    spoil(inner)
    inner.refuse(*words)


def _swap(first: Path, second: Path) -> None:
    kept = first.read_bytes()
    shutil.copy(second, first)
    second.write_bytes(kept)


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 512)


def _extend(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(512))


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def test_a_replayed_volume_is_refused(inner: Inner) -> None:
    """A volume of the same name and size, from an earlier run with other content."""
    volume = inner.file(".001.tar")
    body = bytearray(volume.read_bytes())
    body[600_000:600_100] = bytes(100)
    volume.write_bytes(body)
    inner.refuse("mirror-0001.001.tar")


BITS = 100


def test_each_flipped_bit_is_refused(tmp_path: Path, registry: DockerRegistry) -> None:
    flip_bits(make_flipping_site(tmp_path, registry), BITS, seed=22)


def rewrite(inner: Inner, change_document: Callable[[dict[str, object]], object]) -> None:
    """Change the inventory beside the volumes and in the last one, as somebody who knows the format would."""
    path = inner.file(".bundle.json")
    old = path.read_bytes()
    document = json.loads(old)
    change_document(document)
    new = json.dumps(document, separators=(",", ":")).encode()
    path.write_bytes(new)
    last = max(inner.media.glob("mirror-0001.0*.tar"))
    raw = last.read_bytes()
    member = tarfile.TarInfo("mirror-0001.bundle.json")
    member.size = len(old)
    start = raw.index(member.tobuf(tarfile.PAX_FORMAT))
    member.size = len(new)
    tail = member.tobuf(tarfile.PAX_FORMAT) + new + bytes(-len(new) % 512) + bytes(1024)
    last.write_bytes(raw[:start] + tail)
    (inner.media / "SHA256SUMS").unlink()


def _first_blob(document: dict[str, object], **changes: object) -> None:
    blobs = document["blobs"]
    assert isinstance(blobs, dict)
    next(entry for entry in blobs.values() if "type" not in entry and "parts" not in entry).update(changes)


LIES: dict[str, tuple[Callable[[dict[str, object]], object], str]] = {
    "a blob's size": (lambda found: _first_blob(found, size=17), "the inventory is wrong"),
    "a blob's volume": (lambda found: _first_blob(found, volume=99), "there is no volume 99"),
    "a path that leaves": (
        lambda found: found["volumes"][0].update(file="../../etc/passwd"),  # type: ignore[index]
        "'../../etc/passwd'",
    ),
    "a repository that leaves": (lambda found: found["images"][0].update(name="../up"), "../up"),  # type: ignore[index]
    "a tag that leaves": (lambda found: found["images"][0].update(tag="../up"), "../up"),  # type: ignore[index]
    "a digest that leaves": (
        lambda found: found["blobs"].update({"sha256:../../x": {"size": 1, "volume": 1}}),  # type: ignore[attr-defined]
        "not a digest",
    ),
    "an unknown key": (lambda found: found.update(more=1), "`more`"),
    "another format": (lambda found: found.update(format="ocisync.bundle/2"), "format"),
    "no volumes": (lambda found: found.update(volumes=[]), "volume"),
    "a huge size": (lambda found: _first_blob(found, size=1 << 60), "wrong"),
    "a negative size": (lambda found: _first_blob(found, size=-1), "wrong"),
    "parts that are too few": (lambda found: _first_blob(found, parts=[1]), "parts"),
    "a missing manifest": (
        lambda found: found["images"][0].update(digest="sha256:" + "0" * 64),  # type: ignore[index]
        "not among",
    ),
    "a tag twice": (lambda found: found["images"].append(found["images"][0]), "twice"),  # type: ignore[attr-defined, index]
    "a volume's sum": (lambda found: found["volumes"][0].update(sha256="0" * 64), "mirror-0001.001.tar"),  # type: ignore[index]
}


@pytest.mark.parametrize("lie", LIES)
def test_inventories_that_lie(inner: Inner, lie: str) -> None:
    change_document, word = LIES[lie]
    rewrite(inner, change_document)
    inner.refuse(word)


def test_members_that_nobody_announced(inner: Inner) -> None:
    """Links, paths that leave, members twice: with sums that fit, as an attacker would write them."""
    volume = inner.file(".001.tar")
    original = volume.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(original)) as archive:
        first = archive.next()
        assert first is not None
    for name, kind in (("../../evil", tarfile.REGTYPE), ("link", tarfile.SYMTYPE), (first.name, tarfile.LNKTYPE)):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        body = member.tobuf(tarfile.PAX_FORMAT) + original
        volume.write_bytes(body)

        def sum_up(document: dict[str, object], body: bytes = body) -> None:
            volumes = document["volumes"]
            assert isinstance(volumes, list)
            volumes[0].update(size=len(body), sha256=hashlib.sha256(body).hexdigest())

        rewrite(inner, sum_up)
        inner.refuse("mirror-0001.001.tar")
        shutil.copy(inner.site.media / "SHA256SUMS", inner.media / "SHA256SUMS")
        for path in inner.site.media.glob("mirror-0001*"):
            shutil.copy(path, inner.media / path.name)


def test_a_lost_bundle_is_named_and_a_cumulative_one_recovers(site: Site, tmp_path: Path, s3: Seaweed) -> None:
    with open_place("directory", tmp_path / "place", s3) as place:
        inner = Inner(site, tmp_path)
        inner.place = place  # type: ignore[assignment]
        assert inner.apply()[0] == 0
        before = contents(place)
        code, said = inner.apply(paths=sorted(inner.media.glob("mirror-0003*")))
        assert code == 1
        assert "mirror-0002" in said
        assert "team/app:v1 lacks sha256:" in said
        assert contents(place) == before
        code, said = inner.apply("--whole-images-only", paths=sorted(inner.media.glob("mirror-0003*")))
        assert code == 1
        assert place.read(f"v2/{APP}/manifests/v2")
        assert place.read(f"v2/{APP}/manifests/v1") is None
        cumulative = Site(tmp_path / "again", site.registry, site.targets)
        shutil.copytree(site.media, cumulative.media)
        cumulative.create("--base", cumulative.inventory(1))
        assert inner.apply("--prune", paths=cumulative.files(4))[0] == 0
        assert place.read(f"v2/{APP}/manifests/v1")
        assert place.read(f"v2/{APP}/manifests/v0") is None


def test_an_older_bundle_is_not_applied_unless_asked(site: Site, tmp_path: Path) -> None:
    inner = Inner(site, tmp_path)
    for number in (1, 2, 3):
        assert inner.apply(paths=sorted(inner.media.glob(f"mirror-000{number}*")))[0] == 0
    latest = inner.place.read(f"v2/{APP}/manifests/latest")
    (tmp_path / "receipts/mirror-0001.receipt.json").unlink()  # as if it had been lost, and came now
    code, said = inner.apply()
    assert code == 1
    assert "older than what was applied" in said
    assert inner.place.read(f"v2/{APP}/manifests/latest") == latest
    assert inner.apply("--allow-older")[0] == 0
    assert inner.place.read(f"v2/{APP}/manifests/latest") != latest


def test_volumes_come_on_any_number_of_media_in_any_order(site: Site, tmp_path: Path) -> None:
    inner = Inner(site, tmp_path)
    files = sorted(inner.media.glob("mirror-0001*"), reverse=True)
    for path in files:
        code, said = inner.apply("--staging", tmp_path / "staging", paths=[path])
        is_last = path == files[-1]
        assert code == (0 if is_last else 1), said
        assert is_last or "missing" in said
    assert inner.place.read(f"v2/{APP}/manifests/big")
    assert not list((tmp_path / "staging").iterdir())


def test_a_damaged_volume_is_brought_once_more(site: Site, tmp_path: Path) -> None:
    """A staged copy that is damaged does not stand in the way of the next one, which has the same size."""
    inner = Inner(site, tmp_path)
    whole = inner.file(".001.tar").read_bytes()
    volume, inventory = bytearray(whole), inner.file(".bundle.json").read_bytes()
    volume[600_000] ^= 1
    inner.file(".001.tar").write_bytes(volume)
    inner.file(".bundle.json").write_bytes(inventory.replace(b'"sequence": 1', b'"sequence": 2'))
    staging = ("--staging", tmp_path / "staging")
    assert inner.apply(*staging)[0] == 1
    inner.file(".bundle.json").write_bytes(inventory)
    code, said = inner.apply(*staging)
    assert code == 1
    assert "bring it once more" in said
    assert not (tmp_path / "staging/mirror-0001.001.tar").exists()
    inner.file(".001.tar").write_bytes(whole)
    code, said = inner.apply(*staging, paths=[inner.file(".001.tar")])
    assert code == 0, said
    assert inner.place.read(f"v2/{APP}/manifests/big")


def test_what_was_applied_before_a_later_one_is_left_alone(site: Site, tmp_path: Path) -> None:
    """A folder with all bundles may be given again."""
    inner = Inner(site, tmp_path)
    assert inner.apply(paths=[inner.media])[0] == 0
    latest = inner.place.read(f"v2/{APP}/manifests/latest")
    assert inner.apply(paths=[inner.media])[0] == 0
    assert inner.place.read(f"v2/{APP}/manifests/latest") == latest


def test_the_receipt_is_the_best_base(site: Site, tmp_path: Path) -> None:
    """What the receipt has is not sent again; a bundle on it brings all the rest."""
    inner = Inner(site, tmp_path)
    assert inner.apply()[0] == 0
    receipt = tmp_path / "receipts/mirror-0001.receipt.json"
    other = Site(tmp_path / "other", site.registry, site.targets)
    done = json.loads(other.create("--base", receipt, "--json").stdout)
    assert done["base"] == "mirror-0001"
    assert 0 < done["newBytes"] < 400_000
    assert inner.apply("--prune", paths=other.files(2))[0] == 0
    for name, tag in (reference.split(":") for reference in site.tags):
        assert inner.place.read(f"v2/{name}/manifests/{tag}")
