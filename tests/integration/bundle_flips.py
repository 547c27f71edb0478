"""Flipped bits: each must be found before anything is published. Without child processes, for there are many."""

import random
import re
import shutil
from functools import partial
from pathlib import Path

import anyio

from ocisync.commands.bundle import AppliedBundle, ApplyRequest, apply
from ocisync.config.load import load_config
from ocisync.config.models import Config
from ocisync.errors import OcisyncError
from ocisync.sync.context import Progress
from tests.integration.bundling import APP, Site
from tests.integration.mainjob import Directory
from tests.integration.test_bundle_daemon import make_keys
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import make_artifact, make_image, push


def make_flipping_site(folder: Path, registry: DockerRegistry) -> Site:
    """A small signed bundle in several volumes, with a blob that is cut."""
    places = {"out": Directory(folder / "out"), "inner": Directory(folder / "inner")}
    site = Site(folder / "site", registry, places)
    image = make_image("flipped", layers=1, size=1_100_000)
    site.put(APP, "v1", image)
    push(registry.client, APP, "", make_artifact(image))
    site.put("team/tool", "v1", make_image("tool", layers=1, size=20_000))
    private, _ = make_keys(folder / "keys")
    site.create("--volume", "1MiB", "--key", private)
    return site


def flip_bits(site: Site, count: int, seed: int) -> None:
    """Flip one random bit of a random file, so many times; with and without a key that is trusted."""
    chance = random.Random(seed)
    config = load_config(site.file)
    trusted = (site.folder.parent / "keys/signing.pub",)
    files = sorted(site.media.iterdir())
    assert len(files) == 5, files
    whole = {path: path.read_bytes() for path in files}
    target = Path(config.targets["inner"].path)  # type: ignore[union-attr]
    for trust in ((), trusted):
        assert isinstance(_apply(config, site, trust), list)
        shutil.rmtree(target)
    for number in range(count):
        path = chance.choice(files)
        at, bit = chance.randrange(len(whole[path])), chance.randrange(8)
        _flip(path, at, bit)
        error = _apply(config, site, trusted if number % 2 else ())
        assert isinstance(error, OcisyncError), f"{path.name}: bit {bit} of byte {at} was not noticed"
        assert re.search("mirror-0001|SHA256SUMS|inventory|signature|trusted|bundle", error.message), error.message
        assert not target.exists() or not list(target.rglob("*"))
        _flip(path, at, bit)
    assert {path: path.read_bytes() for path in sorted(site.media.iterdir())} == whole


def _apply(config: Config, site: Site, trust: tuple[Path, ...]) -> list[AppliedBundle] | OcisyncError:
    request = ApplyRequest("inner", trust=trust, receipts=site.folder / "receipts", may_be_older=True)
    try:
        return anyio.run(partial(apply, config, [site.media], request, Progress()))
    except OcisyncError as exc:
        return exc
    except BaseExceptionGroup as group:
        (error,) = group.exceptions
        assert isinstance(error, OcisyncError)
        return error


def _flip(path: Path, at: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))
