"""What a collection would remove, as a file of JSON lines that people can read and `gc --apply` takes. Pure.

The first line says what it is, then there is one line for each object, and the last line counts them: a plan without
its last line was cut, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from ocisync.content.object_store import ObjectKind
from ocisync.errors import ConfigError
from ocisync.model.digest import Digest, is_digest

VERSION = 1
FEW = 20  # objects; so few may go whatever their share


@dataclass(frozen=True, slots=True)
class Garbage:
    """One object that nothing reaches."""

    repository: str
    kind: ObjectKind
    digest: Digest
    size: int  # bytes
    modified: float  # seconds since the epoch

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "repository": self.repository,
            "kind": self.kind.value,
            "digest": self.digest,
            "size": self.size,
            "modified": self.modified,
        }


@dataclass(slots=True)
class Totals:
    """What a plan comes to."""

    repositories: int = 0
    objects: int = 0  # manifests and blobs that were looked at
    doomed: int = 0
    bytes: int = 0  # of what is doomed
    problems: list[str] = field(default_factory=list)  # repositories of which nothing is removed, and why

    def refusal(self, limit: float) -> str | None:
        """Why the plan is not to be carried out; `limit` is the largest part of all objects that may go."""
        if self.doomed <= FEW or self.doomed <= limit * self.objects:
            return None
        return (
            f"{self.doomed} of {self.objects} objects would be removed, more than the limit of {limit:.0%}: see that "
            "the listing is right and the tags are all there, then allow it with a higher limit"
        )


def head_line(target: str, grace: float, now: float) -> str:
    """The first line of a plan."""
    return _line({"ocisync": "gc plan", "version": VERSION, "target": target, "grace": grace, "made": now})


def object_line(doomed: Garbage) -> str:
    """One object's line."""
    return _line(doomed.as_json())


def end_line(totals: Totals) -> str:
    """The last line."""
    return _line(
        {
            "end": True,
            "repositories": totals.repositories,
            "objects": totals.objects,
            "doomed": totals.doomed,
            "bytes": totals.bytes,
            "problems": totals.problems,
        }
    )


def _line(document: Mapping[str, object]) -> str:
    return json.dumps(document, separators=(",", ":")) + "\n"


def read_totals(first: str, last: str, target: str) -> Totals:
    """What a plan says of itself.

    Raises:
        ConfigError: it is no plan, one for another target, or cut.
    """
    head, end = _object(first), _object(last)
    if head.get("ocisync") != "gc plan" or head.get("version") != VERSION:
        raise ConfigError("the file is not a plan of `ocisync gc --plan`, or one of another version; make it again")
    if head.get("target") != target:
        raise ConfigError(f"the plan is for the target {str(head.get('target'))[:80]!r}, not for {target!r}")
    if end.get("end") is not True:
        raise ConfigError("the plan has no last line: it was cut; make it again")
    problems = end.get("problems")
    counts = {name: int(str(end.get(name, 0))) for name in ("repositories", "objects", "doomed", "bytes")}
    told = [str(one) for one in problems] if isinstance(problems, list) else []
    return Totals(counts["repositories"], counts["objects"], counts["doomed"], counts["bytes"], told)


def read_objects(lines: Iterable[str]) -> Iterator[tuple[str, list[Garbage]]]:
    """The objects of a plan, by repository as they stand in it.

    Raises:
        ConfigError: a line is not one of a plan.
    """
    found = (_parse_garbage(line) for line in lines if '"digest"' in line)
    for repository, some in groupby(found, key=lambda doomed: doomed.repository):
        yield repository, list(some)


def _parse_garbage(line: str) -> Garbage:
    document = _object(line)
    digest, size, modified = document.get("digest"), document.get("size"), document.get("modified")
    if not isinstance(digest, str) or not is_digest(digest) or not isinstance(size, int):
        raise ConfigError(f"not a line of a plan: {line[:100]!r}; make the plan again")
    if document.get("kind") not in (ObjectKind.BLOB.value, ObjectKind.MANIFEST.value) or not isinstance(
        modified, int | float
    ):
        raise ConfigError(f"not a line of a plan: {line[:100]!r}; make the plan again")
    kind = ObjectKind(document["kind"])
    return Garbage(str(document.get("repository")), kind, Digest(digest), size, float(modified))


def _object(line: str) -> dict[str, object]:
    try:
        document = json.loads(line)
    except ValueError:
        document = None
    return document if isinstance(document, dict) else {}
