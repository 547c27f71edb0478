"""Both ends without hands: the daemon writes bundles into an outbox, and takes them from a drop folder."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.bundling import APP, TOOL, Site, change
from tests.integration.mainjob import ENV, Directory, contents, write_config
from tests.servers.command import daemon, run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.process import wait_for


def make_keys(folder: Path, name: str = "signing") -> tuple[Path, Path]:
    """A private and a public key."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


class Ends:
    """Two daemons' configurations, and the hands between them."""

    def __init__(self, folder: Path, registry: DockerRegistry) -> None:
        self.folder = folder
        self.inner = Directory(folder / "inner")
        self.private, self.public = make_keys(folder / "keys")
        self.site = Site(folder / "outside", registry, {"out": Directory(folder / "out")})
        self.outbox, self.inbox = folder / "outbox", folder / "inbox"
        self.back, self.receipts = folder / "back", folder / "receipts"
        self.inbox.mkdir()
        self.outside = self.write_outside()
        self.inside = write_config(
            folder / "inside",
            {"inner": self.inner.settings},
            drop=[
                {
                    "name": "arrivals",
                    "path": str(self.inbox),
                    "target": "inner",
                    "done": "move",
                    "stable": "0s",
                    "rescan": "200ms",
                    "bundles": {"trust": [str(self.public)], "prune": True, "receipts": str(self.receipts)},
                }
            ],
        )

    def write_outside(self, **settings: object) -> Path:
        """The outer configuration, with one more rule."""
        sync = self.site.rules()
        rule = {
            "name": "mirror",
            "rules": ["app", "tool"],
            "outbox": str(self.outbox),
            "key": str(self.private),
            "interval": "1h",
            **settings,
        }
        return write_config(
            self.folder / "outside", {"out": self.site.targets["out"].settings}, sync=sync, bundle=[rule]
        )

    def write(self) -> None:
        """One bundle."""
        run_ocisync("once", "mirror", "-c", self.outside, env=ENV).expect(0)

    def carry(self) -> None:
        """All files of the outbox into the inbox, the inventories first."""
        for path in sorted(self.outbox.iterdir(), key=lambda one: one.suffix != ".json"):
            shutil.move(path, self.inbox / path.name)

    def take(self, code: int = 0) -> str:
        """One look at the inbox."""
        done = run_ocisync("once", "-c", self.inside, "--json", env=ENV)
        assert done.code == code, done
        return done.stdout

    def check(self) -> None:
        """Both are the same."""
        self.site.mirror()
        assert contents(self.inner) == contents(self.site.targets["out"])


@pytest.fixture
def ends(tmp_path: Path, registry: DockerRegistry) -> Ends:
    """Both ends."""
    return Ends(tmp_path, registry)


def test_the_outbox_is_emptied_and_deltas_go_on(ends: Ends) -> None:
    for number in range(3):
        change(ends.site, number)
        ends.write()
        ends.carry()
        ends.take()
        ends.check()
    assert {path.name for path in (ends.inbox / "done").iterdir()} >= {"mirror-0003.tar", "mirror-0001.sigstore.json"}
    assert {path.name for path in ends.receipts.iterdir()} == {f"mirror-000{n}.receipt.json" for n in (1, 2, 3)}
    third = json.loads((ends.inbox / "done/mirror-0003.bundle.json").read_text())
    assert third["base"]["id"] == "mirror-0002"
    ends.write()
    assert not list(ends.outbox.iterdir()), "nothing had changed"


def test_receipts_that_come_back_are_the_base(ends: Ends) -> None:
    ends.outside = ends.write_outside(base="receipt", receipts=str(ends.receipts))
    change(ends.site, 0)
    ends.write()
    ends.carry()
    ends.take()
    change(ends.site, 1)
    ends.write()
    shutil.rmtree(ends.outbox)  # it is lost
    change(ends.site, 2)
    ends.write()
    ends.carry()
    ends.take()
    ends.site.mirror()
    inner, outer = ends.inner.listing(), ends.site.targets["out"].listing()
    assert [key for key in inner if "/manifests/" in key and "sha256" not in key] == [
        key for key in outer if "/manifests/" in key and "sha256" not in key
    ]


def test_what_is_not_signed_by_a_trusted_key_is_set_aside(ends: Ends) -> None:
    other, _ = make_keys(ends.folder / "other")
    ends.outside = ends.write_outside(key=str(other))
    change(ends.site, 0)
    ends.write()
    ends.carry()
    said = ends.take(1)
    assert "verify.untrusted" in said
    assert not list(ends.inner.path.rglob("v2/*/*/manifests")) if ends.inner.path.exists() else True
    aside = {path.name for path in (ends.inbox / "failed").iterdir()}
    assert {"mirror-0001.tar", "mirror-0001.reason.txt"} <= aside
    assert "trusted" in (ends.inbox / "failed/mirror-0001.reason.txt").read_text()


def test_a_bundle_for_which_the_configuration_has_no_places_stays(ends: Ends) -> None:
    file = yaml.safe_load(ends.inside.read_text())
    file["drop"][0]["bundles"]["rename"] = {"repositories": {".*": "one"}}
    ends.inside.write_text(yaml.safe_dump(file))
    change(ends.site, 0)
    ends.write()
    ends.carry()
    assert "would both become" in ends.take(1)
    assert not (ends.inbox / "failed").exists()
    assert (ends.inbox / "mirror-0001.tar").exists()


def test_a_link_in_the_place_of_the_failed_folder_lends_nothing(ends: Ends) -> None:
    other, _ = make_keys(ends.folder / "other")
    ends.outside = ends.write_outside(key=str(other))
    elsewhere = ends.folder / "elsewhere"
    elsewhere.mkdir()
    (ends.inbox / "failed").symlink_to(elsewhere)
    change(ends.site, 0)
    ends.write()
    ends.carry()
    assert "cannot be moved there" in ends.take(1)
    assert not list(elsewhere.iterdir())


def test_a_bundle_waits_for_its_signature(ends: Ends) -> None:
    change(ends.site, 0)
    ends.write()
    (ends.outbox / "mirror-0001.sigstore.json").unlink()
    ends.carry()
    assert "mirror-0001.sigstore.json is not there" in ends.take()
    assert not ends.inner.path.exists() or not ends.inner.listing()
    assert (ends.inbox / "mirror-0001.tar").exists()


def test_a_bundle_waits_for_its_volumes_and_for_the_one_before(ends: Ends) -> None:
    ends.outside = ends.write_outside(volume="1MiB")
    for number in range(2):
        change(ends.site, number)
        ends.site.mirror()
        ends.write()
    first = min(ends.outbox.glob("mirror-0001*.tar"))
    kept = first.read_bytes()
    first.unlink()
    shutil.rmtree(ends.inbox)
    shutil.copytree(ends.outbox, ends.inbox)
    (ends.inbox / "link-0009.tar").symlink_to("/etc/passwd")
    (ends.inbox / "link-0009.bundle.json").symlink_to("/etc/passwd")
    said = ends.take(0)
    assert first.name in said
    assert not list(ends.receipts.glob("*"))
    (ends.inbox / first.name).write_bytes(kept)
    ends.take(0)
    ends.check()


def test_a_drop_rule_without_bundles_leaves_them(ends: Ends, tmp_path: Path) -> None:
    change(ends.site, 0)
    ends.write()
    drop = {"name": "d", "path": str(ends.outbox), "target": "inner", "stable": "0s"}
    file = write_config(tmp_path / "plain", {"inner": ends.inner.settings}, drop=[drop])
    done = run_ocisync("once", "-c", file, env=ENV).expect(0)
    assert "mirror-0001.tar is skipped: a bundle's file" in done.stderr
    assert not ends.inner.path.exists() or not ends.inner.listing()


def test_two_daemons(ends: Ends) -> None:
    ends.outside = ends.write_outside(interval="300ms")
    change(ends.site, 0)
    with daemon(ends.outside, env=ENV), daemon(ends.inside, env=ENV):

        def carried(count: int) -> bool:
            for inventory in ends.outbox.glob("*.bundle.json"):
                for path in sorted(ends.outbox.glob(f"{inventory.name.split('.')[0]}*"), reverse=True):
                    path.rename(ends.inbox / path.name)
            return len(list(ends.receipts.glob("*"))) >= count

        wait_for(lambda: carried(1) or None, "the first bundle to arrive")
        change(ends.site, 1)
        wait_for(lambda: carried(2) or None, "the second bundle to arrive")
        images = [f"v2/{APP}/manifests/v1", f"v2/{TOOL}/manifests/stable"]  # a bundle may have come between two pushes
        wait_for(lambda: (carried(2) and all(map(ends.inner.read, images))) or None, "all images to arrive")
        status = json.loads(run_ocisync("status", "--json", "-c", ends.inside, env=ENV).expect(0).stdout)
        assert "bundles arrivals" in json.dumps(status)
