"""The section `targets`: where images go."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from ocisync.config.fields import Certificates, Duration, FolderPath, HttpUrl, Label, Prefix, Secret, Section, Size
from ocisync.config.sections.maintenance_options import MaintenanceOptions

MIB = 1 << 20  # bytes
GIB = 1 << 30  # bytes
_PAGE = "Keep a page to browse the registry beside it, `index.html`. One that was not written by ocisync is left alone."


class StaticTarget(MaintenanceOptions):
    """A static registry in a folder, which `ocisync serve` or any web server can serve."""

    type: Literal["static"] = Field(description="`static`: a static registry in a folder.")
    path: FolderPath = Field(description="The folder of the registry; made when it is not there.")
    page: bool = Field(True, description=_PAGE)


class S3Target(MaintenanceOptions):
    """A static registry in an S3 bucket."""

    type: Literal["s3"] = Field(description="`s3`: a static registry in an S3 bucket.")
    bucket: str = Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9._-]+$", description="The bucket's name.")
    prefix: Prefix = Field(
        "",
        description="A folder in the bucket. Clients need the registry at the root of a host.",
    )
    endpoint: HttpUrl | None = Field(None, description="The URL of the S3 service. Not given: AWS.")
    region: str | None = Field(
        None, min_length=1, description="The bucket's region. Not given: $AWS_REGION or the AWS profile's."
    )
    path_style: bool = Field(
        False, description="Put the bucket into the path, not the host name; most services other than AWS want that."
    )
    profile: str | None = Field(None, min_length=1, description="The profile of the AWS configuration files to use.")
    access_key_id: Secret | None = Field(
        None,
        description="The access key. Not given: looked for as the AWS tools do.",
    )
    secret_access_key: Secret | None = Field(None, description="The secret of `access_key_id`.")
    session_token: Secret | None = Field(None, description="The session token of temporary keys.")
    ca: Certificates | None = Field(
        None,
        description="A PEM file of certificate authorities to trust in place of the system's. "
        "Not given: $AWS_CA_BUNDLE or the profile's ca_bundle, else the system's.",
    )
    multipart_threshold: Size = Field(GIB, ge=5 * MIB, le=5 * GIB, description="Larger blobs are sent in parts.")
    part_size: Size = Field(
        5 * MIB,
        ge=5 * MIB,
        le=5 * GIB,
        description="How large the parts are; larger when 10,000 of them would not be enough.",
    )
    acl: (
        Literal["private", "public-read", "authenticated-read", "bucket-owner-read", "bucket-owner-full-control"] | None
    ) = Field(
        None,
        description="The canned ACL of every object, such as `public-read`, for services without bucket policies. "
        "Not given: none is sent.",
    )
    storage_class: str | None = Field(
        None,
        pattern=r"^[A-Z0-9_]+$",
        description="The storage class of blobs, such as STANDARD_IA. Not given: the bucket's own.",
    )
    encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        None, description="Encryption by the service. Not given: the bucket's default."
    )
    encryption_key: str | None = Field(None, min_length=1, description="The KMS key of `encryption: aws:kms`.")
    cache_immutable: str = Field(
        "public, max-age=31536000, immutable",
        pattern=r"^[\x20-\x7e]+$",
        description="Cache-Control of manifests and blobs under their digests.",
    )
    cache_mutable: str = Field("no-cache", pattern=r"^[\x20-\x7e]+$", description="Cache-Control of tags and lists.")
    concurrency: int = Field(16, ge=1, le=256, description="Most requests to the service at one time.")
    connect_timeout: Duration = Field(10.0, gt=0, description="Longest wait for a connection and its TLS handshake.")
    idle_timeout: Duration = Field(60.0, gt=0, description="Longest wait without any progress.")
    retries: int = Field(5, ge=0, le=100, description="How often a failed request is sent again, with growing pauses.")
    page: bool = Field(True, description=_PAGE)


class RegistryTarget(Section):
    """An ordinary registry; its credentials and limits stand under `registries`, by host."""

    type: Literal["registry"] = Field(description="`registry`: an ordinary registry that takes pushes.")
    url: HttpUrl = Field(
        description="The registry's URL. A path goes before every repository's name; http: means no TLS."
    )


class LayoutFolderTarget(Section):
    """OCI layouts in a folder, one for each repository; for tools that read layouts, and for carrying them."""

    type: Literal["layout"] = Field(description="`layout`: OCI layouts, one for each repository.")
    path: FolderPath = Field(
        description="The folder; below it, each repository's layout is the folder of its name. Made when not there."
    )


Target: TypeAlias = Annotated[
    StaticTarget | S3Target | RegistryTarget | LayoutFolderTarget, Field(discriminator="type")
]
TargetName: TypeAlias = Label
