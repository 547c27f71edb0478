"""Locators: where an image is or goes, as the command line and jobs write it.

The transports are those of containers-transports(5) (`docker://`, `oci:`, `oci-archive:`, `docker-archive:`), and
ours: `static:DIR//name[:tag]`, `s3://bucket/name[:tag]?endpoint=URL&region=R&s3ForcePathStyle=true`, and for
configured targets `target:NAME/repository`.

A locator is a value: it can be logged, compared and sent elsewhere, and it opens nothing. `wiring.stores` turns it into
a store. Its text (`str`) is what a user can type, except for two kinds that only jobs have: a set of archives and a
view of another place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ocisync.errors import InvalidName
from ocisync.model.digest import is_digest, parse_digest
from ocisync.model.image_name import ImageName, parse_image_name, parse_name, parse_tag, split_tag
from ocisync.model.media_type_families import Format
from ocisync.model.platform import Platform
from ocisync.model.platform_filter import EVERYTHING, PlatformChoice
from ocisync.model.registry_root import BucketRoot, DirectoryRoot, bucket_root
from ocisync.model.text.urls import split_url

TRANSPORTS = (
    "docker://HOST/NAME[:TAG|@DIGEST]",
    "oci:DIR[:TAG|:@N|@DIGEST]",
    "oci-archive:FILE[:TAG|:@N|@DIGEST]",
    "docker-archive:FILE[:NAME:TAG|:@N]",
    "dir:DIR",
    "static:DIR//NAME[:TAG|@DIGEST]",
    "s3://BUCKET/NAME[:TAG]?endpoint=URL&region=REGION&s3ForcePathStyle=true",
)


@dataclass(frozen=True, slots=True)
class RegistryLocator:
    """An image, or a repository, in a registry."""

    image: ImageName

    @property
    def reference(self) -> str:
        """The tag or digest."""
        return self.image.reference

    def __str__(self) -> str:
        return f"docker://{self.image}"


@dataclass(frozen=True, slots=True)
class LayoutLocator:
    """An image in an OCI layout directory; no reference means its only one."""

    path: str
    reference: str = ""

    def __str__(self) -> str:
        return f"oci:{self.path}" + (_format_reference(self.reference) if self.reference else "")


@dataclass(frozen=True, slots=True)
class ImageFolderLocator:
    """An image as files in a folder of its own, as skopeo's `dir:` has it."""

    path: str

    reference = ""

    def __str__(self) -> str:
        return f"dir:{self.path}"


@dataclass(frozen=True, slots=True)
class OciArchiveLocator:
    """An image in a tar of an OCI layout; no reference means its only one."""

    path: str
    reference: str = ""

    def __str__(self) -> str:
        return f"oci-archive:{self.path}" + (_format_reference(self.reference) if self.reference else "")


@dataclass(frozen=True, slots=True)
class DockerArchiveLocator:
    """An image in a file that `docker save` makes; no reference (`name:tag`) means its only one."""

    path: str
    reference: str = ""

    def __str__(self) -> str:
        return f"docker-archive:{self.path}" + (_format_reference(self.reference) if self.reference else "")


@dataclass(frozen=True, slots=True)
class ArchiveLocator:
    """A file whose kind its content tells (what lies in a drop folder)."""

    path: str
    reference: str = ""
    # Device and inode of the only file that is meant; None: whichever is there. No part of the place, so not compared.
    identity: tuple[int, int] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"archive:{self.path}" + (_format_reference(self.reference) if self.reference else "")


@dataclass(frozen=True, slots=True)
class StaticLocator:
    """A repository of a static registry in a directory."""

    directory: str
    repository: str
    reference: str = "latest"

    @property
    def root(self) -> DirectoryRoot:
        """The registry that the repository lies in."""
        return DirectoryRoot(self.directory)

    def __str__(self) -> str:
        return f"static:{self.directory}//{self.repository}{_format_reference(self.reference)}"


@dataclass(frozen=True, slots=True)
class S3Locator:
    """A repository of a static registry in a bucket."""

    bucket: str
    repository: str
    reference: str = "latest"
    endpoint: str = ""
    region: str = ""
    path_style: bool = False
    prefix: str = ""
    profile: str = ""
    anonymous: bool = False

    @property
    def root(self) -> BucketRoot:
        """The registry that the repository lies in."""
        return BucketRoot(
            self.bucket, self.endpoint, self.region, self.path_style, self.prefix, self.profile, self.anonymous
        )

    def __str__(self) -> str:
        text = self.root.query
        return f"s3://{self.bucket}/{self.repository}{_format_reference(self.reference)}" + (f"?{text}" if text else "")


@dataclass(frozen=True, slots=True)
class TargetLocator:
    """A repository of a target that the configuration names."""

    target: str
    repository: str
    reference: str = ""

    @property
    def lock_name(self) -> str:
        """One writer at a time per target repository."""
        return f"{self.target}/{self.repository}"

    def __str__(self) -> str:
        slash = "//" if self.target.startswith("static:") else "/"  # as the command line writes it
        place = f"{self.target}{slash}{self.repository}" if self.repository else self.target
        return f"target:{place}" + (_format_reference(self.reference) if self.reference else "")


@dataclass(frozen=True, slots=True)
class SetMember:
    """One platform's archive in a set; the platform is what the file's name says."""

    platform: Platform
    path: str
    identity: tuple[int, int] | None = field(default=None, compare=False)  # as an ArchiveLocator's


@dataclass(frozen=True, slots=True)
class SetLocator:
    """Archives, one per platform, that together are one image."""

    members: tuple[SetMember, ...]

    reference = ""

    def __str__(self) -> str:
        return "set:" + ",".join(f"{member.platform}={member.path}" for member in self.members)


@dataclass(frozen=True, slots=True)
class ViewLocator:
    """Another place's images, seen for one platform, in another format or with smaller indexes.

    A conversion is a property of the source, not of the copy: the engine copies what the view shows and needs to know
    nothing of formats and platforms.
    """

    of: Locator
    platform: Platform | None = None
    format: Format | None = None  # media types; None: as they are
    drop_signatures: bool = False  # convert signed images too
    images: PlatformChoice = EVERYTHING  # which images its indexes list: others get a new index and digest
    by_tag: str | None = None  # images of this name (or "": any) by their tags alone; None: by what they are called

    @property
    def reference(self) -> str:
        """The other place's."""
        return self.of.reference

    def __str__(self) -> str:
        seen = f" for {self.platform}" if self.platform else ""
        seen += f" with {self.images.scope} only" if self.images.scope else ""
        return f"{self.of}{seen}" + (f" as {self.format}" if self.format else "")


Locator = (
    RegistryLocator
    | LayoutLocator
    | ImageFolderLocator
    | OciArchiveLocator
    | DockerArchiveLocator
    | ArchiveLocator
    | StaticLocator
    | S3Locator
    | TargetLocator
    | SetLocator
    | ViewLocator
)


def strip_views(locator: Locator) -> Locator:
    """Where a locator leads to, whatever it is seen through."""
    return strip_views(locator.of) if isinstance(locator, ViewLocator) else locator


def registry_image(locator: Locator) -> ImageName | None:
    """The image in a registry that a locator leads to, if that is where it leads to."""
    place = strip_views(locator)
    return place.image if isinstance(place, RegistryLocator) else None


def parse_locator(text: str) -> Locator:
    """Read a locator as skopeo's users write it.

    Raises:
        InvalidName: no or an unknown transport, or what follows it breaks its form.
    """
    scheme, colon, rest = text.partition(":")
    parse = _PARSERS.get(scheme)
    if parse is None or not colon or not rest:
        forms = "\n  ".join(TRANSPORTS)
        raise InvalidName(f"{text[:200]!r} does not start with a transport{_suggest(text)} Known are:\n  {forms}")
    return parse(rest)


def is_path(text: str) -> bool:
    """Whether text is more likely a file's path than an image's name."""
    return text.startswith(("./", "../", "/", "~")) or text.endswith((".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"))


def _suggest(text: str) -> str:
    """What somebody may have meant who wrote a file's path, a URL or an image as docker writes it."""
    if is_path(text):
        path = text[:200]
        return f"; for a file, write docker-archive:{path} or oci-archive:{path}, for a layout oci:{path}."
    image = text.removeprefix("https://").removeprefix("http://")
    try:
        parse_image_name(image)
    except InvalidName:
        return f"; did you mean docker://{text[:200]}?" if "/" in text or ":" not in text else "."
    return f"; did you mean docker://{image[:200]}?"


def _parse_registry(rest: str) -> Locator:
    if not rest.startswith("//"):
        raise InvalidName(f"docker:{rest[:200]} needs two slashes: docker://{rest.lstrip('/')[:200]}")
    return RegistryLocator(parse_image_name(rest[2:]))


def _parse_layout(rest: str) -> Locator:
    return LayoutLocator(*_split_path(rest))


def _parse_image_folder(rest: str) -> Locator:
    return ImageFolderLocator(rest)


def _parse_oci_archive(rest: str) -> Locator:
    return OciArchiveLocator(*_split_path(rest))


def _parse_docker_archive(rest: str) -> Locator:
    path, reference = _split_path(rest)
    if reference and not reference.startswith("@") and not is_digest(reference):
        name, tag = split_tag(reference)
        parse_image_name(name)
        reference = f"{name}:{tag or 'latest'}"
    return DockerArchiveLocator(path, reference)


def _parse_archive(rest: str) -> Locator:
    path, _, reference = rest.partition(":")
    return ArchiveLocator(path, reference)


def _parse_static(rest: str) -> Locator:
    directory, slashes, image = rest.rpartition("//")
    if not slashes or not directory:
        raise InvalidName(f"static:{rest[:200]} needs the form static:DIR//NAME[:TAG]")
    return StaticLocator(directory, *_split_name(image))


def _parse_s3(rest: str) -> Locator:
    parts = split_url(f"s3:{rest}")
    if not parts.netloc or not parts.path.strip("/"):
        raise InvalidName(f"s3:{rest.partition('?')[0][:200]} needs the form s3://BUCKET/NAME[:TAG]?endpoint=URL")
    root = bucket_root(parts)
    name, reference = _split_name(parts.path.strip("/"))
    return S3Locator(
        root.bucket,
        name,
        reference,
        root.endpoint,
        root.region,
        root.path_style,
        root.prefix,
        root.profile,
        root.anonymous,
    )


def _parse_target(rest: str) -> Locator:
    target, _, image = rest.partition("/")
    return TargetLocator(target, *_split_name(image))


def _split_path(rest: str) -> tuple[str, str]:
    """Split `PATH[:NAME][@DIGEST]`; a digest wins over the name. `PATH:@N` means the N-th image."""
    before, at, digest = rest.rpartition("@")
    if at and is_digest(digest):
        return before.partition(":")[0], digest
    path, _, reference = rest.partition(":")
    return path, reference


def _split_name(image: str) -> tuple[str, str]:
    name, at, digest = image.partition("@")
    if at:
        return parse_name(split_tag(name)[0]), parse_digest(digest)
    name, tag = split_tag(image)
    return parse_name(name), parse_tag(tag) if tag else "latest"


def _format_reference(reference: str) -> str:
    return f"@{reference}" if is_digest(reference) else f":{reference}"


_PARSERS = {
    "docker": _parse_registry,
    "oci": _parse_layout,
    "dir": _parse_image_folder,
    "oci-archive": _parse_oci_archive,
    "docker-archive": _parse_docker_archive,
    "archive": _parse_archive,
    "static": _parse_static,
    "s3": _parse_s3,
    "target": _parse_target,
}
SCHEMES = frozenset(_PARSERS)


def locate_in(root: str, name: str, tag: str) -> Locator:
    """An image below the root of a registry: `s3://BUCKET?…`, `static:DIR`, `docker://HOST[/PATH]`.

    Raises:
        InvalidName: the root, name or tag breaks its form.
    """
    scheme, _, rest = root.partition(":")
    image = f"{parse_name(name)}:{parse_tag(tag)}"
    if scheme == "s3":
        place, question, query = rest.partition("?")
        return _parse_s3(f"{place.rstrip('/')}/{image}{question}{query}")
    if scheme == "static":
        return _parse_static(f"{rest.rstrip('/')}//{image}")
    if scheme == "docker":
        return _parse_registry(f"{rest.rstrip('/')}/{image}")
    raise InvalidName(
        f"{root[:200]!r} is not a registry: expected s3://BUCKET?endpoint=URL, static:DIR or docker://HOST"
    )
