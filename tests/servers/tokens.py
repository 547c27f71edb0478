"""A token server for docker-registry's bearer authentication."""

import base64
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import time

from aiohttp import BasicAuth, web

from .docker_registry import PASSWORD, USERNAME, TokenAuth
from .loop import serve_app
from .tls import Certificate, sign

_ISSUER, _SERVICE = "tests", "test-registry"


@dataclass(slots=True)
class TokenServer:
    """Signs tokens; its attributes may be changed while it runs.

    The registry forgives 60 s of clock difference, so a token with `expires_in` below -60 is refused at once. `refuse`
    answers 401 whatever the credentials.
    """

    certificate: Certificate
    expires_in: int = 300  # seconds
    anonymous_pull: bool = False
    refuse: bool = False
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)  # user name ("" for anonymous), scopes

    @property
    def auth(self) -> TokenAuth:
        """What a registry's configuration needs."""
        return TokenAuth(f"{self.url}/token", _SERVICE, _ISSUER, self.certificate.authority)

    async def answer(self, request: web.Request) -> web.Response:
        """GET /token: a JSON Web Token for the scopes asked for."""
        given = request.headers.get("Authorization", "")
        login = BasicAuth.decode(given) if given else None
        user = login.login if login else ""
        scopes = request.query.getall("scope", [])
        self.asked.append((user, " ".join(scopes)))
        known = login is None or (login.login, login.password) == (USERNAME, PASSWORD)
        if self.refuse or not known or (login is None and not self.anonymous_pull):
            return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401)
        access = [grant for scope in scopes if (grant := _grant(scope, pull_only=login is None))]
        return web.json_response({"token": self._token(user, access), "expires_in": max(self.expires_in, 0)})

    def _token(self, user: str, access: list[dict[str, object]]) -> str:
        now = int(time())
        chain = ssl.PEM_cert_to_DER_cert(self.certificate.certificate.read_text())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(chain).decode()]}
        times = {"exp": now + self.expires_in, "nbf": now - 600, "iat": now - 600}
        claims = {"iss": _ISSUER, "sub": user, "aud": _SERVICE, "jti": f"{len(self.asked)}", "access": access} | times
        signed = f"{_encoded(head)}.{_encoded(claims)}"
        return f"{signed}.{_url64(sign(self.certificate.key, signed.encode()))}"


def _grant(scope: str, *, pull_only: bool) -> dict[str, object] | None:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    granted = [action for action in actions.split(",") if action == "pull" or not pull_only]
    return {"type": kind, "name": name, "actions": granted} if granted else None


def _encoded(value: object) -> str:
    return _url64(json.dumps(value).encode())


def _url64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


@contextmanager
def token_server(certificate: Certificate, *, tls: bool = False) -> Iterator[TokenServer]:
    """A running token server whose tokens the certificate signs."""
    server = TokenServer(certificate)
    app = web.Application()
    app.router.add_get("/token", server.answer)
    with serve_app(app, certificate.server_context() if tls else None) as server.url:
        yield server
