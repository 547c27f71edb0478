"""Roots of static registries: `static:DIR` and `s3://BUCKET?…`, where a locator names no repository in them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, urlencode

from ocisync.errors import InvalidName
from ocisync.model.text.urls import split_url

_FLAGS = frozenset({"s3forcepathstyle", "use_path_style", "disablessl", "disable_https", "anonymous"})
_OPTIONS = frozenset({"endpoint", "region", "prefix", "profile"}) | _FLAGS


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
    prefix: str = ""
    profile: str = ""  # of the AWS configuration files
    anonymous: bool = False

    def __str__(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def query(self) -> str:
        """The options as a locator writes them."""
        options = {
            "endpoint": self.endpoint,
            "region": self.region,
            "s3ForcePathStyle": "true" if self.path_style else "",
            "prefix": self.prefix,
            "profile": self.profile,
            "anonymous": "true" if self.anonymous else "",
        }
        return urlencode({name: value for name, value in options.items() if value}, safe=":/")


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
    parts = split_url(text)
    if not parts.netloc or not address.startswith("s3://"):
        raise InvalidName(f"{address[:200]} needs the form s3://BUCKET[/NAME]?endpoint=URL")
    return bucket_root(parts), parts.path.removeprefix("/")


def bucket_root(parts: SplitResult) -> BucketRoot:
    """The bucket of a locator that was split as a URL.

    Raises:
        InvalidName: the query has an option that is not known.
    """
    query = {key.lower(): values[-1] for key, values in parse_qs(parts.query).items()}
    unknown = sorted(query.keys() - _OPTIONS)
    if unknown:
        raise InvalidName(
            f"s3://{parts.netloc}{parts.path}: unknown option {', '.join(unknown)[:80]!r}; known are endpoint, region, "
            "s3ForcePathStyle, disableSSL, prefix, profile and anonymous (credentials come from the environment, as "
            "the AWS tools read them)"
        )
    flags = {name for name in _FLAGS if query.get(name, "").lower() in ("true", "1", "yes")}
    endpoint = query.get("endpoint", "")
    if endpoint and "://" not in endpoint:  # as gocloud.dev has it
        endpoint = f"{'http' if flags & {'disablessl', 'disable_https'} else 'https'}://{endpoint}"
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise InvalidName(f"s3://{parts.netloc}: endpoint={endpoint[:200]!r} is not an http:// or https:// URL")
    return BucketRoot(
        parts.netloc, endpoint, query.get("region", ""), bool(flags & {"s3forcepathstyle", "use_path_style"}),
        query.get("prefix", "").strip("/"), query.get("profile", ""), "anonymous" in flags,
    )  # fmt: skip
