"""From observations to findings. Pure: each check takes all observations, and yields the codes of causes.

A check decides from what was observed alone, and says where it saw it. Two rules keep the list short: a cause is told
once, where it was seen first, and a cause that follows from another one that was found (`causes.FOLLOWS`) is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

from ocisync.doctor.causes import CAUSES, FOLLOWS, Cause, Level
from ocisync.doctor.observations import Observations
from ocisync.doctor.probe import REDIRECTS, Observation
from ocisync.errors import OcisyncError
from ocisync.model import media_types
from ocisync.model.digest import Digest, digest_of, is_digest
from ocisync.model.image_name import is_tag
from ocisync.model.manifest import parse_manifest

_FRESH = 300  # seconds that a tag may be cached before it is worth a word
_MAX_AGE = re.compile(r"(?:\bs-maxage|\bmax-age)\s*=\s*\"?(\d{1,12})", re.IGNORECASE)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """One cause, and where it was seen."""

    cause: Cause
    seen: str


def run_checks(facts: Observations) -> list[CheckFinding]:
    """Everything that is wrong, the worst first; each cause once, where it was seen first."""
    found: dict[str, CheckFinding] = {}
    for check in _CHECKS:
        for code, seen in check(facts):
            found.setdefault(code, CheckFinding(CAUSES[code], seen))
    following = {code for cause in found for code in FOLLOWS.get(cause, ())}
    told = [finding for code, finding in found.items() if code not in following]
    order = list(Level)
    return sorted(told, key=lambda finding: order.index(finding.cause.level))


Found = Iterator[tuple[str, str]]  # codes of causes, each with what was seen


def _connection(facts: Observations) -> Found:
    url = urlsplit(facts.address.root)
    failure = facts.base.answer
    if failure.status == 0:
        yield ("tls.refused" if failure.is_tls_failure else "host.unreachable"), str(facts.base)
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        yield "tls.none", facts.address.root


def _root(facts: Observations) -> Found:
    seen, status = facts.base, facts.base.answer.status
    if status == 401:
        yield ("auth.needed" if seen.answer.header("www-authenticate") else "auth.no_challenge"), str(seen)
    elif facts.below is not None and facts.below.ok and facts.below.answer.json() is not None:
        yield "root.below_path", f"{seen}, but {facts.below}"
    elif status in (403, 404) and b"NoSuchBucket" in seen.answer.plain[:4096]:
        yield "root.below_path", f"{seen}: the service takes v2 for a bucket"
    elif status in (403, 404) and not seen.hops:
        yield ("root.forbidden" if status == 403 else "root.missing"), str(seen)
    elif status and not seen.ok and not seen.is_endless and not seen.hops:
        yield "root.error", str(seen)


def _redirects(facts: Observations) -> Found:
    for seen in facts.all:
        if seen.is_endless:
            yield "redirect.endless", f"{seen}, the last to {_without_query(seen.hops[-1])}"
        elif seen.answer.status in REDIRECTS:
            yield "redirect.dead", f"{seen}: to {_without_query(seen.answer.header('location')) or 'nowhere'}"
        elif seen.hops and not seen.ok and (seen.answer.status != 404 or seen not in facts.absent):
            yield "redirect.dead", f"{seen}; the last was to {_without_query(seen.hops[-1])}"
        if facts.address.root.startswith("https:") and any(hop.startswith("http:") for hop in seen.hops):
            yield "redirect.downgrade", f"{seen}: to {_without_query(seen.hops[-1])}"


def _absent(facts: Observations) -> Found:
    for seen in (*facts.absent, *(seen for seen in facts.referrers if not seen.ok)):
        status = seen.answer.status
        if status in (401, 403):
            yield "absent.forbidden", str(seen)
        elif status in (200, 206):
            yield "absent.found", f"{seen} {seen.answer.header('content-type')}".rstrip()
        elif status not in (0, 404) and not seen.is_endless:
            yield "absent.error", str(seen)
        elif status == 404 and b"NAME_UNKNOWN" in seen.answer.plain[:4096]:
            yield "absent.name_unknown", str(seen)


def _manifest(facts: Observations) -> Found:
    seen = facts.by_tag
    if seen is None:
        yield "unexamined", str(facts.tags or facts.catalog or facts.base)
        return
    if not seen.ok:
        if not seen.hops:
            yield ("manifest.missing" if seen.answer.status == 404 else "manifest.refused"), str(seen)
        return
    for one in (seen, facts.by_digest, facts.child):
        if one is not None and one.ok:
            yield from _manifest_body(one)


_MANIFEST_FIELDS = frozenset({"schemaVersion", "manifests", "layers", "config"})


def _manifest_body(seen: Observation) -> Found:
    answer = seen.answer
    try:
        expected = parse_manifest(answer.plain).media_type
    except OcisyncError as exc:
        document = answer.json()
        is_manifest = document is not None and not _MANIFEST_FIELDS.isdisjoint(document)
        cause = "manifest.malformed" if is_manifest else "manifest.not_json"
        yield cause, f"{seen}: {answer.header('content-type') or 'no Content-Type'}: {exc.message}"
        return
    if answer.media_type != expected:
        yield "manifest.type", f"{seen}: {answer.header('content-type') or 'no Content-Type'}, not {expected}"
    elif ";" in answer.header("content-type"):
        yield "manifest.type_parameters", f"{seen}: {answer.header('content-type')}"
    if answer.header("content-encoding") not in ("", "identity"):
        yield "manifest.compressed", f"{seen}: Content-Encoding: {answer.header('content-encoding')}"
    asked = seen.path.rpartition("/")[2]
    if is_digest(asked) and digest_of(answer.plain, Digest(asked)) != asked:
        yield "manifest.altered", f"{seen}: the bytes hash to {digest_of(answer.plain, Digest(asked))}"


def _by_digest(facts: Observations) -> Found:
    seen = facts.by_digest
    if seen is not None and not seen.ok and not seen.hops:
        yield ("digest.missing" if seen.answer.status == 404 else "digest.refused"), str(seen)
    if facts.child is not None and not facts.child.ok and not facts.child.hops:
        yield (
            ("child.missing" if facts.child.answer.status == 404 else "digest.refused"),
            str(facts.child),
        )


def _digest_header(facts: Observations) -> Found:
    for seen in (facts.tag_head, facts.by_tag, facts.digest_head):
        sent = seen.answer.header("docker-content-digest") if seen is not None and seen.ok else ""
        if seen is facts.tag_head and seen is not None and seen.ok and not sent:
            yield "digest.header_missing", str(seen)
        if sent and facts.digest is not None and sent != facts.digest:
            is_stored = facts.by_digest is None or facts.by_digest.ok
            code = "digest.header_wrong" if is_stored else "manifest.altered"
            yield code, f"{seen}: Docker-Content-Digest is {sent}, the bytes hash to {facts.digest}"


def _head(facts: Observations) -> Found:
    for head, get in ((facts.tag_head, facts.by_tag), (facts.digest_head, facts.by_digest)):
        if head is None or get is None or not get.ok or head.is_endless:
            continue
        if not head.ok:
            yield "head.refused", f"{head}, but {get}"
        elif head.answer.media_type != get.answer.media_type:
            types = [one.answer.header("content-type") for one in (head, get)]
            yield "head.differs", f"{head}: {types[0]}, but GET says {types[1]}"
        elif not head.answer.header("content-length"):
            yield "length.missing", str(head)


def _blobs(facts: Observations) -> Found:
    for seen in (facts.config, facts.layer_head):
        if seen is None or seen.hops:
            continue
        if seen is facts.layer_head and not seen.ok and facts.layer_part is not None and facts.layer_part.ok:
            yield "head.refused", f"{seen}, but {facts.layer_part}"
        elif not seen.ok:
            yield ("blob.missing" if seen.answer.status == 404 else "blob.refused"), str(seen)
        elif seen.answer.header("content-encoding") not in ("", "identity"):
            yield "blob.compressed", f"{seen}: Content-Encoding: {seen.answer.header('content-encoding')}"
    yield from _config(facts)
    yield from _layer(facts)


def _config(facts: Observations) -> Found:
    seen = facts.config
    if seen is not None and seen.ok and seen.answer.is_whole:
        asked = Digest(seen.path.rpartition("/")[2])
        if digest_of(seen.answer.plain, asked) != asked:
            yield "blob.altered", f"{seen}: the bytes hash to {digest_of(seen.answer.plain, asked)}"


def _layer(facts: Observations) -> Found:
    head, part, layer = facts.layer_head, facts.layer_part, facts.layer
    if layer is None or head is None or part is None or not head.ok:
        return
    length = head.answer.header("content-length")
    if (
        length.isascii()
        and length.isdigit()
        and int(length) != layer.size
        and not head.answer.header("content-encoding")
    ):
        yield "blob.size", f"{head}: {length} bytes, not {layer.size}"
    if layer.size > 2 and part.answer.status != 206:
        yield "range.ignored", f"{part} to a Range"


def _tags(facts: Observations) -> Found:
    seen = facts.tags
    if seen is None or seen.is_endless:
        return
    if not seen.ok:
        yield "tags.missing", str(seen)
        return
    document = seen.answer.json()
    listed = document.get("tags", ()) if document is not None else None
    if not isinstance(listed, list) or not all(isinstance(tag, str) for tag in listed):
        yield "tags.not_json", f"{seen}: {seen.answer.header('content-type')}"
        return
    if seen.answer.media_type != "application/json":
        yield "tags.type", f"{seen}: {seen.answer.header('content-type') or 'no Content-Type'}"
    if listed != sorted(listed):
        after, before = next((b, a) for a, b in pairwise(listed) if a > b)
        yield "tags.unsorted", f"{seen}: {after!r} comes after {before!r}"
    tag = facts.address.tag
    if facts.by_tag is not None and facts.by_tag.ok and is_tag(tag) and tag not in listed and not _is_page(seen):
        yield "tags.incomplete", f"{seen}: {tag!r} is not in it"


def _is_page(seen: Observation) -> bool:
    return bool(seen.answer.header("link"))


def _caching(facts: Observations) -> Found:
    moving = [facts.by_tag if is_tag(facts.address.tag) else None, facts.tags]
    for seen in moving:
        if seen is not None and seen.ok and _is_kept(seen):
            yield "cache.tags", f"{seen}: Cache-Control: {seen.answer.header('cache-control')}"
    for seen in facts.absent:
        if seen.answer.status == 404 and _is_kept(seen):
            yield "cache.absent", f"{seen}: Cache-Control: {seen.answer.header('cache-control')}"
    fixed = facts.layer_head
    if fixed is not None and fixed.ok and not _is_kept(fixed):
        yield "cache.blobs", f"{fixed}: Cache-Control: {fixed.answer.header('cache-control') or 'not sent'}"


def _is_kept(seen: Observation) -> bool:
    control = seen.answer.header("cache-control").lower()
    if "no-cache" in control or "no-store" in control:
        return False
    return any(int(age) > _FRESH for age in _MAX_AGE.findall(control)) or "immutable" in control


def _referrers(facts: Observations) -> Found:
    ok: Sequence[Observation] = [seen for seen in facts.referrers if seen.ok]
    for seen in ok:
        document = seen.answer.json()
        if seen.answer.media_type != media_types.OCI_INDEX or document is None or "manifests" not in document:
            yield "referrers.type", f"{seen}: {seen.answer.header('content-type') or 'no Content-Type'}"
    missing = [seen for seen in facts.referrers if seen.answer.status == 404]
    if ok and missing:
        yield "referrers.partial", f"{ok[0]}, but {missing[0]}"


def _without_query(url: str) -> str:
    """A URL without its query, which may hold a signature."""
    return url.partition("?")[0]


_CHECKS = (
    _connection, _root, _redirects, _manifest, _by_digest, _head, _digest_header, _blobs, _absent, _referrers, _tags,
    _caching,
)  # fmt: skip
