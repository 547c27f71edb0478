"""What is needed to reach a bucket."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ocisync.content.transfer.mover import BULK_FROM
from ocisync.stores.static.layout import IMMUTABLE, NO_CACHE

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MAX_SINGLE = 5 * GIB  # bytes; S3's limit of one PutObject or CopyObject
MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class S3Options:
    """One bucket, or a prefix of it. Without keys, AWS' usual chain of credentials is asked."""

    bucket: str
    prefix: str = ""  # prepended to every key; a slash at its end is added
    endpoint: str = ""  # a URL; empty: AWS
    region: str = ""
    path_style: bool = False  # the bucket in the path instead of the host name
    anonymous: bool = False  # send no credentials, look for none
    profile: str = ""  # of the AWS configuration files; empty: as $AWS_PROFILE says
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    ca: Path | None = None  # PEM file of the authorities to trust instead of the system's
    multipart_threshold: int = GIB  # bytes
    part_size: int = 5 * MIB  # bytes; larger for what would need more than 10,000 parts
    part_memory: int = 16 * MIB  # bytes of parts held at a time, for all uploads together
    copy_size: int = 128 * MIB  # bytes that one request copies inside the bucket: it must end within `idle_timeout`
    acl: str = ""  # of every object, such as public-read; empty: none is sent
    storage_class: str = ""  # of blobs; empty: the bucket's own
    encryption: str = ""  # by the server: AES256, aws:kms; empty: as the bucket does by itself
    encryption_key: str = ""  # of aws:kms
    cache_immutable: str = IMMUTABLE  # Cache-Control of what lies under a digest
    cache_mutable: str = NO_CACHE  # of tags and lists
    concurrency: int = 16  # requests that write; as many read
    attempts: int = 6
    first_wait: float = 0.25  # seconds; twice that is the ceiling after the first failure (`content.backoff`)
    longest_wait: float = 10.0  # seconds
    connect_timeout: float = 10.0  # seconds
    idle_timeout: float = 60.0  # seconds without progress
    read_size: int = 0  # bytes that are read of a connection at a time, and wait for a slow reader; 0: what comes
    bulk_from: int = BULK_FROM  # bytes; bodies from this size on are moved by threads
    abandoned_after: float = 24 * 3600.0  # seconds; older multipart uploads below our keys are aborted at start

    @property
    def key_prefix(self) -> str:
        """What stands before every key."""
        return f"{self.prefix.strip('/')}/" if self.prefix.strip("/") else ""

    @property
    def sends_checksum(self) -> bool:
        """Whether the provider takes x-amz-checksum-sha256; Backblaze refuses unknown headers."""
        return "backblazeb2.com" not in self.endpoint


def part_size_for(size: int, options: S3Options) -> int:
    """The smallest part size, in whole MiB, with which an object fits into S3's number of parts."""
    needed = -(-size // MAX_PARTS)
    return max(options.part_size, -(-needed // MIB) * MIB)
