"""The section `daemon`: how the process itself runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ocisync.config.fields import (
    Duration,
    FolderPath,
    Host,
    ListenAddress,
    Section,
    ServedTarget,
    SharedSecret,
    Size,
)
from ocisync.config.parsers import Address

GIB = 1 << 30  # bytes


class WebhookSettings(Section):
    """A sender of notifications about pushes."""

    type: Literal["github", "harbor", "dockerhub", "quay", "distribution", "plain"] = Field(
        description='Whose format it is; `plain` is {"repository": …, "tag": …}.'
    )
    secret: SharedSecret = Field(description="The secret that the sender signs with, or sends. At least 16 characters.")
    registry: Host | None = Field(
        None, description="The host as rules have it, where the sender calls itself otherwise. Not given: as it says."
    )


class Daemon(Section):
    """How the process listens, keeps state, logs and stops."""

    listen: ListenAddress = Field(
        Address("127.0.0.1", 8080),
        description="Where health, metrics, status and the served registry answer. Port 0: the system picks one.",
        json_schema_extra={"default": "127.0.0.1:8080"},
    )
    serve: ServedTarget | None = Field(
        None, description="The static or S3 target to serve to clients as a read-only registry at /v2/ on `listen`."
    )
    token: SharedSecret | None = Field(
        None,
        description="The bearer token for requests that change something, of at least 16 characters. "
        "Not given: such requests are refused.",
    )
    watch_config: bool = Field(
        False, description="Whether the configuration is read again when its file changes, as it is on SIGHUP."
    )
    state: FolderPath = Field(
        Path("state"),
        validate_default=True,
        description="The folder of the ledger and lock; losing it costs time only.",
    )
    temporary: FolderPath | None = Field(
        None, description="The folder for unfinished work, on a disk with room. Not given: `tmp` inside `state`."
    )
    spool: Size = Field(
        8 * GIB,
        ge=0,
        description="Room in `temporary` for blobs that several targets or a repeated upload want; 0: none.",
    )
    spool_from: Size = Field(
        GIB,
        ge=0,
        description="The smallest blob that is spooled only because its upload to a registry may have to be repeated.",
    )
    drain: Duration = Field(30.0, description="How long running work may continue after SIGTERM before it is stopped.")
    late_after: Duration | None = Field(
        None,
        description="How long after it was due a rule that did not do all it should is late, on the status page and "
        "for `notify`. Not given: after half of its interval.",
    )
    concurrent_rules: int = Field(
        4,
        ge=1,
        le=256,
        description="Most rules that run at one time; of a rule with many repositories, each repository counts.",
    )
    concurrent_images: int = Field(
        3, ge=1, le=256, description="Most images that are copied to one repository at one time."
    )
    concurrent_blobs: int = Field(
        6,
        ge=1,
        le=256,
        description="Most blobs under way to one repository at one time; over all of them, `concurrency` of their "
        "hosts is the limit.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum log level; --log-level wins."
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="Lines for people, or one JSON object per line; --log-format wins."
    )
