"""Parts of a running daemon that end by a defect, and kills meanwhile: nothing is lost, and /readyz says so."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from subprocess import TimeoutExpired

import pytest
import yaml

from tests.defects import PARTS
from tests.integration.kills import World
from tests.integration.mainjob import ENV, Directory, tags
from tests.servers.command import Daemon
from tests.servers.docker_registry import DockerRegistry
from tests.servers.process import Child, wait_for

NAMES = ("drop folder of rule d", "the scheduler", "the queue of jobs", "the dispatcher of pushes")


def start_daemon(world: World, seed: int, times: int) -> Daemon:
    command = [sys.executable, "-m", "tests.defects", str(seed), str(times), "run", "-c", str(world.file)]
    logs = world.folder / f"log{seed}"
    logs.mkdir()
    root = Path(__file__).parents[2]
    child = Child(command, logs, {**ENV, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "NO_COLOR": "1"}, root)
    return Daemon(child, f"http://{yaml.safe_load(world.file.read_text())['daemon']['listen']}")


def test_parts_that_defects_end_are_started_again_and_readyz_says_so(tmp_path: Path, registry: DockerRegistry) -> None:
    world = World(tmp_path, registry, random.Random(1), place=Directory(tmp_path / "registry"))
    world.change(0)
    running = start_daemon(world, 1, 2)
    try:
        named: set[str] = set()

        def look() -> bool:
            try:
                ready = running.get("/readyz")
            except OSError:
                return False
            assert running.get("/healthz").status == 200
            said = ready.body.decode()
            named.update(name for name in NAMES if ready.status == 503 and name in said)
            return running.log.count("part.failed") >= 2 * len(PARTS)

        wait_for(look, "two defects of each part", 60)
        wait_for(running.ready, "all parts to work again", 20)
        assert named == set(NAMES)
        world.change(1)
        wait_for(lambda: tags(world.place, "built/app") == ["0", "1"], "what was dropped before and after", 30)
        wait_for(lambda: set(tags(world.place, "library/app")) >= set(world.wanted), "the mirrored tags", 30)
        assert running.child.stop() == 0
    finally:
        running.child.kill()
    world.converge()
    world.check()


def prove_kills(count: int, folder: Path, registry: DockerRegistry) -> None:
    """Daemons with defects, killed at a random moment, and a whole pass after each."""
    chance = random.Random(count)
    world = World(folder, registry, chance, place=Directory(folder / "registry"))
    for number in range(count):
        world.change(number)
        running = start_daemon(world, 100 + number, 3)
        try:
            running.child.process.wait(chance.uniform(0.8, 6.0))
        except TimeoutExpired:
            running.child.kill()
        world.check()
        world.converge()


@pytest.mark.timeout(300)
def test_kills_of_daemons_whose_parts_fail(tmp_path: Path, registry: DockerRegistry) -> None:
    prove_kills(3, tmp_path, registry)


@pytest.mark.prove
def test_sixty_kills_of_daemons_whose_parts_fail(tmp_path: Path, registry: DockerRegistry) -> None:
    prove_kills(60, tmp_path, registry)
