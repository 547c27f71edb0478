"""docs/troubleshooting.md: `python -m tests.troubleshooting.page` makes every mistake and writes the page."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import web

from tests.servers.command import Finished, run_ocisync, started
from tests.servers.docker_registry import docker_registry
from tests.servers.images import docker_archive, make_image, make_index, push
from tests.servers.loop import serve_app
from tests.servers.tls import make_certificate
from tests.troubleshooting.mistakes import CHECK, SECTIONS, Mistake

PAGE = Path(__file__).parents[2] / "docs/troubleshooting.md"
NAMES = {
    "OPEN": "registry.example.com:5000",
    "CLOSED": "private.example.com:5000",
    "SECURED": "secure.example.com",
    "STRICT": "strict.example.com:5000",
    "PAGE": "www.example.com",
}
HEAD = """# When something goes wrong

Likely mistakes, and what ocisync answers. Every answer on this page was made by running the command; a test compares
them with what is said today. An answer names the object, says what happened and what to do, and ends with a stable code
for searching.

More help: `ocisync config check` lists all mistakes of a file at once, `ocisync status` what failed and why,
`ocisync doctor URL` what clients of your registry would trip over, and `ocisync --log-level debug COMMAND` shows every
request that is repeated.
"""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Running servers by their names in `NAMES`, and a folder to begin with."""

    hosts: Mapping[str, str]
    folder: Path

    def fill(self, text: str) -> str:
        """The text with real hosts."""
        for name, host in self.hosts.items():
            text = text.replace(f"{{{name}}}", host)
        return text

    def clean(self, text: str, place: Path) -> str:
        """What was said, with the page's names and without what differs from run to run."""
        for name, host in self.hosts.items():
            text = text.replace(host, NAMES[name])
        text = text.replace(f"{place}/", "/srv/").replace(str(place), "/srv")
        text = re.sub(r"(?m)^\d+ tags?: .*\n?", "", text).rstrip()  # the pass's sums, which are about something else
        text = re.sub(r"\(pid \d+\)", "(pid 1234)", text)
        text = re.sub(r"(/srv/\S*?)\.\d{8,}", r"\1", text)
        return re.sub(r"sha256:[0-9a-f]{64}", "sha256:…", text)


@contextmanager
def surroundings() -> Iterator[Surroundings]:
    """Servers for all mistakes."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        opened = stack.enter_context(docker_registry(folder / "open"))
        push(opened.client, "app", "1", make_image())
        push(opened.client, "multi", "1", make_index([make_image()]))
        closed = stack.enter_context(docker_registry(folder / "closed", basic=True))
        secured = stack.enter_context(docker_registry(folder / "tls", tls=make_certificate(folder / "certificate")))
        storage = {"filesystem": {"rootdirectory": str(folder / "strict/storage")}, "delete": {"enabled": False}}
        strict = stack.enter_context(docker_registry(folder / "strict", settings={"storage": storage}))
        push(strict.client, "app", "1", make_image())
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", _answer_page)
        page = stack.enter_context(serve_app(app)).removeprefix("http://")
        found = (opened.host, closed.host, secured.host, strict.host, page)
        yield Surroundings(dict(zip(NAMES, found, strict=True)), folder)


async def _answer_page(_: web.Request) -> web.Response:
    return web.Response(text="<!DOCTYPE html><html><title>Sign in</title></html>", content_type="text/html")


def make(mistake: Mistake, around: Surroundings, place: Path) -> str:
    """What ocisync answers to a mistake, as the page has it.

    Raises:
        RuntimeError: it ended with another exit status.
    """
    if mistake.text:
        (place / "ocisync.yaml").write_text(around.fill(mistake.text))
    docker_archive(place / "app.tar", {"app:1": make_image()})
    if "/proc/" in mistake.text:
        (place / "drop").mkdir()
        docker_archive(place / "drop/app.tar", {"app:1": make_image()})
    if "./notes" in mistake.text:
        (place / "notes").mkdir()
        (place / "notes/app.tar").write_text("meeting at nine\n" * 100)
    if "./farm" in mistake.text:
        (place / "farm/team/app/1.0").mkdir(parents=True)
        docker_archive(place / "farm/team/app/1.0/linux-amd64.tar.gz", make_image(), compress=True)
    with ExitStack() as stack:
        if "./locked" in mistake.text:
            running = stack.enter_context(started("run", cwd=place))
            running.wait_until((place / "locked/daemon.lock").exists, "a daemon to hold its state")
        if "./small" in mistake.command:
            stack.enter_context(small_disk(place / "small"))
        done = _run(mistake, around, place)
    said = "\n".join(part.strip() for part in (done.stderr, done.stdout) if part.strip())
    if "Traceback" in said:
        raise RuntimeError(said)
    done.expect(mistake.code)
    return around.clean(said, place)


def _run(mistake: Mistake, around: Surroundings, place: Path) -> Finished:
    words = shlex.split(around.fill(mistake.command))[1:]
    env = {"HOME": str(place), "XDG_RUNTIME_DIR": "", "DOCKER_CONFIG": "", "COLUMNS": "200"}
    return run_ocisync(*words, cwd=place, env=env, timeout=90)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system with no room.

    Raises:
        OSError: none can be made here.
    """
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=4k,mode=0755", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(options, capture_output=True, check=False).returncode != 0:
        raise OSError("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def answers() -> dict[str, str]:
    """What the page has for each mistake, by its title."""
    found: dict[str, str] = {}
    for part in PAGE.read_text().split("\n### ")[1:]:
        title, _, rest = part.partition("\n")
        found[title] = rest.partition("```text\n")[2].partition("\n```")[0]
    return found


def render(mistake: Mistake, answer: str) -> str:
    """One mistake as the page shows it."""
    shown = mistake.shown if mistake.config is None else (mistake.shown or mistake.config)
    names = {f"{{{name}}}": host for name, host in NAMES.items()}
    command = mistake.command
    for name, host in names.items():
        shown, command = shown.replace(name, host), command.replace(name, host)
    lines = [f"### {mistake.title}\n"]
    if shown:
        lines.append(f"```yaml\n{shown.rstrip()}\n```\n")
    if command != CHECK or not shown:
        lines.append(f"```sh\n{command}\n```\n")
    lines.append(f"```text\n{answer}\n```\n")
    if mistake.advice:
        lines.append(f"{mistake.advice}\n")
    return "\n".join(lines)


def write_page() -> str:
    """The whole page; what cannot be made on this machine stays as it is."""
    known = answers() if PAGE.exists() else {}
    parts = [HEAD]
    with surroundings() as around:
        for heading, mistakes in SECTIONS.items():
            parts.append(f"## {heading}\n")
            for mistake in mistakes:
                with TemporaryDirectory() as place:
                    try:
                        answer = make(mistake, around, Path(place))
                    except OSError:
                        answer = known.get(mistake.title, "")
                parts.append(render(mistake, answer))
    return "\n".join(parts)


if __name__ == "__main__":
    text = write_page()
    PAGE.write_text(text)
    sys.stdout.write(f"wrote {PAGE}\n")
