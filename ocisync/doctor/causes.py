"""What can be wrong with a published registry: each cause with the clients that trip over it. Pure data."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

ALL = CLIENTS = ("docker", "containerd", "podman", "crane", "oras", "cosign")  # skopeo is as podman
_PINGERS = ("podman", "crane", "cosign")
_SEEKERS = ("containerd", "oras", "cosign")


class Level(enum.Enum):
    """How much it hurts."""

    FAILS = "fails"  # a client cannot do its work
    RISK = "risk"  # it works, but slower, stale or only in some cases
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong."""

    code: str  # stable, for machines
    level: Level
    clients: tuple[str, ...]
    title: str
    why: str


def _fails(code: str, clients: tuple[str, ...], title: str, why: str) -> Cause:
    return Cause(code, Level.FAILS, clients, title, why)


def _risk(code: str, clients: tuple[str, ...], title: str, why: str) -> Cause:
    return Cause(code, Level.RISK, clients, title, why)


def _note(code: str, title: str, why: str) -> Cause:
    return Cause(code, Level.NOTE, (), title, why)


_TABLE = (
    _fails("host.unreachable", ALL, "the host does not answer", "no client gets a connection"),
    _fails("tls.refused", ALL, "the TLS certificate is not trusted",
           "clients refuse it; it is expired, for another name, or its authority or an intermediate is missing"),
    _risk("tls.none", ALL, "the registry is served without TLS",
          "clients use plain HTTP only for loopback or when told (docker: insecure-registries)"),
    _fails("root.missing", _PINGERS, "/v2/ is not there", "they ask for it first and stop when it is 404"),
    _fails("root.forbidden", _PINGERS, "/v2/ is forbidden", "they ask for it first and stop when it is 403"),
    _fails("root.error", ALL, "/v2/ is answered with an error", "clients ask for it first"),
    _fails("root.below_path", ALL, "the registry lies below a path of the host",
           "clients ask for /v2/ at the root of a host only; a bucket in path style lies below its name"),
    _fails("auth.no_challenge", ALL, "401 without a WWW-Authenticate header",
           "clients cannot know how to log in, and anonymous ones stop"),
    _note("auth.needed", "the registry asks for a login", "the doctor looks only at what anonymous clients see"),
    _fails("redirect.endless", ALL, "redirects do not come to an end", "clients give up after ten"),
    _fails("redirect.dead", ALL, "a redirect leads to where nothing answers",
           "the address is right only behind the front, or its signature is refused"),
    _risk("redirect.downgrade", ALL, "a redirect leads from https to http", "some refuse, all lose the protection"),
    _fails("absent.forbidden", _SEEKERS, "what is not there is answered 403 instead of 404",
           "containerd, oras and cosign look for signatures and referrers that may not exist; 403 is fatal to them"),
    _fails("absent.found", _SEEKERS, "what is not there is answered 200",
           "a page is taken for a manifest, a signature or a blob"),
    _fails("absent.error", _SEEKERS, "what is not there is not answered 404", "only 404 means absent"),
    _risk("absent.name_unknown", ("oras",), "absent content is answered with the code NAME_UNKNOWN",
          "oras then skips the fallback tag of referrers; MANIFEST_UNKNOWN and BLOB_UNKNOWN are right"),
    _fails("manifest.missing", ALL, "the tag is not there", "nothing was published under it"),
    _fails("manifest.refused", ALL, "the tag's manifest is refused", "clients cannot read it"),
    _fails("manifest.not_json", ALL, "what comes is no manifest",
           "the front answers by itself, or the stored one is broken"),
    _fails("manifest.malformed", ALL, "a field of the manifest is not what the specification says",
           "the tool that made it wrote it so; clients refuse a whole document for one field of a wrong type"),
    _fails("manifest.type", ALL, "the manifest has a wrong Content-Type",
           "clients tell an image from an index by it and refuse others"),
    _fails("manifest.type_parameters", ("crane", "cosign"), "the manifest's Content-Type has parameters",
           "they compare it as a whole, so `; charset=utf-8` makes it unknown"),
    _fails("manifest.compressed", ("oras",), "the front compresses manifests", "their Content-Length is lost"),
    _fails("manifest.altered", ALL, "the manifest's bytes are not what its digest says",
           "the front rewrites bodies or serves a stale copy"),
    _fails("digest.missing", ("docker", "containerd", "crane", "cosign"), "the manifest is not there under its digest",
           "they resolve the tag, then ask for the digest"),
    _fails("digest.refused", ("docker", "containerd", "crane", "cosign"), "paths with a digest are refused",
           "the front refuses the colon, or hides these keys"),
    _fails("digest.header_missing", ("oras",), "Docker-Content-Digest is not sent",
           "oras resolves a tag by it; the others hash the manifest. Plain S3 cannot send it, a front can"),
    _fails("digest.header_wrong", ALL, "Docker-Content-Digest is not the manifest's digest",
           "a stale cache or a fixed header; clients believe it"),
    _fails("head.refused", ("containerd", "crane", "oras", "cosign"), "HEAD is refused",
           "they ask for the headers of a manifest first"),
    _fails("head.differs", ("containerd", "oras"), "HEAD and GET say different things",
           "they believe HEAD and then refuse the manifest"),
    _fails("length.missing", ("crane", "oras"), "HEAD has no Content-Length", "they need the manifest's size"),
    _fails("child.missing", ALL, "no platform of the index is there", "the index is published, its images are not"),
    _fails("blob.missing", ALL, "a blob is not there", "the image is published but not whole"),
    _fails("blob.refused", ALL, "a blob is refused", "the manifest can be read, its blobs cannot"),
    _fails("blob.altered", ALL, "a blob's bytes are not what its digest says", "the front rewrites bodies"),
    _fails("blob.size", ALL, "a blob has another size than its manifest says", "it is cut, or not the blob"),
    _risk("blob.compressed", ("docker", "containerd", "oras"), "the front compresses blobs",
          "they are compressed already; their length is lost, and downloads cannot be resumed"),
    _risk("range.ignored", ("docker", "containerd"), "Range is ignored", "broken downloads begin again"),
    _risk("tags.missing", ("podman", "crane", "oras"), "tags/list is not there", "tags cannot be listed"),
    _risk("tags.not_json", ("podman", "crane", "oras"), "tags/list is no list of tags", "tags cannot be listed"),
    _risk("tags.type", (), "tags/list has another Content-Type than application/json", "strict clients refuse it"),
    _risk("tags.unsorted", (), "tags/list is not in lexical order",
          "the specification says MUST (Listing Tags); clients that page by `last` skip tags"),
    _risk("tags.incomplete", ("podman", "crane", "oras"), "tags/list lacks a tag that is there",
          "another tool wrote the list, or a cache is stale"),
    _risk("cache.tags", ALL, "tags are cached", "clients get an old image after a tag has moved"),
    _risk("cache.absent", _SEEKERS, "404 is cached", "what is published next stays invisible"),
    _note("cache.blobs", "content under its digest is not cached", "it never changes: let caches keep it for a year"),
    _fails("referrers.type", ("oras",), "referrers are answered with something that is no OCI index",
           "oras takes a 200 for the referrers API"),
    _fails("referrers.partial", ("oras",), "some manifests have referrers lists and others 404",
           "after one 200 oras takes a 404 for an error: write an empty index for every manifest, or none at all"),
    _note("unexamined", "no image was looked at", "name one: ocisync doctor URL/NAME:TAG"),
)  # fmt: skip
CAUSES = {cause.code: cause for cause in _TABLE}

FOLLOWS: Mapping[str, frozenset[str]] = {  # what goes away with a cause, and would only mislead beside it
    "root.below_path": frozenset({"manifest.missing", "tags.missing", "unexamined"}),
    "digest.missing": frozenset({"child.missing"}),
    "digest.refused": frozenset({"absent.error", "blob.refused", "child.missing"}),
    "manifest.altered": frozenset({"manifest.type", "length.missing", "head.differs", "digest.missing"}),
    "manifest.type": frozenset({"head.differs"}),
    "manifest.malformed": frozenset({"absent.found", "manifest.type", "head.differs", "tags.not_json"}),
    "manifest.not_json": frozenset({"absent.found", "digest.header_missing", "referrers.type", "tags.not_json"}),
    "blob.refused": frozenset({"absent.forbidden", "absent.error"}),
}
