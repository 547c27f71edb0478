"""A registry in memory that follows the specification; `simulated_kinds` has those that differ as products do."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from urllib.parse import quote

from aiohttp import web

USER, PASSWORD = "me", "s3cr3t"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
_ROUTE = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>manifests|blobs|tags|referrers)/(?P<rest>.+)")
Reply = web.StreamResponse


def error(status: int, code: str = "", message: str = "", **headers: str) -> web.Response:
    """A refusal as the specification has it."""
    item = {key: value for key, value in (("code", code), ("message", message)) if value}
    return web.json_response({"errors": [item]}, status=status, headers=headers)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it came."""

    method: str
    path: str
    authorization: str
    status: int


@dataclass
class Simulated:
    """A registry in memory whose repositories below `private/` want a login; `url` once it runs."""

    url: str = ""
    page: int = 2  # names of a page
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)  # by repository and reference
    uploads: dict[str, bytes] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    makes_repositories = True
    stored = 201
    deletes = frozenset({"tag", "digest"})
    has_referrers = True

    @property
    def host(self) -> str:
        """As a reference begins."""
        return self.url.removeprefix("http://")

    def put(self, name: str, reference: str, media_type: str, raw: bytes) -> str:
        """Store a manifest under a tag or its digest."""
        digest = "sha256:" + hashlib.sha256(raw).hexdigest()
        for key in {digest, reference}:
            self.manifests[name, key] = media_type, raw
        return digest

    def tags(self, name: str) -> list[str]:
        """A repository's tags."""
        return sorted(ref for repo, ref in self.manifests if repo == name and ":" not in ref)

    async def answer(self, request: web.Request) -> Reply:
        """Any request."""
        reply = await self.route(request)
        self.asked.append(
            Asked(request.method, request.raw_path, request.headers.get("Authorization", ""), reply.status)
        )
        return reply

    async def route(self, request: web.Request) -> Reply:
        """What a request is answered."""
        found = _ROUTE.fullmatch(request.path)
        name = found["name"] if found else ""
        if request.path == "/token":
            return self.token(request)
        if (refused := self.refuse(request, name)) is not None:
            return refused
        if request.path == "/v2/":
            return web.json_response({})
        if request.path == "/v2/_catalog":
            return self.catalog(request)
        if found is None:
            return error(404, "NOT_FOUND")
        if found["kind"] == "tags":
            return self.tag_page(request, name)
        if found["kind"] == "referrers":
            return self.referrers(found["rest"])
        is_new = not any(repo == name for repo, _ in self.manifests)
        if is_new and not self.makes_repositories and request.method not in ("GET", "HEAD"):
            return error(404, "NAME_UNKNOWN", f"The repository with name '{name}' does not exist")
        if found["kind"] == "manifests":
            return await self.manifest(request, name, found["rest"])
        return await self.blob(request, name, found["rest"])

    # --- who may do what

    def refuse(self, request: web.Request, name: str) -> web.Response | None:
        """The refusal of a request; None when it may be done."""
        wants_login = name.startswith("private/") or request.method not in ("GET", "HEAD")
        if not wants_login or request.headers.get("Authorization") == BASIC:
            return None
        return error(401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": 'Basic realm="r"'})

    def token(self, request: web.Request) -> web.Response:
        """What the token server answers."""
        return error(404, "NOT_FOUND")

    # --- content

    def catalog(self, request: web.Request) -> web.Response:
        """The list of repositories."""
        return self.paged(request, "repositories", sorted({name for name, _ in self.manifests}))

    def tag_page(self, request: web.Request, name: str) -> web.Response:
        """A page of tags."""
        if not (tags := self.tags(name)):
            return error(404, "NAME_UNKNOWN", "repository name not known to registry")
        return self.paged(request, "tags", tags)

    def paged(self, request: web.Request, member: str, names: list[str]) -> web.Response:
        """At most `page` names."""
        rest = [one for one in names if one > request.query.get("last", "")]
        page, headers = rest[: self.page], {}
        if len(rest) > len(page):
            headers["Link"] = self.link(request, page[-1])
        return web.json_response({"name": "x", member: page}, headers=headers)

    def link(self, request: web.Request, last: str) -> str:
        """The Link to the next page."""
        return f'<{request.path}?n={self.page}&last={quote(last)}>; rel="next"'

    def referrers(self, digest: str) -> web.Response:
        """The referrers API."""
        if not self.has_referrers:
            return error(404, "NOT_FOUND")
        index = "application/vnd.oci.image.index.v1+json"
        return web.Response(body=b'{"schemaVersion": 2, "manifests": []}', headers={"Content-Type": index})

    async def manifest(self, request: web.Request, name: str, reference: str) -> Reply:
        """Below manifests/."""
        if request.method == "PUT":
            raw = await request.read()
            for part in [json.loads(raw).get("config"), *json.loads(raw).get("layers", [])]:
                if part and part["digest"] not in self.blobs:
                    return error(400, "MANIFEST_BLOB_UNKNOWN", part["digest"])
            digest = self.put(name, reference, request.headers["Content-Type"], raw)
            return web.Response(status=self.stored, headers={"Docker-Content-Digest": digest})
        if request.method == "DELETE":
            if ("digest" if ":" in reference else "tag") not in self.deletes:
                return error(405, "UNSUPPORTED", "The operation is unsupported.")
            self.manifests.pop((name, reference), None)
            return web.Response(status=202)
        if (name, reference) not in self.manifests:
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, raw = self.manifests[name, reference]
        digest = "sha256:" + hashlib.sha256(raw).hexdigest()
        return web.Response(body=raw, headers={"Content-Type": media_type, "Docker-Content-Digest": digest})

    async def blob(self, request: web.Request, name: str, rest: str) -> Reply:
        """Below blobs/."""
        if request.method == "POST":
            if (digest := request.query.get("mount", "")) in self.blobs and self.mounts(request.query.get("from", "")):
                return web.Response(status=201, headers={"Docker-Content-Digest": digest})
            session = f"s{len(self.asked)}"
            self.uploads[session] = b""
            return web.Response(status=202, headers=self.session_headers(request, name, session))
        if not rest.startswith("uploads/"):
            if rest not in self.blobs:
                return error(404, "BLOB_UNKNOWN")
            return web.Response(body=self.blobs[rest], headers={"Docker-Content-Digest": rest})
        session = rest.removeprefix("uploads/")
        if request.method == "DELETE":
            self.uploads.pop(session, None)
            return web.Response(status=204)
        return await self.upload(request, name, session)

    async def upload(self, request: web.Request, name: str, session: str) -> Reply:
        """PATCH and PUT of an upload."""
        held = self.uploads.get(session, b"") + await request.read()
        if request.method != "PUT":
            self.uploads[session] = held
            return web.Response(status=202, headers=self.session_headers(request, name, session))
        digest = request.query["digest"]
        if "sha256:" + hashlib.sha256(held).hexdigest() != digest:
            return error(400, "DIGEST_INVALID")
        self.blobs[digest] = held
        return web.Response(status=self.stored, headers={"Docker-Content-Digest": digest})

    def session_headers(self, request: web.Request, name: str, session: str) -> dict[str, str]:
        """Where an upload goes on."""
        held = len(self.uploads[session])
        return {"Location": f"/v2/{name}/blobs/uploads/{session}?_state=a%3D", "Range": f"0-{max(held - 1, 0)}"}

    def mounts(self, source: str) -> bool:
        """Whether blobs of another repository can be taken."""
        return True
