"""A stand-in for the ECR API: AWS JSON 1.1 over HTTP, GetAuthorizationToken of ECR and of ECR Public."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from time import time

from aiohttp import web

from .docker_registry import PASSWORD, USERNAME
from .loop import serve_app

ACCESS_KEY = "AKIDEXAMPLE"
_PRIVATE = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
_CREATE = "AmazonEC2ContainerRegistry_V20150921.CreateRepository"
_PUBLIC = "SpencerFrontendService.GetAuthorizationToken"
_SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([a-z0-9-]+)/([a-z-]+)/aws4_request, SignedHeaders=")


@dataclass(slots=True)
class EcrApi:
    """A running API; its attributes may be changed at any time."""

    url: str = ""
    password: str = PASSWORD
    life: float = 12 * 3600  # seconds until a token ends, on the API's own clock
    offset: float = 0  # seconds by which the API's clock is ahead of ours
    refusal: tuple[int, str, str] | None = None  # status, code and message, instead of a token
    token: str = ""  # given in place of the right one
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # access key, region, service
    created: list[str] = field(default_factory=list)  # repositories, as often as they were asked for

    async def answer(self, request: web.Request) -> web.Response:
        """POST /."""
        target = request.headers.get("X-Amz-Target", "")
        signed = _SIGNED.match(request.headers.get("Authorization", ""))
        document = await request.json()
        if target == _CREATE and signed is not None and signed[1] == ACCESS_KEY and not self.refusal:
            return self._create(document["repositoryName"])
        if target not in (_PRIVATE, _PUBLIC, _CREATE) or (document != {} and target != _CREATE):
            return self._reply(400, {"__type": "UnknownOperationException"})
        if signed is None or signed[1] != ACCESS_KEY:
            return self._reply(400, _error("UnrecognizedClientException", "The security token is invalid."))
        self.asked.append((signed[1], signed[2], signed[3]))
        if self.refusal:
            return self._reply(self.refusal[0], _error(*self.refusal[1:]))
        token = {
            "authorizationToken": self.token or base64.b64encode(f"{USERNAME}:{self.password}".encode()).decode(),
            "expiresAt": time() + self.offset + self.life,
        }
        private = [token | {"proxyEndpoint": "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com"}]
        return self._reply(200, {"authorizationData": token if target == _PUBLIC else private})

    def _create(self, repository: str) -> web.Response:
        """CreateRepository."""
        self.created.append(repository)
        if repository in self.created[:-1]:
            return self._reply(400, _error("RepositoryAlreadyExistsException", "It exists."))
        return self._reply(200, {"repository": {"repositoryName": repository}})

    def _reply(self, status: int, document: object) -> web.Response:
        headers = {"Date": formatdate(time() + self.offset, usegmt=True), "Content-Type": "application/x-amz-json-1.1"}
        return web.Response(status=status, body=json.dumps(document).encode(), headers=headers)


def _error(code: str, message: str) -> dict[str, str]:
    return {"__type": code, "message": message}


@contextmanager
def ecr_api() -> Iterator[EcrApi]:
    """A running API that knows one access key."""
    api = EcrApi()
    app = web.Application()
    app.router.add_post("/", api.answer)
    with serve_app(app) as api.url:
        yield api
