"""The sections `registries` and `defaults`: credentials, trust and limits of the hosts that are talked to."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ocisync.config.kinds import Duration, FilePath, HeaderName, Host, Items, Label, Secret, Section


class RegistryDefaults(Section):
    """What holds for every registry that does not say otherwise."""

    requests_per_second: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Most requests sent to a host per second. Not given: only what the host asks for.",
    )
    concurrency: int = Field(6, ge=1, le=256, description="Most requests to a host at one time.")
    connect_timeout: Duration = Field(10.0, gt=0, description="Longest wait for a connection and its TLS handshake.")
    idle_timeout: Duration = Field(
        60.0, gt=0, description="Longest wait without any progress. A transfer as a whole may take as long as it needs."
    )
    retries: int = Field(
        5,
        ge=0,
        le=100,
        description="How often a failed request is sent again, with growing pauses.",
    )
    ca: FilePath | None = Field(
        None, description="A PEM file of certificate authorities to trust beside the system's own."
    )
    docker_config: FilePath | None = Field(
        None,
        description="A config.json with credentials. Not given: docker's own, as $DOCKER_CONFIG says.",
    )


class Registry(RegistryDefaults):
    """One registry's host: how to log in, and how hard it may be worked."""

    username: str | None = Field(None, min_length=1, description="The user to log in as, together with `password`.")
    password: Secret | None = Field(None, description="The password or access token of `username`.")
    identity_token: Secret | None = Field(
        None, description="An OAuth2 refresh token, as `docker login` stores it; instead of `username` and `password`."
    )
    credential_helper: Label | None = Field(
        None, description="A docker credential helper to ask: `ecr-login` runs `docker-credential-ecr-login`."
    )
    insecure_skip_verify: bool = Field(
        False, description="Accept any TLS certificate. Anyone on the way can then read the credentials; prefer `ca`."
    )
    plain_http: bool | None = Field(
        None, description="Speak HTTP without TLS. Not given: only to this machine's own loopback addresses."
    )
    headers: dict[HeaderName, Secret] = Field(
        default_factory=dict, description="Headers to add to every request to this host."
    )
    realms: Items[Host] = Field(
        (), description="Other hosts that may be sent these credentials when this host names them as its token server."
    )
