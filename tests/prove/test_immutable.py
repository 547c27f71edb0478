"""Ten thousand tags that never move, in ten repositories: ten lists, and nothing else; a tenth of the time."""

import json
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from tests.integration.mainjob import ENV, write_config
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import digest_of, make_image, push

REPOSITORIES, TAGS = 10, 1000


def fill(registry: DockerRegistry) -> None:
    """Every tag has a manifest of its own; the layers are shared. All but the first are put into the storage itself."""
    image = make_image("base", layers=1, size=100)
    for repository in range(REPOSITORIES):
        push(registry.client, f"app{repository}", "v0", image)
        for tag in range(1, TAGS):
            document = json.loads(image.manifest) | {"annotations": {"tag": f"{repository}/{tag}"}}
            store(registry.storage, f"app{repository}", f"v{tag}", json.dumps(document).encode())


def store(storage: Path, name: str, tag: str, manifest: bytes) -> None:
    """A manifest and its tag, as docker-registry keeps them on a disk."""
    digest = digest_of(manifest)
    digits = digest.removeprefix("sha256:")
    root = storage / "docker/registry/v2"
    manifests = root / "repositories" / name / "_manifests"
    files = {
        root / "blobs/sha256" / digits[:2] / digits / "data": manifest,
        manifests / "revisions/sha256" / digits / "link": digest.encode(),
        manifests / "tags" / tag / "index/sha256" / digits / "link": digest.encode(),
        manifests / "tags" / tag / "current/link": digest.encode(),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def config(folder: Path, registry: DockerRegistry, **settings: object) -> Path:
    rules = [
        {"name": f"app{number}", "source": f"{registry.host}/app{number}", "target": "out", **settings}
        for number in range(REPOSITORIES)
    ]
    return write_config(folder, {"out": {"type": "static", "path": str(folder / "out")}}, sync=rules)


def once(file: Path, *, is_fork: bool) -> float:
    """One pass; its time in seconds: a fork's is that of the pass, a command's has Python's start in it."""
    done = run_ocisync("once", "-c", file, env=ENV, timeout=900, is_fork=is_fork).expect(0)
    assert done.stdout.splitlines()[-1].startswith(f"{REPOSITORIES * TAGS} tags: ")
    return done.seconds


def compare(folder: Path, registry: DockerRegistry, *, is_fork: bool) -> float:
    """The share of a pass's time that one takes whose tags never move, once it was seen that it asks for lists only."""
    fill(registry)
    every, never = folder / "every", folder / "never"
    every.mkdir()
    never.mkdir()
    asking, silent = config(every, registry), config(never, registry, immutable=[r"v\d+"])
    once(asking, is_fork=True)
    once(silent, is_fork=True)
    start = len(registry.requests())
    once(silent, is_fork=True)
    asked = Counter((one.method, one.path.partition("?")[0]) for one in registry.requests()[start:])
    pages = {("GET", f"/v2/app{number}/tags/list") for number in range(REPOSITORIES)}
    assert asked.keys() - {("GET", "/v2/")} == pages  # each in as many pages as the registry likes
    pairs = [(once(silent, is_fork=is_fork), once(asking, is_fork=is_fork)) for _ in range(3)]
    share = median(one / other for one, other in pairs)
    told = ", ".join(f"{one:.2f} s beside {other:.1f} s" for one, other in pairs)
    print(f"{'the pass' if is_fork else 'the command'}: {told}: {share:.3f}")  # noqa: T201
    return share


@pytest.mark.prove
def test_a_pass_over_tags_that_never_move_is_one_list_per_repository(tmp_path: Path, registry: DockerRegistry) -> None:
    assert compare(tmp_path, registry, is_fork=True) <= 0.05


@pytest.mark.prove
@pytest.mark.xfail(reason="0.08 to 0.12 was measured, of which more than half is Python's start and imports")
def test_such_a_pass_as_a_command_with_the_start_of_python(tmp_path: Path, registry: DockerRegistry) -> None:
    assert compare(tmp_path, registry, is_fork=False) <= 0.1
