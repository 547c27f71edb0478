"""Roots of static registries: `static:DIR` and `s3://BUCKET?…`, where a locator names no repository in them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, urlsplit

from ocisync.errors import InvalidName

_OPTIONS = ("endpoint", "region", "s3forcepathstyle")


@dataclass(frozen=True, slots=True)
class DirectoryRoot:
    """A static registry in a directory: the one that holds `v2`."""

    directory: str

    def __str__(self) -> str:
        return f"static:{self.directory}"


@dataclass(frozen=True, slots=True)
class BucketRoot:
    """A static registry in a bucket."""

    bucket: str
    endpoint: str = ""
    region: str = ""
    path_style: bool = False

    def __str__(self) -> str:
        return f"s3://{self.bucket}"


RegistryRoot = DirectoryRoot | BucketRoot


def parse_root(text: str) -> tuple[RegistryRoot, str]:
    """The root in `static:DIR[//NAME]` or `s3://BUCKET[/NAME]?…`, and the name that follows it, unchecked, or "".

    Raises:
        InvalidName: it names no directory or bucket.
    """
    if text.startswith("static:"):
        directory, slashes, image = text.removeprefix("static:").rpartition("//")
        directory, image = (directory, image) if slashes else (image, "")
        if not directory:
            raise InvalidName(f"{text[:200]} needs the form static:DIR[//NAME]")
        return DirectoryRoot(directory), image
    address = text.partition("?")[0]
    parts = urlsplit(text)
    if not parts.netloc or not address.startswith("s3://"):
        raise InvalidName(f"{address[:200]} needs the form s3://BUCKET[/NAME]?endpoint=URL")
    return bucket_root(parts), parts.path.removeprefix("/")


def bucket_root(parts: SplitResult) -> BucketRoot:
    """The bucket of a locator that was split as a URL.

    Raises:
        InvalidName: the query has an option that is not known.
    """
    query = {key.lower(): values[-1] for key, values in parse_qs(parts.query).items()}
    unknown = sorted(query.keys() - set(_OPTIONS))
    if unknown:
        raise InvalidName(
            f"s3://{parts.netloc}{parts.path}: unknown option {', '.join(unknown)[:80]!r}; known are endpoint, region "
            "and s3ForcePathStyle (credentials come from the environment, as the AWS tools read them)"
        )
    path_style = query.get("s3forcepathstyle", "").lower() in ("true", "1", "yes")
    return BucketRoot(parts.netloc, query.get("endpoint", ""), query.get("region", ""), path_style)
