"""The configuration's sections as the stores' options: the stores know nothing of the configuration's format."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr

from ocisync.config.fields import FileSecret
from ocisync.config.models import Config, Ecr, Proxy, Registry, S3Target, StaticTarget
from ocisync.errors import MissingSecret
from ocisync.model.registry_root import BucketRoot, DirectoryRoot, RegistryRoot
from ocisync.model.text.urls import split_url
from ocisync.stores.registry.options import EcrOptions, MirrorOptions, ProxyOptions, RateLimitOptions, RegistryOptions
from ocisync.stores.s3.options import S3Options
from ocisync.stores.static.options import StaticOptions


def settings_for(config: Config, key: str) -> Registry:
    """The settings of a host, or of a path of one that has an entry, completed from `defaults`."""
    own = config.registries.get(key, Registry())
    given = {name: getattr(config.defaults, name) for name in config.defaults.model_fields_set}
    return own.model_copy(update={name: value for name, value in given.items() if name not in own.model_fields_set})


def registry_options(settings: Registry) -> RegistryOptions:
    """One host's section; with a secret that is not known here, options by which the host cannot be used."""
    try:
        return _registry_options(settings)
    except MissingSecret as exc:
        return RegistryOptions(unusable=exc.message)


def _registry_options(settings: Registry) -> RegistryOptions:
    return RegistryOptions(
        username=settings.username or "",
        password=_reveal(settings.password),
        password_file=_file_of(settings.password),
        identity_token=_reveal(settings.identity_token),
        identity_token_file=_file_of(settings.identity_token),
        credential_helper=settings.credential_helper or "",
        ecr=_ecr_options(settings.ecr) if settings.ecr else None,
        docker_config=settings.docker_config,
        ca_file=settings.ca,
        client_cert=settings.client_cert,
        client_key=settings.client_key,
        insecure_tls=settings.insecure_skip_verify,
        plain_http=settings.plain_http,
        realm_hosts=settings.realms,
        validates=settings.validates,
        headers={name: value.get_secret_value() for name, value in settings.headers.items()},
        proxy=_proxy_options(settings.proxy) if settings.proxy else None,
        mirrors=tuple(_mirror(place) for place in settings.mirrors),
        concurrency=settings.concurrency,
        requests_per_second=settings.requests_per_second or 0.0,
        bandwidth=settings.bandwidth or 0,
        rate_limit=RateLimitOptions(settings.rate_limit.min, settings.rate_limit.retry)
        if settings.rate_limit
        else None,
        connect_timeout=settings.connect_timeout,
        idle_timeout=settings.idle_timeout,
        chunk_size=settings.chunk_size or 0,
        retries=settings.retries,
    )


def _mirror(place: str) -> MirrorOptions:
    host, _, prefix = place.partition("/")
    return MirrorOptions(host, prefix)


def _ecr_options(settings: Ecr) -> EcrOptions:
    return EcrOptions(
        region=settings.region or "",
        profile=settings.profile or "",
        endpoint=settings.endpoint or "",
        access_key=_reveal(settings.access_key_id),
        secret_key=_reveal(settings.secret_access_key),
        session_token=_reveal(settings.session_token),
        create=settings.create,
    )


def _proxy_options(settings: Proxy) -> ProxyOptions:
    if settings.is_direct:
        return ProxyOptions()
    return ProxyOptions(settings.url, settings.username or "", _reveal(settings.password))


def _file_of(secret: SecretStr | None) -> Path | None:
    return secret.path if isinstance(secret, FileSecret) else None


def _reveal(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()


def static_options(settings: StaticTarget | S3Target) -> StaticOptions:
    """What a static target keeps beside images."""
    return StaticOptions(
        referrers=settings.referrers,
        catalog=settings.catalog,
        order=settings.order,
        grace=settings.grace,
        page=settings.page,
    )


def find_target(config: Config, root: RegistryRoot) -> str:
    """The name of the configured target that lies where a root does; empty where none does.

    Neither region nor the form of addresses makes another place; an endpoint does, and so does a prefix. It blocks,
    because links are followed.
    """
    for name, settings in config.targets.items():
        match settings, root:
            case StaticTarget(), DirectoryRoot():
                if os.path.realpath(settings.path) == os.path.realpath(root.directory):
                    return name
            case S3Target(), BucketRoot():
                place = (settings.bucket, settings.prefix.strip("/"), _same_endpoint(settings.endpoint or ""))
                if place == (root.bucket, root.prefix, _same_endpoint(root.endpoint)):
                    return name
    return ""


def _same_endpoint(url: str) -> str:
    """Equal for two spellings of one address; without one, what the AWS tools take from the environment."""
    parts = split_url(url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{parts.port or default}{parts.path.rstrip('/')}"


def s3_options(settings: S3Target) -> S3Options:
    """An S3 target's section."""
    return S3Options(
        bucket=settings.bucket,
        prefix=settings.prefix,
        endpoint=settings.endpoint or "",
        region=settings.region or "",
        path_style=settings.path_style,
        profile=settings.profile or "",
        access_key=_reveal(settings.access_key_id),
        secret_key=_reveal(settings.secret_access_key),
        session_token=_reveal(settings.session_token),
        ca=settings.ca,
        multipart_threshold=settings.multipart_threshold,
        part_size=settings.part_size,
        acl=settings.acl or "",
        storage_class=settings.storage_class or "",
        encryption=settings.encryption or "",
        encryption_key=settings.encryption_key or "",
        cache_immutable=settings.cache_immutable,
        cache_mutable=settings.cache_mutable,
        concurrency=settings.concurrency,
        attempts=settings.retries + 1,
        connect_timeout=settings.connect_timeout,
        idle_timeout=settings.idle_timeout,
    )


def s3_options_of(root: BucketRoot) -> S3Options:
    """A bucket named on the command line; its credentials are found as the AWS tools find them."""
    return S3Options(
        root.bucket, root.prefix, root.endpoint, root.region, root.path_style, root.anonymous, root.profile
    )
