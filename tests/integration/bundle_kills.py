"""SIGKILL while bundles are written and applied, and what must be there after the next run."""

import random
import shutil
import signal
from pathlib import Path
from subprocess import TimeoutExpired
from time import monotonic

from tests.integration.bundling import APP, BASE, Site, change
from tests.integration.mainjob import ENV, PRIVATE, Directory, Place, contents
from tests.servers.command import run_ocisync, started
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import image_of, make_image, noise, tar

CREATE_POINTS = {
    "bundle.volume": 3,
    "bundle.journal": 3,
    "bundle.sealed": 1,
    "bundle.moved": 4,
    "bundle.sums": 1,
    "bundle.out": 1,
}
APPLY_POINTS = {
    "bundle.staged": 3,
    "bundle.verified": 1,
    "bundle.complete": 1,
    "blob": 3,
    "manifest.child": 2,
    "manifest.digest": 2,
    "referrers": 2,
    "tag": 2,
    "tags_list": 2,
    "bundle.published": 2,
    "untag": 1,
    "bundle.pruned": 1,
    "bundle.receipt": 1,
}
"""How often each point is passed at least."""


def make_site(folder: Path, registry: DockerRegistry) -> Site:
    """A full bundle with a blob that is cut, a delta with a removed tag, and a source that has moved on since."""
    site = Site(folder, registry, {"out": Directory(folder / "out"), "inner": Directory(folder / "inner")})
    site.put(APP, "big", image_of([BASE, tar({"big": noise(2_300_000, "big")})], comment="big"))
    for number in range(2):
        change(site, number)
    site.create("--volume", "1MiB")
    change(site, 2)
    site.put(APP, "more", make_image("more", layers=2, size=1_300_000))
    return site


def create(site: Site, output: Path, **env: str) -> tuple[int, str]:
    """Write the delta in volumes of 1 MiB."""
    done = run_ocisync(
        "bundle", "create", "app", "tool", "--name", "mirror", "-o", output, "-c", site.file,
        "--base", site.inventory(1), "--volume", "1MiB", env=ENV | env,
    )  # fmt: skip
    return done.code, done.stderr


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def kill_each_create(site: Site, folder: Path) -> None:
    """Kill at every named point, each time it is passed; the next run makes the same bytes."""
    code, said = create(site, folder / "straight")
    assert code == 0, said
    straight = files(folder / "straight")
    assert len([name for name in straight if name.endswith(".tar")]) == 4, sorted(straight)
    for point, times in CREATE_POINTS.items():
        for number in range(1, times + 1):
            output = folder / f"{point}@{number}"
            code, said = create(site, output, OCISYNC_KILL_AT=f"{point}@{number}")
            assert code == -signal.SIGKILL, f"{point}@{number}: {code} {said}"
            code, said = create(site, output)
            assert code == 0, said
            if point == "bundle.out":  # it was whole: the next run had nothing to do but to clear away
                assert files(output) == straight
            assert files(output) == straight, f"{point}@{number}"
            shutil.rmtree(output)


def kill_each_apply(site: Site, place: Place, other: Place, folder: Path, points: dict[str, int]) -> None:
    """Kill at every named point; the next run brings the same as a run that was not killed."""
    code, said = create(site, site.media)
    assert code == 0, said
    delta = site.files(2)
    full = site.files(1)
    for bundle in (full, delta):
        code, said = _apply(site, "out", folder, bundle)
        assert code == 0, said
    wanted = contents(place)
    for point, times in points.items():
        for key in other.listing():
            other.remove(key)
        assert _apply(site, "killed", folder, full)[0] == 0
        number = random.Random(point).randint(1, times)
        code, said = _apply(site, "killed", folder, delta, OCISYNC_KILL_AT=f"{point}@{number}")
        assert code == -signal.SIGKILL, f"{point}@{number}: {code} {said}"
        code, said = _apply(site, "killed", folder, delta)
        assert code == 0, said
        assert contents(other) == wanted, f"{point}@{number}"
        assert not list((folder / "staging").iterdir())


def _apply(site: Site, target: str, folder: Path, paths: list[Path], **env: str) -> tuple[int, str]:
    receipts = folder / f"receipts-{target}"
    shutil.rmtree(receipts, ignore_errors=True)
    done = run_ocisync(
        "bundle", "apply", *paths, "--target", target, "-c", site.file, "--receipts", receipts, "--prune",
        "--staging", folder / "staging", env=ENV | env,
    )  # fmt: skip
    return done.code, done.stderr


def random_kills(site: Site, folder: Path, rounds: int, seed: int) -> int:
    """Kill at random moments of create and of apply, both until they come to their end: the same bytes. The kills."""
    chance = random.Random(seed)
    began = monotonic()
    code, said = create(site, folder / "straight")
    assert code == 0, said
    created = monotonic() - began
    straight = files(folder / "straight")
    began = monotonic()
    assert _random_apply(site, folder / "wanted", folder, None)
    applied = monotonic() - began
    wanted = _public(folder / "wanted")
    kills = 0
    while kills < rounds:
        output = folder / "killed"
        while _kill_create(site, output, chance.uniform(0.3, 1.1) * created):
            kills += 1
        assert files(output) == straight
        shutil.rmtree(output)
        target = folder / "place"
        while not _random_apply(site, target, folder, chance.uniform(0.3, 1.1) * applied):
            kills += 1
        found = _public(target)
        differing = [name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)]
        assert not differing, differing
        shutil.rmtree(target)
    return kills


def _public(target: Path) -> dict[str, bytes]:
    """What clients may see of a static registry."""
    return {name: body for name, body in files(target).items() if not name.startswith(PRIVATE)}


def _random_apply(site: Site, target: Path, folder: Path, seconds: float | None) -> bool:
    """Apply both bundles; whether it came to its end."""
    paths = [*site.files(1), *sorted((folder / "straight").glob("mirror-0002*"))]
    receipts = folder / "receipts"
    shutil.rmtree(receipts, ignore_errors=True)
    with started("bundle", "apply", *paths, "--target", f"static:{target}", "--receipts", receipts, env=ENV) as child:
        try:
            return child.process.wait(seconds) == 0
        except TimeoutExpired:
            child.kill()
            return False


def _kill_create(site: Site, output: Path, seconds: float) -> bool:
    """Whether it was killed before its end."""
    arguments = ("bundle", "create", "app", "tool", "--name", "mirror", "-o", output, "-c", site.file)
    with started(*arguments, "--base", site.inventory(1), "--volume", "1MiB", env=ENV) as child:
        try:
            child.process.wait(seconds)
        except TimeoutExpired:
            child.kill()
            return True
    return False
