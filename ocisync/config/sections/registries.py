"""The sections `registries` and `defaults`: credentials, trust and limits of the hosts that are talked to."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field

from ocisync.config.fields import (
    Certificates,
    Duration,
    FilePath,
    HeaderName,
    Host,
    HttpUrl,
    Items,
    Label,
    LoginName,
    MirrorPlace,
    ProxyUrl,
    Secret,
    Section,
    Size,
)
from ocisync.config.validation_context import describe

_DIRECT = "direct"


class Proxy(Section):
    """A proxy with a login; as plain text, `proxy` is only its URL."""

    url: ProxyUrl = Field(description="The proxy's URL, or `direct` for none.")
    username: str | None = Field(None, min_length=1, description="The user to log in as at the proxy.")
    password: Secret | None = Field(None, description="The password of `username`.")

    @property
    def is_direct(self) -> bool:
        """Whether no proxy is wanted."""
        return self.url == _DIRECT


def _parse_proxy_section(value: object) -> object:
    if isinstance(value, str):
        return {"url": value}
    if isinstance(value, dict | Proxy):
        return value
    raise ValueError(f"expected a URL, `direct` or a mapping, found {describe(value)}. Write http://host:port")


ProxyChoice: TypeAlias = Annotated[Proxy, BeforeValidator(_parse_proxy_section, json_schema_input_type=str | Proxy)]


class Ecr(Section):
    """Amazon ECR: passwords are asked for with AWS credentials, found as the AWS tools find them."""

    region: str | None = Field(
        None, pattern=r"^[a-z0-9-]+$", description="The registry's region. Not given: as the host's name says."
    )
    profile: str | None = Field(None, min_length=1, description="The profile of the AWS configuration files to use.")
    endpoint: HttpUrl | None = Field(None, description="The URL of the ECR API. Not given: AWS.")
    access_key_id: Secret | None = Field(None, description="The access key. Not given: looked for as the AWS tools do.")
    secret_access_key: Secret | None = Field(None, description="The secret of `access_key_id`.")
    session_token: Secret | None = Field(None, description="The session token of temporary keys.")
    create: bool = Field(
        False, description="Create a repository that is pushed to and does not exist; needs ecr:CreateRepository."
    )


class RateLimit(Section):
    """A host's budget of pulls, which its headers tell (Docker Hub's do)."""

    min: int = Field(
        0, ge=0, le=1_000_000, description="How many pulls to leave for others: when fewer remain, a pass pauses."
    )
    retry: Duration = Field(
        300.0, gt=0, description="How often a paused pass checks whether the budget was renewed; a check costs no pull."
    )


class RegistryDefaults(Section):
    """What holds for every registry that does not say otherwise."""

    requests_per_second: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Most requests sent to a host per second. Not given: only what the host asks for.",
    )
    bandwidth: Size | None = Field(
        None, ge=16 * 1024, description="Most bytes per second from and to a host together. Not given: no limit."
    )
    rate_limit: RateLimit | None = Field(
        None, description="How a limit on pulls is kept. Not given: Docker Hub's is used to its end, never beyond."
    )
    concurrency: int = Field(6, ge=1, le=256, description="Most requests to a host at one time.")
    connect_timeout: Duration = Field(10.0, gt=0, description="Longest wait for a connection and its TLS handshake.")
    idle_timeout: Duration = Field(
        60.0, gt=0, description="Longest wait without any progress. A transfer as a whole may take as long as it needs."
    )
    chunk_size: Size | None = Field(
        None,
        ge=1 << 20,
        description="Send blobs in requests of this size. Not given: in one, until one is refused as too large.",
    )
    retries: int = Field(
        5,
        ge=0,
        le=100,
        description="How often a failed request is sent again, with growing pauses.",
    )
    ca: Certificates | None = Field(
        None, description="A PEM file of certificate authorities to trust beside the system's own."
    )
    docker_config: FilePath | None = Field(
        None,
        description="A config.json with credentials. Not given: docker's own, as $DOCKER_CONFIG says.",
    )
    proxy: ProxyChoice | None = Field(
        None, description="The HTTP proxy to go through, or `direct`. Not given: as $HTTPS_PROXY and $NO_PROXY say."
    )


class Registry(RegistryDefaults):
    """One registry's host: how to log in, and how hard it may be worked."""

    username: LoginName | None = Field(
        None, min_length=1, description="The user to log in as, together with `password`; also {env: …} or {file: …}."
    )
    password: Secret | None = Field(None, description="The password or access token of `username`.")
    identity_token: Secret | None = Field(
        None, description="An OAuth2 refresh token, as `docker login` stores it; instead of `username` and `password`."
    )
    credential_helper: Label | None = Field(
        None, description="A docker credential helper to ask: `ecr-login` runs `docker-credential-ecr-login`."
    )
    ecr: Ecr | None = Field(
        None,
        description="Log in to Amazon ECR with AWS credentials. Not given: hosts that are ECR's by their name do so "
        "when nothing else is known of them.",
    )
    mirrors: Items[MirrorPlace] = Field(
        (),
        description="Registries to read from first, in this order: `host` or `host/path`. What none of them gives "
        "comes from this host.",
    )
    client_cert: Certificates | None = Field(
        None, description="A PEM file with the certificate to show to this host when it asks for one."
    )
    client_key: FilePath | None = Field(
        None, description="A PEM file with the key of `client_cert`. Not given: it is in the same file."
    )
    insecure_skip_verify: bool = Field(
        False, description="Accept any TLS certificate. Anyone on the way can then read the credentials; prefer `ca`."
    )
    plain_http: bool | None = Field(
        None, description="Speak HTTP without TLS. Not given: only to this machine's own loopback addresses."
    )
    validates: bool | None = Field(
        None,
        description="This registry refuses manifests of which it lacks a part, and collects no garbage beside writers: "
        "a tag that points at the right digest there is believed to be whole. Not given: where many tags are not on "
        "record, it is tested, and the registry is believed until the next full check.",
    )
    headers: dict[HeaderName, Secret] = Field(
        default_factory=dict, description="Headers to add to every request to this host."
    )
    realms: Items[Host] = Field(
        (), description="Other hosts that may be sent these credentials when this host names them as its token server."
    )
