"""What a request's path asks for. Pure; nothing that breaks the grammar gets past here.

Spec: distribution v1.1.1, "Endpoints" end-1, end-2, end-3, end-8 and end-12.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from urllib.parse import unquote

from ocisync.errors import InvalidName
from ocisync.model.digest import parse_digest
from ocisync.model.image_name import is_tag
from ocisync.serve.errors import ApiError, ErrorCode
from ocisync.stores.static import layout

# Under any name: the registry, its page to browse, what probes ask for, and what wants a secret anyway.
PUBLIC_PAGES = re.compile(r"/(?:index\.html|healthz|readyz|v2(?:/.*)?|v1/(?:sync|webhooks)(?:/.*)?)?\Z", re.DOTALL)
MAX_PATH = 1024  # characters before decoding; a name of 255 and a sha512 digest fit several times over


class EndpointKind(enum.Enum):
    """The things a static registry answers for; each value is the component that names it in a path."""

    BASE = ""
    CATALOG = "_catalog"
    TAGS = layout.TAGS
    MANIFEST = layout.MANIFESTS
    BLOB = layout.BLOBS
    REFERRERS = layout.REFERRERS


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One resource; `reference` is what follows its kind: a tag or digest, a digest only, or "list"."""

    kind: EndpointKind
    name: str = ""
    reference: str = ""

    @property
    def key(self) -> str:
        """Where the object lies that answers for it."""
        if self.kind is EndpointKind.CATALOG:
            return layout.CATALOG_KEY
        return str(layout.Key(self.name, self.kind.value, self.reference))

    @property
    def is_immutable(self) -> bool:
        """Whether its bytes can never change, because a digest names them."""
        return self.kind is EndpointKind.BLOB or (self.kind is EndpointKind.MANIFEST and ":" in self.reference)


def parse_path(raw_path: str) -> Endpoint:
    """Read a path that begins with /v2, as it came over the wire.

    Raises:
        Refusal: 404 for no such endpoint or a reference that can be no tag, 400 for a name or digest out of grammar.
    """
    if len(raw_path) > MAX_PATH:
        raise ApiError(400, ErrorCode.NAME_INVALID, f"the path is longer than {MAX_PATH} characters")
    parts = [_decode(part) for part in raw_path.split("/")[2:]]
    if parts in ([], [""]):
        return Endpoint(EndpointKind.BASE)
    if parts == [EndpointKind.CATALOG.value]:
        return Endpoint(EndpointKind.CATALOG)
    if len(parts) < 3 or parts[-2] not in layout.KINDS:
        raise ApiError(404, ErrorCode.UNSUPPORTED, "no such endpoint: this registry serves manifests, blobs and lists")
    return _in_repository(_name("/".join(parts[:-2])), EndpointKind(parts[-2]), parts[-1])


def _decode(part: str) -> str:
    text = unquote(part, errors="replace")
    if "/" in text:
        raise ApiError(400, ErrorCode.NAME_INVALID, "an encoded slash cannot be part of a name")
    return text


def _name(text: str) -> str:
    try:
        return layout.check_name(text)
    except InvalidName as exc:
        raise ApiError(400, ErrorCode.NAME_INVALID, exc.message) from exc


def _in_repository(name: str, kind: EndpointKind, last: str) -> Endpoint:
    if kind is EndpointKind.TAGS:
        if last != "list":
            raise ApiError(404, ErrorCode.UNSUPPORTED, "no such endpoint: tags are listed at tags/list")
        return Endpoint(kind, name, last)
    if kind is EndpointKind.MANIFEST and ":" not in last:
        if not is_tag(last):
            raise ApiError(404, ErrorCode.MANIFEST_UNKNOWN, f"{last[:140]!r} can be no tag")
        return Endpoint(kind, name, last)
    try:
        return Endpoint(kind, name, parse_digest(last))
    except InvalidName as exc:
        raise ApiError(400, ErrorCode.DIGEST_INVALID, exc.message) from exc
