"""Whether a listing of tags can be believed: tags/list, which writers keep, must not know tags that it lacks."""

from __future__ import annotations

from ocisync.content.object_store import ObjectKind
from ocisync.errors import NotFound
from ocisync.maintenance.protocols import MaintainedRepository
from ocisync.model.text.outside_json import load_json


async def list_problem(repository: MaintainedRepository) -> str:
    """Why the listing of tags cannot be believed, or nothing."""
    named = await _read_names(repository)
    if not named:
        return ""
    missing = named - {entry.reference async for entry in repository.list_objects(ObjectKind.TAG)}
    for tag in sorted(missing):
        if await repository.stat(ObjectKind.TAG, tag) is not None:
            return (
                f"{repository.name}: the listing lacks the tag {tag}, which is there: the store's listing is not right"
            )
    if missing:
        return (
            f"{repository.name}: tags/list names {len(missing)} tags that are not there, such as {min(missing)}: "
            "if they were removed on purpose, run `ocisync reconcile` first"
        )
    return ""


async def _read_names(repository: MaintainedRepository) -> set[str]:
    try:
        _, raw = await repository.read(ObjectKind.TAGS_LIST, "list")
        document = load_json(raw)
    except (NotFound, ValueError, RecursionError):
        return set()
    tags = document.get("tags") if isinstance(document, dict) else None
    return {tag for tag in tags if isinstance(tag, str)} if isinstance(tags, list) else set()
