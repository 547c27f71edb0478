"""Archives of `docker save` before docker 1.10: a folder per layer with VERSION, json and layer.tar; `repositories`.

They have no configuration as images have one today: it is made of the layers' json files and contents, as docker does
when it loads such an archive.

Spec: moby's image/spec/v1.md; moby's image/v1/imagev1.go, "MakeConfigFromV1Config".
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence

from ocisync.errors import ArchiveError, ManifestError
from ocisync.model.digest import Digest
from ocisync.model.manifest import parse_json_object
from ocisync.stores.archive.archive_files import ArchiveFiles, read_small
from ocisync.stores.archive.docker_manifest import ImageEntry

REPOSITORIES = "repositories"
_ID = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
_MAX_PARENTS = 500  # layers of one image; docker allows 127
_NOT_KEPT = frozenset(("id", "parent", "Size", "parent_id", "layer_id", "throwaway", "layer_ids"))


def is_legacy(names: Container[str], top_level: Iterable[str]) -> bool:
    """Whether an archive without manifest.json is one of these, by its members' names."""
    return any(f"{name}/VERSION" in names and f"{name}/layer.tar" in names for name in _select_ids(top_level))


async def read_legacy_entries(files: ArchiveFiles) -> tuple[ImageEntry, ...]:
    """The images, as manifest.json would list them.

    Raises:
        ArchiveError: a json file is missing or malformed, or the parents form a loop.
    """
    ids = _select_ids(files.index.top_level)
    parents = {one: await _read_parent(files, one) for one in ids if f"{one}/json" in files.index}
    tagged = _parse_repositories(await read_small(files, REPOSITORIES))
    heads = [one for one in parents if one not in parents.values() and one not in tagged]
    return tuple(_make_entry(tuple(tagged.get(top, ())), _list_ancestors(top, parents)) for top in (*tagged, *heads))


def build_legacy_config(documents: Sequence[bytes], diff_ids: Sequence[Digest]) -> bytes:
    """The configuration made of each layer's json, the base first; a pure function of its arguments.

    Raises:
        ManifestError: one of them is not a JSON object.
    """
    layers = [parse_json_object(raw) for raw in documents]
    config = {key: value for key, value in layers[-1].items() if key not in _NOT_KEPT}
    config["history"] = [_make_history(layer) for layer in layers]
    config["rootfs"] = {"type": "layers", "diff_ids": list(diff_ids)}
    return json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _select_ids(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if _ID.match(name))


async def _read_parent(files: ArchiveFiles, one: str) -> str:
    raw = await read_small(files, f"{one}/json")
    try:
        parent = parse_json_object(raw or b"").get("parent") or ""
    except ManifestError as exc:
        raise ArchiveError(f"{one}/json: {exc.message}") from exc
    if not isinstance(parent, str):
        raise ArchiveError(f"{one}/json: `parent` is not a layer's name")
    return parent


def _parse_repositories(raw: bytes | None) -> dict[str, list[str]]:
    """Layer -> the names (`name:tag`) that the file `repositories` gives it, in order."""
    try:
        document = parse_json_object(raw or b"{}")
    except ManifestError as exc:
        raise ArchiveError(f"{REPOSITORIES}: {exc.message}") from exc
    found: dict[str, list[str]] = {}
    for name, tags in sorted(document.items()):
        if not isinstance(tags, Mapping):
            raise ArchiveError(f"{REPOSITORIES}: {name[:100]!r} has no tags")
        for tag, top in sorted(tags.items()):
            found.setdefault(str(top), []).append(f"{name}:{tag}")
    return found


def _list_ancestors(top: str, parents: Mapping[str, str]) -> list[str]:
    """A layer and all it stands on, the base first."""
    line: list[str] = []
    one = top
    while one:
        if one not in parents:
            raise ArchiveError(f"the layer {one[:80]!r} is named, but has no json in the archive: it is incomplete")
        if one in line or len(line) == _MAX_PARENTS:
            raise ArchiveError(f"the layers below {top[:80]!r} form a loop, or are more than {_MAX_PARENTS}")
        line.append(one)
        one = parents[one]
    return line[::-1]


def _make_entry(tags: tuple[str, ...], line: Sequence[str]) -> ImageEntry:
    documents = tuple(f"{one}/json" for one in line)
    return ImageEntry(documents[-1], tags, tuple(f"{one}/layer.tar" for one in line), documents)


def _make_history(layer: Mapping[str, object]) -> dict[str, object]:
    made_by = layer.get("container_config")
    command = made_by.get("Cmd") if isinstance(made_by, Mapping) else None
    entry = {
        "created": layer.get("created"),
        "author": layer.get("author"),
        "created_by": " ".join(map(str, command)) if isinstance(command, list) else None,
        "comment": layer.get("comment"),
    }
    return {key: value for key, value in entry.items() if value}
