"""overwrite, backup, prune and mount between two registries with htpasswd and TLS; skopeo reads what came of it."""

import json
from pathlib import Path

import pytest

from tests.integration.mainjob import ENV, KINDS, Kind, listed_tags, open_place, tags, walk, write_config
from tests.integration.mirrors import NAME, mirror
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import make_image, push
from tests.servers.seaweed import Seaweed
from tests.servers.skopeo import pull
from tests.servers.tls import Certificate

OLD, NEW, OTHER = make_image("old"), make_image("new"), make_image("other", docker=True)
FIVE = ["1", "2", "3", "4", "5"]


def test_overwrite_never_leaves_a_tag_that_is_there_and_says_so(tmp_path: Path, certificate: Certificate) -> None:
    with mirror(tmp_path, certificate) as world:
        world.rule(overwrite="never")
        world.put("1.0", OLD)
        world.once()
        world.put("1.0", NEW)
        world.put("1.1", NEW)
        assert "keep" in world.plan()
        done = world.once()
        assert f"{NAME}:1.0: kept: the target's {OLD.digest} stays" in done.stderr
        assert "overwrite: never" in done.stderr
        assert "1 kept" in done.stdout
        assert (world.manifest("1.0"), world.manifest("1.1")) == (OLD.manifest, NEW.manifest)
        world.once()
        assert world.manifest("1.0") == OLD.manifest
        world.rule()
        world.once()
        assert world.manifest("1.0") == NEW.manifest


def test_a_backup_keeps_the_image_whose_tag_moves(tmp_path: Path, certificate: Certificate) -> None:
    with mirror(tmp_path, certificate) as world:
        world.rule(backup="bkup-{tag}", tags={"allow": ["[0-9.]+"]}, prune=True, prune_limit=1)
        world.put("1.0", OLD)
        world.put("2.0", OTHER)
        world.once()
        world.put("1.0", NEW)
        world.once()
        assert world.tags() == ["1.0", "2.0", "bkup-1.0"]
        assert (world.manifest("1.0"), world.manifest("bkup-1.0")) == (NEW.manifest, OLD.manifest)
        world.rule(backup="bkup-{tag}", prune=True, prune_limit=1)
        world.once()
        assert world.tags() == ["1.0", "2.0", "bkup-1.0"]


def test_a_tag_that_is_gone_goes_and_tags_that_share_its_image_stay(tmp_path: Path, certificate: Certificate) -> None:
    with mirror(tmp_path, certificate) as world:
        world.rule(tags={"allow": ["[a-z0-9]+"]}, prune=True, prune_limit=0.3)
        for tag in FIVE:
            world.put(tag, OLD)
        world.put("gone", OTHER)
        world.once()
        push(world.target.client, NAME, "NotOurs", OTHER)
        push(world.target.client, NAME, "shared", OLD)  # fits the rule, and the source never had it
        world.drop(OTHER.digest)
        push(world.source.client, NAME, "6", OLD)
        before = world.plan()
        assert before.count("prune ") == 2
        assert "gone at the source" in before
        assert world.tags() == sorted([*FIVE, "NotOurs", "gone", "shared"])
        done = world.once()
        assert "2 pruned" in done.stdout
        assert world.tags() == sorted([*FIVE, "6", "NotOurs"])
        assert {world.manifest(tag) for tag in FIVE} == {OLD.manifest}
        assert world.manifest("NotOurs") == OTHER.manifest  # it had the very image of a pruned tag
        assert "nothing to do" in world.plan()


def test_fault_48_a_mass_deletion_is_refused_unless_forced(tmp_path: Path, certificate: Certificate) -> None:
    with mirror(tmp_path, certificate) as world:
        world.rule(prune=True)
        for tag in (*FIVE, "6"):
            world.put(tag, OLD)
        for tag in ("7", "8"):
            world.put(tag, OTHER)
        world.once()
        world.drop(OTHER.digest)
        assert "2 of 8 tags are gone at the source, more than prune_limit (20%)" in world.plan()
        refused = world.once(code=1)
        assert "2 of 8 tags" in refused.stderr
        assert "[prune.refused]" in refused.stderr
        assert len(world.tags()) == 8
        world.once("app", "--force-prune")
        assert world.tags() == [*FIVE, "6"]


def test_fault_48_an_empty_source_removes_nothing(tmp_path: Path, certificate: Certificate) -> None:
    with mirror(tmp_path, certificate) as world:
        world.rule(prune=True, prune_limit=1)
        world.put("1", OLD)
        world.once()
        world.drop(OLD.digest)
        refused = world.once(code=1)
        assert "the source lists no tags at all" in refused.stderr
        assert world.tags() == ["1"]


def test_a_registry_that_deletes_nothing_keeps_its_tags_as_they_were(tmp_path: Path, certificate: Certificate) -> None:
    with mirror(tmp_path, certificate, deletes=False) as world:
        world.rule(prune=True, prune_limit=1)
        world.put("1", OLD)
        world.put("2", OTHER)
        world.once()
        world.drop(OTHER.digest)
        refused = world.once(code=1)
        assert "REGISTRY_STORAGE_DELETE_ENABLED" in refused.stderr
        assert "no tag was removed" in refused.stderr
        assert world.tags() == ["1", "2"]
        assert world.manifest("2") == OTHER.manifest


@pytest.mark.parametrize("kind", KINDS)
def test_a_static_target_is_pruned_and_its_list_follows(
    kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    for tag in FIVE:
        push(registry.client, NAME, tag, OLD)
    push(registry.client, NAME, "gone", OTHER)
    with open_place(kind, tmp_path / "registry", s3) as place:
        rule = {"source": f"{registry.host}/{NAME}", "target": "out", "prune": True}
        file = write_config(tmp_path, {"out": place.settings}, sync=[rule])
        run_ocisync("once", "-c", file, env=ENV).expect(0)
        assert listed_tags(place, NAME) == [*FIVE, "gone"]
        registry.client.expect(202, "DELETE", f"/v2/{NAME}/manifests/{OTHER.digest}")
        killed = run_ocisync("once", "-c", file, env=ENV | {"OCISYNC_KILL_AT": "untag"})
        assert killed.code == -9
        assert "gone" in listed_tags(place, NAME)
        run_ocisync("once", "-c", file, env=ENV).expect(0)
        assert listed_tags(place, NAME) == tags(place, NAME) == FIVE
        walk(place, NAME, OTHER.digest)  # who pulls it by its digest still can, until it is collected


def test_a_layer_that_another_repository_has_is_mounted(tmp_path: Path, certificate: Certificate) -> None:
    with mirror(tmp_path, certificate) as world:
        world.rule()
        world.put("1", OLD)
        world.put("1", OLD, "library/twin")
        world.once()
        world.rule(source=f"{world.source.host}/library/twin")
        done = json.loads(world.once("--json").stdout)
        assert done["jobs"][0]["traffic"]["mounted"] == len(OLD.blobs)
        assert not [one for one in world.source.requests() if one.method == "GET" and "twin/blobs" in one.path]
        assert world.manifest("1", "library/twin") == OLD.manifest
        files = pull(f"{world.target.host}/library/twin:1", tmp_path / "pulled", "--src-creds", "tester:open-sesame")
        assert files.items() >= {digest[7:]: blob for digest, blob in OLD.blobs.items()}.items()
