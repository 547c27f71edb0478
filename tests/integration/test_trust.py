"""Rules that demand signatures, an age, or ask nothing about tags that never move; with a real registry as source."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.mainjob import ENV, write_config
from tests.integration.mirrors import Report
from tests.integration.signed_images import attach, bundle_artifact, sig_image, sig_tag
from tests.integration.trust_kills import random_kills
from tests.servers.command import Finished, daemon, run_ocisync, started
from tests.servers.docker_registry import Access, DockerRegistry
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Reply
from tests.servers.images import (
    Image,
    Index,
    docker_archive,
    make_artifact,
    make_image,
    multi_platform,
    oci_archive,
    push,
)
from tests.servers.process import wait_for
from tests.signatures import ISSUER, KeySigner, Sigstore

NAME = "acme/app"
OURS, STRANGER = KeySigner(), KeySigner()
SIGSTORE = Sigstore()
Rule = dict[str, object]


@dataclass
class Site:
    """A registry, and a rule that mirrors one of its repositories into a folder."""

    folder: Path
    source: DockerRegistry
    host: str = ""
    file: Path = field(init=False)

    def __post_init__(self) -> None:
        self.host = self.host or self.source.host
        (self.folder / "ours.pub").write_text(OURS.pem)
        (self.folder / "root.json").write_bytes(SIGSTORE.trusted_root())
        self.rule(verify="ours")

    @property
    def name(self) -> str:
        """The repository, as signatures name it."""
        return f"{self.host}/{NAME}"

    def rule(self, **settings: object) -> None:
        """Write the configuration."""
        keyless = [{"issuer": ISSUER, "identity": r"https://github\.com/acme/.*"}]
        policies = {
            "ours": {"keys": ["./ours.pub"]},
            "people": {"keyless": keyless, "trusted_root": "./root.json"},
        }
        rule = {"name": "app", "source": self.name, "target": "out"} | settings
        targets = {"out": {"type": "static", "path": str(self.folder / "out")}}
        self.file = write_config(self.folder, targets, sync=[rule], verify=policies)

    def put(self, tag: str, image: Image | Index, *layers: tuple[bytes, Mapping[str, str]]) -> None:
        """Push an image, and signatures of it."""
        push(self.source.client, NAME, tag, image)
        if layers:
            push(self.source.client, NAME, sig_tag(image), sig_image(*layers))

    def sign(self, image: Image | Index, signer: KeySigner = OURS) -> tuple[bytes, Mapping[str, str]]:
        """A signature for a .sig tag."""
        return signer.layer(image.digest, self.name)

    def once(self, code: int = 0) -> dict[str, Mapping[str, Any]]:
        """One pass: its tags."""
        return {tag["tag"]: tag for job in self.report(code).jobs for tag in job["tags"]}

    def report(self, code: int = 0) -> Report:
        """One pass."""
        finished = run_ocisync("once", "-c", self.file, "--json", env=ENV).expect(code)
        return Report(json.loads(finished.stdout)["jobs"])

    def tags(self) -> set[str]:
        """What the target lists."""
        path = self.folder / "out" / "v2" / NAME / "tags" / "list"
        return set(json.loads(path.read_bytes())["tags"]) if path.is_file() else set()

    def manifest(self, tag: str) -> bytes:
        """What the target's tag points at."""
        return (self.folder / "out" / "v2" / NAME / "manifests" / tag).read_bytes()

    def asked(self, start: int) -> Counter[str]:
        """The source's requests since then, by what they are about."""
        return Counter(kind(access) for access in self.source.requests()[start:])


def kind(access: Access) -> str:
    """A request without its digests and tags."""
    what = next((one for one in ("referrers", "tags/list", "manifests", "blobs") if f"/{one}" in access.path), "other")
    return f"{access.method} {what}"


def ran(*arguments: str | Path, code: int = 0) -> Finished:
    return run_ocisync(*arguments, env=ENV).expect(code)


@pytest.fixture
def site(tmp_path: Path, registry: DockerRegistry) -> Site:
    return Site(tmp_path, registry)


def test_only_what_is_signed_is_copied_and_its_signature_comes_along(site: Site) -> None:
    signed, bare, foreign = make_image("signed"), make_image("bare"), make_image("foreign")
    site.put("1", signed, site.sign(signed))
    site.put("2", bare)
    site.put("3", foreign, site.sign(foreign, STRANGER))
    told = site.once(1)
    verdicts = {tag: one["verdict"] for tag, one in told.items()}
    signature = sig_tag(signed)
    assert verdicts == {"1": "copied", "2": "refused", "3": "refused"}  # signatures are no images
    assert told["1"]["signature"]["policy"] == "ours"
    assert told["2"]["failure"]["code"] == told["2"]["signature"]["code"] == "verify.unsigned"
    assert told["3"]["failure"]["code"] == "verify.untrusted"
    assert site.tags() == {"1", signature}
    assert site.manifest(signature) == sig_image(site.sign(signed)).manifest or site.manifest(signature)
    assert site.manifest("1") == signed.manifest


def test_bundles_are_found_in_a_bare_list_and_opened(site: Site) -> None:
    by_key, by_identity = make_image("key"), multi_platform("identity")
    site.put("1", by_key)
    site.put("2", by_identity)
    other = bundle_artifact(by_key, b"not a bundle at all")
    attach(site.source.client, NAME, by_key, other, bundle_artifact(by_key, OURS.bundle(by_key.digest)))
    attach(site.source.client, NAME, by_identity, bundle_artifact(by_identity, SIGSTORE.bundle(by_identity.digest)))
    site.rule(verify={"any": ["ours", "people"]}, tags={"allow": ["[0-9]"]})
    told = site.once()
    assert {tag: one["signature"].get("policy") for tag, one in told.items()} == {"1": "ours", "2": "people"}
    assert told["2"]["signature"]["signer"].startswith("https://github.com/acme/app/")
    referrers = site.folder / "out" / "v2" / NAME / "referrers" / by_identity.digest
    (entry,) = json.loads(referrers.read_bytes())["manifests"]
    assert entry["artifactType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"


def test_requests(site: Site) -> None:
    """An unchanged verified tag costs its HEAD; a new one at most four small requests, however it is signed."""
    images = [make_image(f"image{number}", layers=1) for number in range(4)]
    for number, image in enumerate(images):
        site.put(f"{number}", image, site.sign(image))
    site.rule(verify="ours", tags={"allow": ["[0-9]"]})
    site.once()
    start = len(site.source.requests())
    assert {one["verdict"] for one in site.once().values()} == {"unchanged"}
    assert site.asked(start) == {"GET tags/list": 1, "HEAD manifests": 4}
    new = make_image("new", layers=1)
    for place, signatures in (("8", (site.sign(new),)), ("9", ())):
        image = new if signatures else make_image("newer", layers=1)
        site.put(place, image, *signatures)
        if not signatures:
            attach(site.source.client, NAME, image, bundle_artifact(image, OURS.bundle(image.digest)))
        start = len(site.source.requests())
        assert site.once()[place]["verdict"] == "copied"
        asked = site.asked(start) - Counter({"GET tags/list": 1, "HEAD manifests": 5 + (place == "9")})
        asked -= Counter({"GET manifests": 1, "GET blobs": 2})  # the image itself: manifest, configuration, layer
        assert sum(asked.values()) <= 4, "\n".join(f"{one.method} {one.path}" for one in site.source.requests()[start:])


def test_what_vanished_from_the_target_comes_again_with_its_signature(site: Site) -> None:
    """Of what stayed nothing is read but who signed it."""
    gone, stays = make_image("gone"), make_image("stays")
    for tag, image in (("1", gone), ("2", stays)):
        site.put(tag, image, site.sign(image))
    site.once()
    before = {tag: one["signature"] for tag, one in site.once().items()}
    assert {one["policy"] for one in before.values()} == {"ours"}
    folder = site.folder / "out" / "v2" / NAME / "manifests"
    for tag in ("1", sig_tag(gone)):
        (folder / tag).unlink()
    told = site.once()
    assert {tag: one["verdict"] for tag, one in told.items()} == {"1": "copied", "2": "unchanged"}
    assert {tag: one["signature"] for tag, one in told.items()} == before
    assert site.manifest("1") == gone.manifest
    assert (folder / sig_tag(gone)).is_file()


def test_the_old_tag_stays_when_it_moves_to_what_is_not_signed(site: Site) -> None:
    old, new = make_image("old"), make_image("new")
    site.rule(verify="ours", tags={"allow": ["latest"]}, prune=True)
    site.put("latest", old, site.sign(old))
    site.once()
    push(site.source.client, NAME, "latest", new)
    assert site.once(1)["latest"]["verdict"] == "refused"
    assert site.manifest("latest") == old.manifest
    push(site.source.client, NAME, sig_tag(new), sig_image(site.sign(new)))
    assert site.once()["latest"]["verdict"] == "copied"
    assert site.manifest("latest") == new.manifest


def test_a_refused_image_is_opened_again_only_when_something_new_refers_to_it(site: Site) -> None:
    image = make_image("refused")
    site.put("1", image, site.sign(image, STRANGER))
    site.rule(verify="ours", tags={"allow": ["1"]})
    site.once(1)
    start = len(site.source.requests())
    site.once(1)
    asked = site.asked(start)
    assert asked["GET blobs"] == 0
    site.put("1", image, site.sign(image, STRANGER), site.sign(image))
    assert site.once()["1"]["verdict"] == "copied"


def test_an_error_of_the_registry_is_no_missing_signature(
    tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    site = Site(tmp_path, registry, registry_proxy.host)
    image = make_image("image")
    site.put("1", image, site.sign(image))
    site.rule(verify="ours", tags={"allow": ["1"]})
    registry_proxy.on("GET", r"/v2/.*\.sig", Reply(403), times=1)
    told = site.once(1)["1"]
    assert told["verdict"] == "failed"
    assert told["failure"]["code"].startswith(("auth", "registry"))
    assert "signature" not in told
    assert site.once()["1"]["verdict"] == "copied"


def test_a_signature_may_follow_within_the_wait(site: Site) -> None:
    image = make_image("image")
    site.put("1", image)
    site.rule(verify={"any": ["ours"], "wait": "15m"}, tags={"allow": ["1"]})
    told = site.once()["1"]
    assert (told["verdict"], told["signature"]["code"]) == ("pending", "verify.unsigned")
    assert site.tags() == set()
    site.put("1", image, site.sign(image))
    assert site.once()["1"]["verdict"] == "copied"


def test_warn_copies_and_tells(site: Site) -> None:
    site.put("1", make_image("bare"))
    site.rule(verify={"any": ["ours"], "else": "warn"})
    told = site.once()["1"]
    assert (told["verdict"], told["signature"]["outcome"]) == ("copied", "warned")
    site.once()
    said = ran("once", "-c", site.file).stderr
    assert "no signature was found for ours" in said


def test_all_policies(site: Site) -> None:
    both, one = make_image("both"), make_image("one")
    site.put("1", both, site.sign(both), SIGSTORE.layer(both.digest, site.name))
    site.put("2", one, site.sign(one))
    site.rule(verify={"all": ["ours", "people"]}, tags={"allow": ["[12]"]})
    told = site.once(1)
    assert {tag: told[tag]["verdict"] for tag in "12"} == {"1": "copied", "2": "refused"}
    assert told["1"]["signature"]["policy"] == "ours, people"


def test_a_signature_of_a_child_counts_only_where_the_rule_says_so(site: Site) -> None:
    index = multi_platform("index")
    push(site.source.client, NAME, "1", index)
    first, second = index.children
    push(site.source.client, NAME, sig_tag(first), sig_image(site.sign(first)))
    for verify in ("ours", {"any": ["ours"], "each": "platform"}):
        site.rule(verify=verify, tags={"allow": ["1"]})
        assert site.once(1)["1"]["verdict"] == "refused"
    push(site.source.client, NAME, sig_tag(second), sig_image(site.sign(second)))
    assert site.once()["1"]["verdict"] == "copied"
    assert {sig_tag(first), sig_tag(second)} < site.tags()


def test_a_converted_image_is_judged_by_what_it_was_made_from(site: Site) -> None:
    signed, bare = multi_platform("signed"), multi_platform("bare")
    site.put("1", signed, site.sign(signed))
    site.put("2", bare)
    site.rule(verify="ours", format="docker", drop_signatures=True, tags={"allow": ["[12]"]})
    told = site.once(1)
    assert {tag: told[tag]["verdict"] for tag in "12"} == {"1": "copied", "2": "refused"}, told
    assert site.tags() == {"1"}


def test_oversized_and_cyclic_referrers(site: Site) -> None:
    image = make_image("image")
    site.put("1", image)
    large = bundle_artifact(image, json.dumps({"padding": "x" * (1 << 20)}).encode())
    itself = bundle_artifact(large, OURS.bundle(image.digest))
    attach(site.source.client, NAME, large, itself)
    attach(site.source.client, NAME, image, large)
    site.rule(verify="ours", tags={"allow": ["1"]})
    told = site.once(1)["1"]
    assert (told["verdict"], told["failure"]["code"]) == ("refused", "verify.payload")


def test_copy_and_inspect(site: Site) -> None:
    signed, bare = make_image("signed"), make_image("bare")
    site.put("1", signed, site.sign(signed))
    site.put("2", bare)
    key, out = site.folder / "ours.pub", f"static:{site.folder / 'copy'}//app"
    said = ran("inspect", "--verify", str(key), f"docker://{site.name}:1").stdout
    assert "signer      key " in said
    said = ran("inspect", "--verify", "ours", "-c", site.file, f"docker://{site.name}:2", code=1).stdout
    assert "[verify.unsigned]" in said
    ran("copy", "--verify", str(key), f"docker://{site.name}:1", f"{out}:1")
    assert (
        "[verify.unsigned]" in ran("copy", "--verify", str(key), f"docker://{site.name}:2", f"{out}:2", code=1).stderr
    )
    docker = f"docker-archive:{site.folder / 'docker.tar'}"  # which has no place for signatures
    ran("copy", "--verify", str(key), f"docker://{site.name}:1", docker)
    archive = site.folder / "both.tar"
    ran(
        "copy",
        "--verify",
        str(key),
        f"docker://{site.name}:1",
        f"docker://{site.name}:2",
        f"oci-archive:{archive}",
        code=1,
    )
    assert not archive.exists()
    listed = json.loads((site.folder / "copy/v2/app/tags/list").read_bytes())["tags"]
    assert set(listed) == {"1", sig_tag(signed)}
    said = ran("inspect", "--verify", str(site.file), f"docker://{site.name}:1", code=2).stderr
    assert f"--verify {site.file}: not a public key in PEM" in said
    assert "known are" in ran("copy", "--verify", "nobody", f"docker://{site.name}:1", f"{out}:3", code=2).stderr


def test_dropped_archives(site: Site) -> None:
    signed, bare = make_image("signed"), make_image("bare")
    drop = site.folder / "drop"
    layer = OURS.layer(signed.digest, "")
    rule = {"name": "d", "path": str(drop), "target": "out", "stable": "0s", "verify": "ours"}
    targets = {"out": {"type": "static", "path": str(site.folder / "out")}}
    file = write_config(site.folder, targets, drop=[rule], verify={"ours": {"keys": ["./ours.pub"]}})
    oci_archive(drop / "signed.tar", {f"{NAME}:1": signed, f"{NAME}:{sig_tag(signed)}": sig_image(layer)})
    oci_archive(drop / "bare.tar", {f"{NAME}:2": bare})
    docker_archive(drop / "docker.tar", {f"{NAME}:3": bare})
    ran("once", "-c", file, code=1)
    assert "1" in site.tags()
    assert not {"2", "3"} & site.tags()
    failed = {path.name for path in (drop / "failed").iterdir()}
    assert failed == {one + end for one in ("bare.tar", "docker.tar") for end in ("", ".reason.txt")}


def test_a_layout_brings_nothing_that_nobody_signed(site: Site) -> None:
    """Without a policy all that refers to its images comes along unasked."""
    signed = make_image("signed")
    artifact = make_artifact(signed, "application/vnd.acme.parts")
    signature = sig_image(OURS.layer(signed.digest, ""))
    layout = oci_archive(
        site.folder / "layout.tar", {"app:1": signed, f"app:{sig_tag(signed)}": signature, "": artifact}
    )
    for number, options in enumerate((("--verify", site.folder / "ours.pub"), ())):
        out = site.folder / f"out{number}"
        ran("copy", *options, f"oci-archive:{layout}:app:1", f"static:{out}//app:1")
        assert (out / "v2/app/manifests" / artifact.digest).exists() == (number == 1)
        assert (out / "v2/app/manifests" / sig_tag(signed)).exists() == (number == 0)


def test_young_images_are_pending_until_their_time(site: Site) -> None:
    site.put("1", make_image("image"))
    site.rule(min_age="2s")
    told = site.report()
    (tag,) = told.jobs[0]["tags"]
    assert (tag["verdict"], tag["signature"]["code"]) == ("pending", "verify.young")
    assert "ages begin now" in told.warnings[0]
    wait = tag["signature"]["until"]
    time.sleep(max(0.0, wait - time.time()) + 0.1)
    told = site.report()
    assert (told.verdicts, told.warnings) == ({"copied"}, [])
    push(site.source.client, NAME, "1", make_image("another"))
    assert site.report().verdicts == {"pending"}


@pytest.mark.parametrize("by", ["created", "log"])
def test_other_ages(site: Site, by: str) -> None:
    old, new = make_image("old", created="2020-01-01T00:00:00Z"), make_image("new", created="2999-01-01T00:00:00Z")
    site.put("1", old, SIGSTORE.layer(old.digest, site.name))
    site.put("2", new, site.sign(new))
    verify = {"verify": ["ours", "people"]} if by == "log" else {}
    site.rule(min_age={"of": "3d", "by": by}, tags={"allow": ["[12]"]}, **verify)
    told = site.once(1 if by == "log" else 0)
    assert told["1"]["verdict"] == "copied"
    assert told["2"]["verdict"] == ("refused" if by == "log" else "pending")
    assert told["2"]["signature"]["code"] == "verify.young"


def test_nothing_is_asked_about_tags_that_never_move(site: Site) -> None:
    for number in range(6):
        site.put(f"v1.{number}", make_image(f"image{number}", layers=1))
    site.put("latest", make_image("latest", layers=1))
    site.rule(immutable=[r"v\d+\.\d+"], recheck="1h")
    site.once()
    moved = make_image("moved", layers=1)
    push(site.source.client, NAME, "v1.0", moved)
    start = len(site.source.requests())
    assert {one["verdict"] for one in site.once().values()} == {"unchanged"}
    assert site.asked(start) == {"GET tags/list": 1, "HEAD manifests": 1}
    told = run_ocisync("once", "-c", site.file, "--recheck", "--json", env=ENV).expect(0)
    report = Report(json.loads(told.stdout)["jobs"])
    assert "v1.0 is immutable by the rule, and moved" in report.warnings[0]
    assert site.manifest("v1.0") == moved.manifest


def test_plan_tells_what_would_be_refused_or_wait(site: Site) -> None:
    signed = make_image("signed")
    site.put("1", signed, site.sign(signed))
    site.put("2", make_image("bare"))
    site.rule(verify="ours", min_age="3d", tags={"allow": ["[12]"]})
    planned = json.loads(ran("plan", "-c", site.file, "--json").stdout)["tags"]
    assert {one["tag"]: one["action"] for one in planned} == {"1": "wait", "2": "refuse"}
    assert "pending until" in ran("plan", "-c", site.file).stdout
    ran("once", "-c", site.file, code=1)
    said = ran("status", "-c", site.file).stdout
    assert ":1: first seen" in said
    assert "pending until" in said
    assert "[verify.unsigned]" in said
    site.rule(verify={"any": ["ours"], "else": "warn"}, tags={"allow": ["2"]})
    assert "new; not as the rule wants it: sha256:" in ran("plan", "-c", site.file).stdout


def imported(file: Path, *rooms: str) -> list[str]:
    """The modules of some rooms that one pass imports."""
    code = (
        "import sys; sys.argv = ['ocisync', 'once', '-c', sys.argv[1]]\n"
        "from ocisync.cli import main\n"
        "try:\n    main()\nexcept SystemExit as exc:\n    assert exc.code in (0, None)\n"
        f"found = [name for name in sys.modules if name.startswith({rooms!r})]\n"
        "print('modules', *found)"
    )
    command = [sys.executable, "-c", code, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env={**ENV}, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_nothing_of_trust_is_imported_without_a_policy(site: Site) -> None:
    site.put("1", make_image("image"))
    targets = {"out": {"type": "static", "path": str(site.folder / "out")}}
    file = write_config(site.folder, targets, sync=[{"source": site.name, "target": "out"}])
    assert imported(file, "ocisync.trust", "cryptography", "sigstore") == []
    assert site.tags() == {"1"}


def test_a_pass_that_finds_nothing_new_loads_nothing_that_checks(site: Site) -> None:
    image = make_image("image")
    site.put("1", image, site.sign(image))
    site.rule(verify=["ours", "people"])
    rooms = ("ocisync.trust.checker", "ocisync.trust.keys", "cryptography", "sigstore")
    assert imported(site.file, *rooms) != []
    assert imported(site.file, *rooms) == []
    assert site.tags() == {"1", sig_tag(image)}


def test_kills_at_random_moments(tmp_path: Path, registry: DockerRegistry) -> None:
    random_kills(4, tmp_path, registry, seed=4)


def test_another_trusted_root_counts_from_a_reload_on(site: Site) -> None:
    """The same configuration, but another file beside it; a torn one changes nothing."""
    image, later = make_image("image"), make_image("later")
    site.put("1", image, SIGSTORE.layer(image.digest, site.name))
    root = site.folder / "root.json"
    root.write_bytes(Sigstore().trusted_root())
    site.rule(verify="people", tags={"allow": ["[12]"]}, interval="200ms")
    with daemon(site.file, env=ENV) as running:
        wait_for(lambda: "verify.untrusted" in running.log, "the refusal")
        assert site.tags() == set()
        root.write_bytes(SIGSTORE.trusted_root())
        os.kill(running.pid, signal.SIGHUP)
        wait_for(lambda: "1" in site.tags(), "the image")
        root.write_bytes(SIGSTORE.trusted_root()[:-40])
        os.kill(running.pid, signal.SIGHUP)
        wait_for(lambda: "root.json is not JSON" in running.log, "the refusal of the torn file")
        site.put("2", later, SIGSTORE.layer(later.digest, site.name))
        wait_for(lambda: "2" in site.tags(), "the old root to go on")


def test_a_trusted_root_with_a_damaged_certificate(site: Site) -> None:
    document = json.loads(SIGSTORE.trusted_root())
    (authority,) = document["certificateAuthorities"]
    authority["certChain"]["certificates"][0]["rawBytes"] = "AAAA"
    (site.folder / "root.json").write_text(json.dumps(document))
    site.rule(verify="people")
    site.put("1", make_image("image"))
    said = ran("once", "-c", site.file, code=1).stderr
    assert "verify.people: `trusted_root` is damaged" in said


def test_the_daemon_takes_a_pending_image_when_its_time_has_come(site: Site) -> None:
    site.put("1", make_image("image"))
    site.rule(min_age="3s", interval="1h", jitter=0.0)
    began = time.monotonic()
    with started("run", "-c", site.file, env=ENV):
        while site.tags() != {"1"}:
            assert time.monotonic() - began < 60, "it was not taken at its time"
            time.sleep(0.2)
    assert time.monotonic() - began >= 3
