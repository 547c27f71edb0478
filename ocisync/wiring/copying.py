"""`copy` and `push`: one image to one place, as a job like any other."""

from __future__ import annotations

from pathlib import Path

from ocisync.errors import ConfigError, InvalidName
from ocisync.spec.digest import is_digest
from ocisync.spec.locator import Locator, SetLocator, SetMember
from ocisync.spec.platform import Platform, parse_platform
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport
from ocisync.sync.run import run_job
from ocisync.sync.select import TagSelection
from ocisync.wiring.session import Session

_ENDINGS = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tar")


async def copy_to(session: Session, source: Locator, place: Locator) -> JobReport:
    """Copy an image; the report has its one tag.

    Raises:
        ConfigError: nothing can be written to such a place.
    """
    tag = "latest" if is_digest(place.reference) or not place.reference else place.reference
    selection = TagSelection(literal={tag: source.reference})
    return await run_job(Job("copy", source, session.stores.address(place), selection, recheck=0.0), session.tools)


def set_in_folder(folder: Path) -> SetLocator:
    """A folder of archives named OS.ARCH[.VARIANT].tar.gz, as one set.

    Raises:
        ConfigError: the folder cannot be read, or holds no such file.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as exc:
        raise ConfigError(f"{folder}: the folder cannot be read: {exc.strerror}") from exc
    found = [(platform, name) for name in names if (platform := _platform_of(name))]
    if not found:
        raise ConfigError(f"{folder}: no file named OS.ARCH.tar.gz, such as linux.amd64.tar.gz, is there")
    return SetLocator(tuple(SetMember(platform, str(folder / name)) for platform, name in found))


def _platform_of(name: str) -> Platform | None:
    ending = next((ending for ending in _ENDINGS if name.endswith(ending)), None)
    if ending is None or name.startswith("."):
        return None
    try:
        return parse_platform(name.removesuffix(ending).replace(".", "/"))
    except InvalidName:
        return None
