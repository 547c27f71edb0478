"""skopeo's `dir:` folders as sources and targets: one image's blobs as files, named by their digests, in one folder.

`skopeo sync --dest dir` and `podman save --format docker-dir` write them. Signatures that lie beside the image
(`signature-N`) are of GnuPG's simple signing, which no registry stores; they are left where they are.

Spec: containers-transports(5), "dir"; containers/image, directory/directory_transport.go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ocisync.content.repository import ByteStream, Opener
from ocisync.content.threads import make_region_opener, run_file
from ocisync.content.verify import verify_stream
from ocisync.errors import ArchiveError, ConfigError, DiskError, NotFound
from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.digest import Digest, algorithm, hex_of, is_digest
from ocisync.model.manifest import media_type_of
from ocisync.stores.archive.archive_files import MemberFiles, read_small
from ocisync.stores.archive.atomic_file import stage_file, write_file
from ocisync.stores.archive.layout_lock import make_folder
from ocisync.stores.archive.oci_layout_target import choose_opener

VERSION_FILE = "version"
MANIFEST_FILE = "manifest.json"
_VERSION = b"Directory Transport Version: 1.1\n"
_VERSION_PREFIX = b"Directory Transport Version: "


def file_name(desc: Descriptor) -> str:
    """Where content lies: by its hash alone, so that only other algorithms than sha256 are named."""
    kind = algorithm(desc.digest)
    name = hex_of(desc.digest) if kind == "sha256" else f"{kind}-{hex_of(desc.digest)}"
    return f"{name}.manifest.json" if desc.is_manifest else name


async def is_image_folder(files: MemberFiles) -> bool:
    """Whether a folder is such an image."""
    return (await read_small(files, VERSION_FILE) or b"").startswith(_VERSION_PREFIX)


class ImageFolderSource:
    """A Source of one image, without a name: its only reference is empty."""

    def __init__(self, files: MemberFiles, root: Descriptor) -> None:
        self._files = files
        self._root = root  # with its bytes

    async def tags(self) -> Sequence[str]:
        """None: the folder's own name is the image's."""
        return ()

    async def resolve(self, reference: str) -> Descriptor:
        """The image, or one that its index lists.

        Raises:
            NotFound: no such digest.
        """
        if not reference or reference == self._root.digest:
            return self._root
        desc = Descriptor(self._root.media_type, Digest(reference), 0)
        raw = await read_small(self._files, file_name(desc)) if is_digest(reference) else None
        if raw is None:
            raise NotFound(
                f"{self._files.where}: {reference[:200]!r}: not in the folder, which holds {self._root.digest}"
            )
        return Descriptor(media_type_of(raw), Digest(reference), len(raw))

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream a manifest or blob; its size and digest are for the consumer to verify."""
        name = MANIFEST_FILE if desc.digest == self._root.digest else file_name(desc)
        async with self._files.open(name) as region:
            if region is None:
                raise NotFound(f"{self._files.where}: {desc.digest} is named, but {name} is not in the folder")
            async with make_region_opener(region)(start) as stream:
                yield stream


async def read_image_folder(files: MemberFiles) -> ImageFolderSource:
    """The image in a folder.

    Raises:
        ArchiveError: there is none.
    """
    raw = await read_small(files, MANIFEST_FILE)
    if raw is None:
        raise ArchiveError(f"{files.where}: no manifest.json: this is not a dir: image as skopeo writes it")
    return ImageFolderSource(files, describe(raw, media_type_of(raw)))


class ImageFolderTarget:
    """A Target that is one image's folder; manifest.json, which makes it readable, is written last."""

    tags_any_content = False

    def __init__(self, root: Path) -> None:
        self._root = root

    async def exists(self, desc: Descriptor) -> bool:
        """Whether a file of this digest and size is there."""
        return await run_file(partial(_has_file, self._root / file_name(desc), desc.size))

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store verified content under its digest."""
        async with stage_file(self._root / file_name(desc)) as staged, choose_opener(desc, opener)(0) as stream:
            async for chunk in verify_stream(stream, desc):
                await run_file(partial(staged.write, chunk))
            await run_file(staged.commit)

    async def resolve(self, reference: str) -> Descriptor:
        """Nothing: a folder has no names, and what lies in it is replaced."""
        raise NotFound(f"{self._root}: {reference}: a dir: image has no names")

    def can_resume_upload(self, size: int) -> bool:
        """Nothing is cut off on this machine."""
        del size
        return True

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Make one manifest the folder's image.

        Raises:
            ConfigError: several, of which a folder holds one.
        """
        roots = {desc.digest: desc for desc in tags.values()}
        if len(roots) > 1:
            raise ConfigError(f"{self._root}: a dir: folder holds one image; write an oci-archive or a layout")
        for desc in roots.values():
            await run_file(partial(write_file, self._root / VERSION_FILE, _VERSION))
            await run_file(partial(write_file, self._root / MANIFEST_FILE, desc.data or b""))


@asynccontextmanager
async def open_image_folder_target(directory: Path) -> AsyncIterator[ImageFolderTarget]:
    """Write a dir: image; the folder is made when it is missing, and replaced when it is one already.

    Raises:
        ConfigError: it holds something else.
        DiskError: it cannot be written.
    """
    await run_file(partial(_prepare, directory))
    yield ImageFolderTarget(directory)


def _prepare(directory: Path) -> None:
    make_folder(directory)
    try:
        if (directory / VERSION_FILE).exists() or not any(directory.iterdir()):
            return
    except OSError as exc:
        raise DiskError(f"{directory}: cannot be read: {exc.strerror}", errno=exc.errno) from exc
    raise ConfigError(f"{directory}: the folder holds other things than a dir: image: name a new or an empty one")


def _has_file(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False
