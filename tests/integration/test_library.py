"""ocisync as a library: what its documentation promises."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import ocisync
import ocisync.library  # what is imported while a loop runs blocks it
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.images import docker_archive, make_image, make_index, push


async def test_copy_look_and_verify(registry: DockerRegistry, tmp_path: Path) -> None:
    index = make_index([make_image()])
    push(registry.client, "app", "1", index)
    source = f"docker://{registry.host}/app:1"
    (copied,) = await ocisync.copy(source, f"static:{tmp_path}/s//team/app:1")
    assert (copied.digest, copied.tag, copied.was_there) == (index.digest, "1", False)
    assert copied.sent > 0
    found = await ocisync.inspect(f"static:{tmp_path}/s//team/app:1")
    assert found.digest == index.digest
    assert [one.platform for one in found.images] == ["linux/amd64"]
    assert found.images[0].layers
    assert await ocisync.tags(f"docker://{registry.host}/app") == ["1"]
    assert await ocisync.digest(source, platform="linux/amd64") == found.images[0].digest
    assert await ocisync.verify(source) == {}


async def test_several_images_into_one_archive(tmp_path: Path) -> None:
    one = docker_archive(tmp_path / "one.tar", {"a:1": make_image(seed="one")})
    two = docker_archive(tmp_path / "two.tar", {"b:1": make_image(seed="two")})
    await ocisync.copy([str(one), str(two)], str(tmp_path / "both.tar"))
    assert len(await ocisync.tags(str(tmp_path / "both.tar"))) == 2


async def test_a_login_goes_before_all_others(tmp_path: Path) -> None:
    with docker_registry(tmp_path / "r", basic=True) as closed:
        push(closed.client, "app", "1", make_image())
        place = f"docker://{closed.host}/app:1"
        with pytest.raises(ocisync.OcisyncError) as caught:
            await ocisync.digest(place)
        assert caught.value.code == "auth.denied"
        assert await ocisync.digest(place, logins={closed.host: (USERNAME, PASSWORD)})
        with pytest.raises(ocisync.OcisyncError, match="was not copied to"):
            await ocisync.copy(place, f"oci:{tmp_path}/layout:1", logins={closed.host: (USERNAME, "wrong-word")})


def test_it_runs_in_a_plain_program(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "one.tar", {"a:1": make_image()})
    assert asyncio.run(ocisync.copy(str(archive), f"static:{tmp_path}/s//a:1"))


def test_it_prints_nothing_and_logs_where_the_program_says(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "one.tar", {"a:1": make_image()})
    places = str(archive), f"static:{tmp_path}/s//a:1"
    copy = f"asyncio.run(ocisync.copy(*{places!r}, logins={{'h': ('me', 'hush-hush')}}))"
    programs = {
        "plain": "",
        "logging": "import logging; logging.basicConfig(level=logging.DEBUG)",
        "structlog": "import sys, structlog as s; s.configure(logger_factory=s.PrintLoggerFactory(sys.stderr))",
    }
    said = {}
    for name, start in programs.items():
        code = f"import asyncio, ocisync\n{start}\n{copy}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "", name
        assert "hush-hush" not in done.stderr
        said[name] = done.stderr
    assert said["plain"] == ""
    assert "INFO:ocisync:event='job.finished'" in said["logging"]
    assert "job.finished" in said["structlog"]


def test_importing_costs_nothing_and_knows_its_names() -> None:
    code = "import sys, ocisync; print(len([name for name in sys.modules if name.startswith('ocisync')]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert all(getattr(ocisync, name) for name in ocisync.__all__)
    with pytest.raises(AttributeError, match="nope"):
        ocisync.nope  # type: ignore[attr-defined]  # noqa: B018


def test_the_documentations_program_runs(registry: DockerRegistry, tmp_path: Path) -> None:
    index = make_index([make_image(), make_image(platform=("linux", "arm64", ""))])
    push(registry.client, "library/alpine", "3", index)
    text = (Path(__file__).parents[2] / "docs/library.md").read_text()
    program = text.partition("```python\n")[2].partition("```")[0]
    program = program.replace("docker://alpine", f"docker://{registry.host}/library/alpine")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert index.digest in done.stdout
    assert done.stdout.endswith("{}\n")
