"""Amazon ECR's passwords, which its API gives for twelve hours in exchange for AWS credentials.

Spec: Amazon ECR API reference, GetAuthorizationToken; AWS JSON 1.1.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import structlog
from anyio import to_thread

from ocisync.errors import AuthError, Handling, NetworkError, OcisyncError, RegistryError
from ocisync.stores.registry.auth.docker_config import Credential
from ocisync.stores.registry.http.policy import server_time
from ocisync.stores.registry.options import EcrOptions, RegistryOptions

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

log = structlog.get_logger(__name__)
PUBLIC = "public.ecr.aws"
_PRIVATE = re.compile(
    r"[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\."
    r"(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn)\Z",
    re.ASCII,
)
_SHARE_USED = 0.9  # of a password's life
_LEAST_LIFE = 1.0  # seconds
_EXISTS = "RepositoryAlreadyExistsException"
_TO_DO = {
    "AccessDeniedException": "grant {right} to these AWS credentials",
    "ExpiredTokenException": "the AWS credentials have expired: renew them",
    "InvalidClientTokenId": "the AWS access key is not known: correct it",
    "UnrecognizedClientException": "the AWS access key or session token is not valid: correct it",
    "InvalidSignatureException": "the AWS secret key does not belong to the access key: correct it",
    "SignatureDoesNotMatch": "the AWS secret key does not belong to the access key: correct it",
}
_PASSING = frozenset({"ServerException", "ThrottlingException", "Throttling", "TooManyRequestsException"})
_SKEW = re.compile(r"not yet current|expired|skew", re.IGNORECASE)


class _Password(NamedTuple):
    """The API's answer: `USER:PASSWORD` in base64, and for how many seconds it serves."""

    token: str
    life: float


def is_ecr(host: str) -> bool:
    """Whether a host is a private ECR registry by its name."""
    return region_of(host) is not None


def region_of(host: str) -> str | None:
    """The AWS region in a private ECR registry's name."""
    found = _PRIVATE.match(host)
    return found[1] if found else None


async def fetch_password(host: str, chosen: EcrOptions, options: RegistryOptions) -> Credential:
    """A password for a host, which ends in time to be renewed before ECR refuses it.

    Raises:
        AuthError: there are no AWS credentials, or they may not have one.
        RegistryError: `clock.skew`; or the API failed.
        NetworkError: it cannot be reached.
    """
    try:
        reply = await _call_api(host, chosen, options, "ecr:GetAuthorizationToken", "get_authorization_token", {})
        given = _parse_reply(reply)
        pair = base64.b64decode(given.token).decode()
    except (ValueError, KeyError, IndexError, TypeError) as exc:
        raise AuthError(f"{host}: ECR's answer holds no usable token") from exc
    username, _, password = pair.partition(":")
    life = max(_LEAST_LIFE, given.life * _SHARE_USED)
    return replace(Credential(username, password), expires=anyio.current_time() + life)


async def create_repository(host: str, repository: str, options: RegistryOptions) -> None:
    """Make a repository with the settings that the account gives new ones; one that is there already is left alone.

    Raises:
        OcisyncError: as `fetch_password`.
    """
    chosen = options.ecr or EcrOptions()
    await _call_api(host, chosen, options, "ecr:CreateRepository", "create_repository", {"repositoryName": repository})
    log.info("repository.created", host=host, repository=repository)


async def _call_api(
    host: str, chosen: EcrOptions, options: RegistryOptions, right: str, method: str, parameters: Mapping[str, str]
) -> Mapping[str, Any]:
    """One call, in a loop of its own in a thread: botocore reads files, and may run a command."""
    call = partial(_call_in_thread, host, chosen, options, right, method, parameters)
    return await to_thread.run_sync(partial(anyio.run, call), abandon_on_cancel=True)


async def _call_in_thread(
    host: str, chosen: EcrOptions, options: RegistryOptions, right: str, method: str, parameters: Mapping[str, str]
) -> Mapping[str, Any]:
    from aiobotocore.session import AioSession  # takes 0.1 s to import
    from botocore.exceptions import BotoCoreError, ClientError

    session = AioSession(profile=chosen.profile or None)
    try:
        region = chosen.region or region_of(host) or session.get_config_variable("region")
        async with session.create_client(**_client_arguments(host, chosen, options, region)) as client:
            reply: Mapping[str, Any] = await getattr(client, method)(**parameters)
            return reply
    except ClientError as exc:
        if exc.response.get("Error", {}).get("Code") == _EXISTS:
            return {}
        raise _explain_refusal(host, right, exc) from exc
    except (BotoCoreError, ValueError) as exc:
        raise _explain_failure(host, exc) from exc


def _client_arguments(host: str, chosen: EcrOptions, options: RegistryOptions, region: str | None) -> dict[str, Any]:
    from aiobotocore.config import AioConfig

    proxy = options.proxy.url if options.proxy else ""
    return {
        "service_name": "ecr-public" if host == PUBLIC else "ecr",
        "region_name": "us-east-1" if host == PUBLIC else region,
        "endpoint_url": chosen.endpoint or None,
        "verify": str(options.ca_file) if options.ca_file and chosen.endpoint else None,
        "aws_access_key_id": chosen.access_key or None,
        "aws_secret_access_key": chosen.secret_key or None,
        "aws_session_token": chosen.session_token or None,
        "config": AioConfig(
            connect_timeout=options.connect_timeout,
            read_timeout=options.idle_timeout,
            retries={"total_max_attempts": 1},  # retries are ours
            proxies={"http": proxy, "https": proxy} if proxy else None,
        ),
    }


def _parse_reply(reply: Mapping[str, Any]) -> _Password:
    data = reply["authorizationData"]
    data = data[0] if isinstance(data, list) else data
    expires: datetime = data["expiresAt"]
    now = server_time(reply["ResponseMetadata"]["HTTPHeaders"].get("date"), time.time())
    return _Password(str(data["authorizationToken"]), expires.timestamp() - now)


def _explain_refusal(host: str, right: str, exc: ClientError) -> OcisyncError:
    error = exc.response.get("Error", {})
    metadata = exc.response.get("ResponseMetadata", {})
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))[:300]
    said = f"{host}: ECR refused {right.partition(':')[2]}: {code}"
    if "Signature" in code and _SKEW.search(message):
        offset = time.time() - server_time(metadata.get("HTTPHeaders", {}).get("date"), time.time())
        advice = f"this machine's clock differs by {abs(offset):.0f} s from AWS': set it by NTP"
        return RegistryError(f"{said}: {advice}", code="clock.skew", host=host)
    if code in _PASSING or int(metadata.get("HTTPStatusCode", 0)) >= 500:
        return RegistryError(f"{said}: {message}", handling=Handling.RETRY, host=host)
    return AuthError(f"{said}: {_TO_DO.get(code, message).replace('{right}', right)}", host=host)


def _explain_failure(host: str, exc: Exception) -> OcisyncError:
    from botocore import exceptions as boto

    if isinstance(exc, boto.NoCredentialsError | boto.PartialCredentialsError):
        advice = "set ecr.access_key_id and ecr.secret_access_key, $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, or a "
        return AuthError(f"{host}: no AWS credentials were found: {advice}profile, or give this machine a role")
    if isinstance(exc, boto.NoRegionError):
        return AuthError(f"{host}: the AWS region of this ECR registry is not known: set ecr.region")
    if isinstance(exc, boto.HTTPClientError | boto.ConnectionError):
        return NetworkError(f"{host}: ECR's API cannot be reached: {type(exc).__name__}: {exc}", host=host)
    return AuthError(f"{host}: ECR's API cannot be asked: {type(exc).__name__}: {exc}", host=host)
