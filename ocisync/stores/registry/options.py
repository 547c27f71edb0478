"""How one registry host is reached: plain values, which `wiring` makes from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ocisync.content.backoff import Backoff
from ocisync.content.transfer.mover import BULK_FROM

_NO_HEADERS: Mapping[str, str] = {}

OnWait = Callable[[str], None]
"""Takes the reason why the work stands still, for whoever waits for it."""


def wait_silently(_: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class EcrOptions:
    """How passwords of Amazon ECR are asked for; what is empty is found as the AWS tools find it."""

    region: str = ""  # empty: as the host's name says
    profile: str = ""
    endpoint: str = ""  # empty: AWS
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    create: bool = False  # make repositories that are pushed to and not there


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """A proxy for one host; without a URL there is none, whatever the environment says."""

    url: str = ""
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class RateLimitOptions:
    """How a host's budget of pulls is kept."""

    kept: int = 0  # pulls that are left for others
    retry: float = 300.0  # seconds between two looks whether it has renewed


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """Where a mirror is; how it is reached stands in its own host's options."""

    host: str
    prefix: str = ""  # goes before every repository there


@dataclass(slots=True, eq=False)
class Share:
    """The limits of hosts over several daemons that share the work; alone, a process has all of them. It may change."""

    part: float = 1.0  # of each limit that is this process's; more than 0, at most 1
    # Until when hosts asked to be left alone, by the monotonic clock: this process, and the other daemons.
    asked_here: dict[str, float] = field(default_factory=dict)
    asked_elsewhere: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Credentials, trust and limits for one registry host.

    What stands here wins over docker's and podman's credential files. `credential_helper` is what follows
    `docker-credential-` in the program's name.
    """

    share: Share = field(default_factory=Share, compare=False, repr=False)
    unusable: str = ""  # why nothing may be asked of the host: a secret for it is not known here
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None  # where `password` was read; read again when it changes
    identity_token: str = field(default="", repr=False)
    identity_token_file: Path | None = None
    credential_helper: str = ""
    ecr: EcrOptions | None = None  # None: asked for hosts that are ECR's by their name, when nothing else is known
    docker_config: Path | None = None  # the one credential file to read; None: docker's and podman's usual places

    ca_file: Path | None = None  # trusted beside the system's authorities
    client_cert: Path | None = None  # shown to this host only, when it asks for one
    client_key: Path | None = None  # None: it stands in `client_cert`
    insecure_tls: bool = False  # accept any certificate of this host
    plain_http: bool | None = None  # None: for loopback hosts for which neither ca_file nor insecure_tls is set
    validates: bool | None = None  # whether it refuses a manifest of which it lacks a part; None: to be found out
    realm_hosts: tuple[str, ...] = ()  # hosts beside the registry's own site that may be given its credentials
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS, repr=False)

    proxy: ProxyOptions | None = None  # None: as the environment says

    mirrors: tuple[MirrorOptions, ...] = ()  # read from in this order, before the host itself

    concurrency: int = 8  # requests at a time; as many uploads beside them
    requests_per_second: float = 0.0  # 0: no limit of our own
    bandwidth: int = 0  # bytes a second, both ways together; 0: any
    rate_limit: RateLimitOptions | None = None  # None: only Docker Hub's own limit, used to its end
    connect_timeout: float = 15.0  # seconds
    idle_timeout: float = 60.0  # seconds without a byte
    commit_timeout: float = 600.0  # seconds until the reply to a whole upload: some registries hash or move it first
    minimum_rate: int = 1024  # bytes a second over `rate_window`; 0: any
    rate_window: float = 60.0  # seconds

    chunk_size: int = 0  # bytes of one request of an upload; 0: all in one, until a body is refused as too large

    bulk_from: int = BULK_FROM  # bytes; blobs from this size on are moved by threads

    retries: int = 5  # after the first try
    first_wait: float = 0.25  # seconds; doubles up to `longest_wait`, with full jitter
    longest_wait: float = 30.0  # seconds
    longest_pause: float = 300.0  # seconds; a Retry-After above it is cut down to it

    @property
    def backoff(self) -> Backoff:
        """The waits before a request is sent again."""
        return Backoff(self.first_wait, self.longest_wait)
