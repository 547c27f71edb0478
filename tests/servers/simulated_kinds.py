"""Registries of other people, as far as their documents and their users' reports tell what they answer.

Each class differs from the specification as one product does: in what a stranger, a pull, a push into a new repository,
a page, a mount and a deletion are answered.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

from aiohttp import web

from .loop import serve_app
from .simulated import BASIC, Reply, Simulated, error


class Bearer(Simulated):
    """Registries whose tokens come from a token server."""

    def refuse(self, request: web.Request, name: str) -> web.Response | None:
        """A token must grant the action; `authorization` is `Bearer NAME:ACTIONS`."""
        action = "pull" if request.method in ("GET", "HEAD") else "push"
        held = request.headers.get("Authorization", "").removeprefix("Bearer ")
        granted = dict(part.rpartition("=")[::2] for part in held.split(";") if "=" in part)
        if action in granted.get(name, "").split(",") or (not name and held):
            return None
        scope = f',scope="repository:{name}:{"pull" if action == "pull" else "pull,push"}"' if name else ""
        insufficient = ',error="insufficient_scope"' if held else ""
        challenge = f'Bearer realm="{self.url}/token",service="simulated"{scope}{insufficient}'
        return error(401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": challenge})

    def token(self, request: web.Request) -> web.Response:
        """What is asked for, as far as this user may have it."""
        login = request.headers.get("Authorization", "")
        if login not in ("", BASIC):
            return web.json_response({"details": "incorrect username or password"}, status=401)
        grants = []
        for scope in request.query.getall("scope", []):
            _, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = self.allowed(name, actions.split(","), is_stranger=not login)
            if allowed is None:
                return error(403, "DENIED", "requested access to the resource is denied")
            grants.append(f"{name}={','.join(allowed)}")
        return web.json_response({"token": ";".join(grants), "expires_in": 300})

    def allowed(self, name: str, actions: list[str], *, is_stranger: bool) -> list[str] | None:
        """The actions that a token gets; None: no token is given."""
        if is_stranger:
            return [one for one in actions if one == "pull" and not name.startswith("private/") and self.tags(name)]
        return actions


class Stored(Simulated):
    """Registries whose blobs lie in storage elsewhere, which wants no login and must not be shown one."""

    redirected = frozenset({"GET"})

    async def blob(self, request: web.Request, name: str, rest: str) -> Reply:
        """Redirected to storage."""
        if request.method in self.redirected and rest in self.blobs:
            storage = self.url.replace("127.0.0.1", "localhost")
            return web.Response(status=307, headers={"Location": f"{storage}/storage/{rest}?signature=a%2Fb"})
        return await super().blob(request, name, rest)

    async def route(self, request: web.Request) -> Reply:
        """Storage takes what was signed: GET, and no other authorization."""
        if not request.path.startswith("/storage/"):
            return await super().route(request)
        if request.method != "GET" or "Authorization" in request.headers:
            return web.Response(status=403, text="<Error><Code>SignatureDoesNotMatch</Code></Error>")
        return web.Response(body=self.blobs[request.path.removeprefix("/storage/")])


class DockerHub(Stored, Bearer):
    """Docker Hub: a token without access for what a stranger may not see, pulls counted, no deletion, no catalog."""

    deletes = frozenset[str]()
    has_referrers = False

    def catalog(self, request: web.Request) -> web.Response:
        """Not shown."""
        return error(404, "NOT_FOUND")

    def allowed(self, name: str, actions: list[str], *, is_stranger: bool) -> list[str] | None:
        """Of a repository that does not exist, `pull` alone grants nothing."""
        if not is_stranger and not self.tags(name):
            return actions if "push" in actions else []
        return super().allowed(name, actions, is_stranger=is_stranger)


class Ghcr(Stored, Bearer):
    """GHCR: no token at all for what is missing or private, bodies over 4 MiB refused with 416, no deletion.

    HEADs are sent to storage as well, which refuses them; the referrers API to pages of GitHub.
    """

    redirected = frozenset({"GET", "HEAD"})

    deletes = frozenset[str]()
    has_referrers = False
    largest = 4 << 20  # bytes of a body

    def allowed(self, name: str, actions: list[str], *, is_stranger: bool) -> list[str] | None:
        """403 DENIED for a package that is not there to be seen."""
        if is_stranger and (name.startswith("private/") or not self.tags(name)):
            return None
        return ["pull"] if is_stranger else actions

    async def upload(self, request: web.Request, name: str, session: str) -> Reply:
        """PATCH bodies have a limit."""
        if request.method == "PATCH" and (request.content_length or 0) > self.largest:
            return error(416, "REQUESTED_RANGE_NOT_SATISFIABLE", "the request body is too large")
        return await super().upload(request, name, session)

    def mounts(self, source: str) -> bool:
        """Packages share nothing."""
        return False

    def referrers(self, digest: str) -> web.Response:
        """Not known, and not refused."""
        return web.Response(status=303, headers={"Location": "http://127.0.0.1:1/-/v2/packages"})


class Ecr(Stored):
    """ECR: always a login, no repository made by a push, no mount, immutable tags, deletion by its API only.

    The Range of an upload stays at the end of its first chunk.
    """

    makes_repositories = False
    deletes = frozenset[str]()

    def refuse(self, request: web.Request, name: str) -> web.Response | None:
        """Strangers are never served."""
        if request.headers.get("Authorization") == BASIC:
            return None
        return error(
            401, "", "Not Authorized", **{"WWW-Authenticate": 'Basic realm="https://ecr.example/",service="e"'}
        )

    def mounts(self, source: str) -> bool:
        """Not unless the account wants it."""
        return False

    async def upload(self, request: web.Request, name: str, session: str) -> Reply:
        """A chunk out of place is refused."""
        held, told = len(self.uploads.get(session, b"")), request.headers.get("Content-Range", "0-")
        if request.method == "PATCH" and int(told.partition("-")[0]) != held:
            return error(416, "BLOB_UPLOAD_INVALID", "The layer part is out of order")
        reply = await super().upload(request, name, session)
        if held:
            first = int(told.partition("-")[2] or 0) - int(told.partition("-")[0])
            reply.headers["Range"] = f"0-{first}"
        return reply

    async def manifest(self, request: web.Request, name: str, reference: str) -> Reply:
        """Tags are written once."""
        if request.method == "PUT" and ":" not in reference and (name, reference) in self.manifests:
            return error(400, "TAG_INVALID", f"The image tag '{reference}' already exists and is immutable")
        return await super().manifest(request, name, reference)


class Quay(Stored, Bearer):
    """Quay: 202 for what was stored, `next_page` in Links, no action but pull, push and * in scopes."""

    stored = 202

    def token(self, request: web.Request) -> web.Response:
        """Scopes with `delete` are refused."""
        if any("delete" in scope for scope in request.query.getall("scope", [])):
            return error(400, "UNSUPPORTED", "Unable to decode repository and actions")
        return super().token(request)

    def link(self, request: web.Request, last: str) -> str:
        """A token of its own beside the last tag."""
        return f'<{request.path}?n={self.page}&last={quote(last)}&next_page=gAAAA%3D%3D>; rel="next"'


class Gar(Stored, Bearer):
    """Google's: blobs lie elsewhere, a project's repository must exist, `n` is heeded, all deletions work."""

    makes_repositories = False


class GitLab(Bearer):
    """GitLab: the token server refuses what a user may not do, tags can be deleted, the catalog is for admins.

    It has no referrers, and takes `sha256-…` for the digest.
    """

    deletes = frozenset({"tag"})
    has_referrers = False

    async def manifest(self, request: web.Request, name: str, reference: str) -> Reply:
        """By tag or digest, in either form."""
        if reference.startswith("sha256-"):
            reference = reference.replace("-", ":")
        return await super().manifest(request, name, reference)

    def allowed(self, name: str, actions: list[str], *, is_stranger: bool) -> list[str] | None:
        """Strangers get no token for what is private."""
        return None if is_stranger and name.startswith("private/") else ["pull"] if is_stranger else actions

    def catalog(self, request: web.Request) -> web.Response:
        """For admins."""
        return error(403, "DENIED", "requested access to the resource is denied")


class Harbor(Bearer):
    """Harbor: projects must exist, tags may be immutable (412), Links name the core's host.

    A token that is not enough is answered with Basic alone, and the referrers API of older ones wants a login.
    """

    makes_repositories = False

    def refuse(self, request: web.Request, name: str) -> web.Response | None:
        """With Bearer for who shows nothing."""
        refused = super().refuse(request, name)
        if refused is not None and "Authorization" in request.headers:
            refused.headers["WWW-Authenticate"] = 'Basic realm="harbor"'
        return refused

    def referrers(self, digest: str) -> web.Response:
        """As what it does not know."""
        return error(401, "UNAUTHORIZED", "unauthorized")

    def link(self, request: web.Request, last: str) -> str:
        """As the inner host knows itself."""
        return f'<http://core.harbor.svc{request.path}?n={self.page}&last={quote(last)}>; rel="next"'

    async def manifest(self, request: web.Request, name: str, reference: str) -> Reply:
        """Immutable tags."""
        if request.method == "PUT" and ":" not in reference and (name, reference) in self.manifests:
            return error(
                412, "PRECONDITION", f"Failed to process request due to '{reference}' configured as immutable."
            )
        return await super().manifest(request, name, reference)


class Artifactory(Simulated):
    """Artifactory: what a stranger may not see is 404, refusals without a code, Links with the inner host."""

    def refuse(self, request: web.Request, name: str) -> web.Response | None:
        """Hidden from strangers; only /v2/ and writes ask."""
        if request.headers.get("Authorization") == BASIC:
            return None
        if request.path == "/v2/" or request.method not in ("GET", "HEAD"):
            headers = {"WWW-Authenticate": 'Basic realm="Artifactory Realm"'}
            return web.json_response({"errors": [{"status": 401, "message": "no"}]}, status=401, headers=headers)
        return error(404, "NAME_UNKNOWN") if name.startswith("private/") else None

    def link(self, request: web.Request, last: str) -> str:
        """As it knows itself."""
        return f'<http://artifactory.internal:8081{request.path}?n={self.page}&last={quote(last)}>; rel="next"'


class Nexus(Simulated):
    """Nexus: HEAD of a manifest is 404, every tag in one page, deletion by digest."""

    page = 1000
    deletes = frozenset({"digest"})

    async def manifest(self, request: web.Request, name: str, reference: str) -> Reply:
        """GET alone knows."""
        if request.method == "HEAD":
            return error(404, "MANIFEST_UNKNOWN")
        return await super().manifest(request, name, reference)


class Zot(Simulated):
    """zot with an anonymous policy: /v2/ is 200 with a challenge, the catalog lists what the caller may read.

    The Range of an upload is that of its last chunk.
    """

    async def upload(self, request: web.Request, name: str, session: str) -> Reply:
        """As it counts."""
        reply = await super().upload(request, name, session)
        if request.method == "PATCH":
            reply.headers["Range"] = f"0-{(request.content_length or 1) - 1}"
        return reply

    async def route(self, request: web.Request) -> Reply:
        """The root tells of the login."""
        if request.path == "/v2/":
            return web.json_response({}, headers={"WWW-Authenticate": 'Basic realm="zot"'})
        return await super().route(request)

    def catalog(self, request: web.Request) -> web.Response:
        """What a stranger may read."""
        names = sorted({name for name, _ in self.manifests})
        if request.headers.get("Authorization") != BASIC:
            names = [name for name in names if not name.startswith("private/")]
        return self.paged(request, "repositories", names)


KINDS: dict[str, type[Simulated]] = {
    "Docker Hub": DockerHub, "GHCR": Ghcr, "ECR": Ecr, "Quay": Quay, "GAR": Gar, "GitLab": GitLab, "Harbor": Harbor,
    "Artifactory": Artifactory, "Nexus": Nexus, "zot": Zot, "the specification": Simulated,
}  # fmt: skip


@contextmanager
def simulated(kind: str, of: Callable[[], Simulated] | None = None) -> Iterator[Simulated]:
    """A running registry of a kind, or of a class that a test makes of one."""
    registry = (of or KINDS[kind])()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", registry.answer)
    with serve_app(app) as registry.url:
        yield registry
