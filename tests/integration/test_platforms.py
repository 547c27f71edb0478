"""Some platforms of an index: static targets keep it and its digest, registries get a new one when the rule says so."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.mainjob import ENV, KINDS, Kind, Place, open_place, readable
from tests.integration.mirrors import Mirror, mirror
from tests.servers.command import Finished, run_ocisync
from tests.servers.images import Image, Index, Json, digest_of, make_image, make_index
from tests.servers.seaweed import Seaweed
from tests.servers.skopeo import inspect_raw, skopeo
from tests.servers.tls import Certificate

PLATFORMS = (("linux", "amd64", ""), ("linux", "arm64", "v8"), ("linux", "arm", "v7"), ("linux", "s390x", ""))
NAME = "team/app"
STATEMENT = ("unknown", "unknown", "")


def four(seed: str = "four") -> Index:
    """Images for four platforms, with an attestation of the first and of the last."""
    images = [make_image(f"{seed}-{one[1]}", layers=1, size=300, platform=one) for one in PLATFORMS]
    said = {one.digest: make_image(f"about {one.platform}", layers=1, platform=STATEMENT) for one in images[::3]}
    return make_index(images, statements=said)


@pytest.fixture
def pair(tmp_path: Path, certificate: Certificate) -> Iterator[Mirror]:
    """Two empty registries."""
    with mirror(tmp_path, certificate) as opened:
        yield opened


def ocisync(pair: Mirror, *arguments: str, code: int = 0) -> Finished:
    """A command with the pair's configuration."""
    return run_ocisync(*arguments, "-c", pair.file, env=ENV).expect(code)


def pull(host: str, image: Image, folder: Path, *options: str) -> None:
    """skopeo takes the image for one platform out of a tag, byte for byte."""
    _, architecture, variant = image.platform
    chosen = ["--override-os", "linux", "--override-arch", architecture]
    chosen += ["--override-variant", variant] if variant else []
    copy = ("copy", "--preserve-digests", "--src-tls-verify=false", *options)
    skopeo(*chosen, *copy, f"docker://{host}/{NAME}:1", f"dir:{folder}")
    assert (folder / "manifest.json").read_bytes() == image.manifest
    for digest, blob in image.blobs.items():
        assert (folder / digest[7:]).read_bytes() == blob


def manifests(place: Place) -> set[str]:
    """The digests of the manifests that can be pulled."""
    prefix = f"v2/{NAME}/manifests/sha256"
    return {key.rpartition("/")[2] for key in place.listing() if key.startswith(prefix)}


def verified(pair: Mirror, code: int = 0) -> Json:
    """What `ocisync verify` finds."""
    return dict(json.loads(ocisync(pair, "verify", "static", "--deep", "--json", code=code).stdout))


@pytest.mark.parametrize("kind", KINDS)
def test_two_of_four_platforms_keep_the_index_and_its_digest(
    kind: Kind, pair: Mirror, tmp_path: Path, s3: Seaweed
) -> None:
    index = four()
    amd64, arm64, arm, s390x = index.children[:4]
    said = index.children[4]
    pair.fill(NAME, {"1": index, "single": amd64, "other": s390x})
    with open_place(kind, tmp_path / "registry", s3) as place:
        rule = {"source": f"from/{NAME}", "target": "static", "platforms": ["linux/amd64", "linux/arm64"]}
        pair.rules(rule, static=place.settings)
        report = pair.report()
        left_out, lacking = report.warnings
        assert left_out.endswith("left out, as they have no image for linux/amd64, linux/arm64: other (linux/s390x)")
        assert lacking.endswith("some platforms are missing: single (no linux/arm64)")
        assert manifests(place) == {index.digest, amd64.digest, arm64.digest, said.digest}
        with readable(place) as host:
            assert inspect_raw(f"{host}/{NAME}:1") == index.manifest
            for image in (amd64, arm64):
                pull(host, image, tmp_path / image.platform[1])
            with pytest.raises(RuntimeError):
                pull(host, arm, tmp_path / "arm")
        assert pair.planned() == {}
        found = verified(pair)
        assert (found["ok"], found["findings"], found["omitted"]) == (True, [], 3)


def test_a_registry_gets_a_new_index_when_the_rule_says_so(pair: Mirror, tmp_path: Path) -> None:
    index = four()
    amd64, arm64 = index.children[:2]
    pair.fill(NAME, {"1": index, "single": amd64})
    rule = {"source": f"from/{NAME}", "target": "out", "platforms": ["linux/arm64", "linux/amd64"]}
    pair.rules({**rule, "rewrite_index": True})
    pair.report()
    found = pair.mirrored(NAME)
    assert found.keys() == {"1", "single"}
    assert found["single"] == amd64.manifest
    entries = json.loads(index.manifest)["manifests"]
    assert json.loads(found["1"]) == {**json.loads(index.manifest), "manifests": [*entries[:2], entries[4]]}
    for image in (amd64, arm64):
        pull(pair.target.host, image, tmp_path / image.platform[1], "--src-creds", "tester:open-sesame")
    assert pair.report().verdicts == {"unchanged"}
    again = make_index([*four("new").children[:2], *index.children[2:4]])
    pair.fill(NAME, {"1": again})
    pair.report()
    assert [one["digest"] for one in json.loads(pair.manifest("1", NAME))["manifests"]] == [
        one.digest for one in again.children[:2]
    ]


def test_without_it_the_rule_says_why_it_cannot(pair: Mirror) -> None:
    index = four()
    pair.fill(NAME, {"1": index})
    rule = {"source": f"from/{NAME}", "target": "out", "platforms": ["linux/amd64"]}
    pair.rules(rule)
    told = run_ocisync("config", "check", "-c", pair.file).expect(2).stderr
    assert "out is a registry: most refuse an index of which they lack images" in told
    assert "`rewrite_index: true`" in told
    pair.rules({**rule, "rewrite_index": False})
    (failure,) = pair.report(code=1).failures
    assert "it refuses an index of which it lacks images" in failure["message"]
    assert "`rewrite_index: true`" in failure["message"]


def test_a_sparse_source_is_enough_for_the_platforms_that_it_has(pair: Mirror, tmp_path: Path) -> None:
    index = four()
    pair.fill(NAME, {"1": index})
    pair.source.client.expect(202, "DELETE", f"/v2/{NAME}/manifests/{index.children[3].digest}")
    local = {"type": "static", "path": str(tmp_path / "registry")}
    rule = {"source": f"from/{NAME}", "target": "local"}
    pair.rules(rule, local=local)
    (failure,) = pair.report(code=1).failures
    assert failure["code"] == "source.missing"
    pair.rules({**rule, "platforms": ["linux/amd64"], "max_size": "1MiB"}, local=local)
    assert pair.report().verdicts == {"copied"}
    assert (tmp_path / f"registry/v2/{NAME}/manifests/1").read_bytes() == index.manifest
    assert digest_of(index.manifest) == index.digest
