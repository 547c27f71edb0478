"""`ocisync demo`: the main job on this machine, with the real daemon and no cloud."""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from ocisync.cli import run_async
from ocisync.cli.display.output import counted, show
from ocisync.cli.display.progress import progress
from ocisync.commands.demo_samples import ARCHITECTURES, write_sample
from ocisync.content.repository import Source
from ocisync.errors import NotFound, OcisyncError
from ocisync.images.pull_check import pull_and_check
from ocisync.model.descriptor import Descriptor
from ocisync.model.locator import parse_locator
from ocisync.model.text.quantities import size_text
from ocisync.wiring.daemon import RunningDaemon, running_daemon
from ocisync.wiring.session import optional_session

PATIENCE = 60.0  # seconds until a step that takes a moment counts as failed
_LOOK = 0.2  # seconds between looks

_DROP = """\
version: 1
targets:
  local: {{type: static, path: ./registry}}
drop:
  - {{name: builds, path: ./drop, target: local, settle: 1s, stable: 0.5s, rescan: 2s}}
daemon: {{listen: "127.0.0.1:{port}", serve: local, state: ./state}}
"""
_MIRROR = """\
sync:
  - {{name: mirror, source: "127.0.0.1:{port}/demo/hello", target: local/mirror/hello, interval: 1h}}
"""


@dataclass(frozen=True, slots=True)
class Demo:
    """Where the demonstration works."""

    folder: Path
    port: int

    @property
    def config(self) -> Path:
        """The daemon's configuration."""
        return self.folder / "ocisync.yaml"

    @property
    def host(self) -> str:
        """Where the registry is served."""
        return f"127.0.0.1:{self.port}"


def run_demo(once: bool, folder: Path | None) -> int:
    """Show the main job; the exit status."""
    with _working_folder(folder) as place:
        return run_async(_show, Demo(place, _free_port()), once)


@contextmanager
def _working_folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="ocisync-demo-") as folder:
        yield Path(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _show(demo: Demo, once: bool) -> int:
    demo.config.write_text(_DROP.format(port=demo.port), encoding="utf-8")
    _print(f"1. The daemon starts on {demo.config}; it serves ./registry at http://{demo.host}/v2/")
    with ExitStack() as display:
        shown = display.enter_context(progress())
        async with running_daemon(demo.config, shown) as daemon:
            return await _steps(demo, daemon, display, once)


async def _steps(demo: Demo, daemon: RunningDaemon, display: ExitStack, once: bool) -> int:
    await _drop(demo)
    _print("3. It compresses the layers, merges both platforms into one index, and publishes:")
    await _wait_published(demo, "demo/hello")
    await _mirror(demo, daemon)
    display.close()
    held = await _check(demo)
    _print(_PULL.format(host=demo.host))
    if not once:
        _print(_STAYS.format(folder=demo.folder))
        await anyio.sleep_forever()
    return 0 if held else 1


async def _drop(demo: Demo) -> None:
    folder = demo.folder / "drop" / "demo" / "hello" / "1.0"
    _print(f"2. Two docker archives are dropped into {folder}")
    for architecture in ARCHITECTURES:
        path = folder / f"linux.{architecture}.tar.gz"
        await anyio.to_thread.run_sync(write_sample, path, architecture)
        _print(f"   {path.name}  {size_text(path.stat().st_size)}")


async def _mirror(demo: Demo, daemon: RunningDaemon) -> None:
    _print("4. A sync rule is added to the configuration, and the daemon reloads it (as on SIGHUP):")
    text = _DROP.format(port=demo.port) + _MIRROR.format(port=demo.port)
    demo.config.write_text(text, encoding="utf-8")
    await daemon.reload()
    await _wait_published(demo, "mirror/hello")


async def _wait_published(demo: Demo, repository: str) -> None:
    """Wait until a puller sees the tag and the list of tags.

    Raises:
        OcisyncError: it takes longer than anyone would wait.
    """
    with anyio.move_on_after(PATIENCE):
        while not await _is_listed(demo, repository):  # noqa: ASYNC110 (the daemon is looked at from outside)
            await anyio.sleep(_LOOK)
        return
    raise OcisyncError(f"{repository}:1.0 was not published within {PATIENCE:.0f} s; the log above says why")


async def _is_listed(demo: Demo, repository: str) -> bool:
    place = parse_locator(f"docker://{demo.host}/{repository}")
    async with optional_session(None) as session, session.stores.source(place) as source:
        try:
            return "1.0" in await source.tags()
        except NotFound:
            return False


async def _check(demo: Demo) -> bool:
    _print("5. Everything is pulled back over HTTP, every digest checked:")
    digests = set()
    async with optional_session(None) as session:
        for repository in ("demo/hello", "mirror/hello"):
            async with session.stores.source(parse_locator(f"docker://{demo.host}/{repository}")) as source:
                root = await source.resolve("1.0")
                digests.add(root.digest)
                held = await _pull(source, root, f"{demo.host}/{repository}:1.0")
                if not held:
                    return False
    if len(digests) != 1:
        _print("   the mirror's digest differs from the original's: this is a bug, please report it")
        return False
    return True


async def _pull(source: Source, root: Descriptor, name: str) -> bool:
    try:
        pulled = await pull_and_check(source, root)
    except OcisyncError as exc:
        _print(f"   {name}: {exc.message} [{exc.code}]")
        return False
    counts = f"{counted(pulled.manifests, 'manifest')}, {counted(pulled.blobs, 'blob')}, {size_text(pulled.bytes)}"
    _print(f"   {name}  {root.digest}  {counts}: all as promised")
    return True


_PULL = """
While it runs, pull and look at it from another terminal:

  skopeo inspect --tls-verify=false docker://{host}/demo/hello:1.0
  skopeo copy --src-tls-verify=false docker://{host}/mirror/hello:1.0 oci:/tmp/hello:1.0
  docker pull {host}/demo/hello:1.0
  ocisync inspect docker://{host}/demo/hello:1.0
  curl http://{host}/v2/demo/hello/tags/list
  curl http://{host}/metrics"""
_STAYS = """
Drop your own: rename NAME/TAG/OS.ARCH.tar.gz into {folder}/drop
Ctrl-C ends it."""


def _print(text: str) -> None:
    show(text)
    sys.stderr.flush()
