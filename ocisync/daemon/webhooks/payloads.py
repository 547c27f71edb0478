"""What registries say in their webhooks, as pushes. Pure: a body and its headers in, names out.

Nothing in a notification is trusted or fetched: it only says which repository and tag of a rule to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ocisync.errors import InputError, InvalidName
from ocisync.model.digest import is_digest
from ocisync.model.image_name import DOCKER_HUB, ImageName, is_tag, parse_host, parse_image_name
from ocisync.model.media_types import MANIFESTS
from ocisync.model.text.outside_json import load_json

MAX_PUSHES = 1000  # of one notification
_PLAIN = '{"repository": "ghcr.io/org/app", "tag": "1.0"}'
_HARBOR_PUSHES = ("PUSH_ARTIFACT", "harbor.artifact.pushed")
_GITHUB_PACKAGES = ("package", "registry_package")


@dataclass(frozen=True, slots=True)
class Push:
    """A sender says that something was pushed."""

    repository: str
    tag: str = ""  # empty: not told, so anything may have been
    registry: str = ""  # empty: not told, so a repository of that name anywhere
    is_untagged: bool = False  # by its digest only: of interest as what refers to an image, such as a signature

    def matches(self, image: ImageName) -> bool:
        """Whether a rule's source is meant; docker's short names stand for those below library/."""
        if self.registry and self.registry != image.host:
            return False
        return image.repository in (self.repository, f"library/{self.repository}")


def read_pushes(sender: str, body: bytes, headers: Mapping[str, str]) -> list[Push]:
    """The pushes of manifests that a notification tells of; other kinds of notification tell of none.

    Raises:
        InputError: not JSON, not what the sender writes, or more than 1000 pushes.
    """
    try:
        document = load_json(body)
    except (ValueError, RecursionError) as exc:
        raise InputError("the body is not JSON") from exc
    if not isinstance(document, dict):
        raise InputError("the body is not a JSON object")
    found = list(dict.fromkeys(push for push in _SENDERS[sender](document, headers) if _is_usable(push)))
    if len(found) > MAX_PUSHES:
        raise InputError(f"the notification tells of {len(found)} pushes; at most {MAX_PUSHES} are taken at once")
    return found


def _is_usable(push: Push) -> bool:
    return bool(push.repository) and (not push.tag or is_tag(push.tag))


def _plain(document: object, _: Mapping[str, str]) -> Iterator[Push]:
    repository, tag = _text(document, "repository"), _text(document, "tag")
    if not repository:
        raise InputError(f"expected {_PLAIN}")
    try:
        named = parse_image_name(repository)
    except InvalidName as exc:
        raise InputError(f"expected {_PLAIN}: {exc.message}") from exc
    if tag and not is_tag(tag):
        raise InputError(f"expected {_PLAIN}: {tag[:140]!r} is not a tag")
    if repository.startswith(f"{named.host}/"):
        yield Push(named.repository, tag or named.tag, named.host)
    else:
        yield Push(named.repository.removeprefix("library/"), tag or named.tag)


def _distribution(document: object, _: Mapping[str, str]) -> Iterator[Push]:
    """Spec: distribution, "Notifications": an envelope of events. The host in it is what the pusher called it."""
    if not isinstance(_at(document, "events"), list):
        raise InputError("a distribution registry's notification has a list of `events`")
    for event in _items(document, "events"):
        tag, kind = _text(event, "target", "tag"), _text(event, "target", "mediaType")
        if _text(event, "action") == "push" and (tag or kind in MANIFESTS):
            yield Push(_text(event, "target", "repository"), tag, is_untagged=not tag)


def _harbor(document: object, _: Mapping[str, str]) -> Iterator[Push]:
    """Harbor's own format, and CloudEvents as it writes them."""
    if _text(document, "type") not in _HARBOR_PUSHES:
        return
    data = _at(document, "event_data") or _at(document, "data")
    repository = _text(data, "repository", "repo_full_name")
    for resource in _items(data, "resources"):
        tag = _text(resource, "tag")
        if is_tag(tag) or is_digest(tag):
            shown = "" if is_digest(tag) else tag
            yield Push(repository, shown, _host(_text(resource, "resource_url")), is_untagged=not shown)


def _dockerhub(document: object, _: Mapping[str, str]) -> Iterator[Push]:
    tag = _text(document, "push_data", "tag")
    if tag:
        yield Push(_text(document, "repository", "repo_name"), tag, DOCKER_HUB)


def _quay(document: object, _: Mapping[str, str]) -> Iterator[Push]:
    url = _text(document, "docker_url")
    updated = _at(document, "updated_tags")
    for tag in updated if isinstance(updated, list | dict) else ():
        if isinstance(tag, str):
            yield Push(_text(document, "repository"), tag, _host(url))


def _github(document: object, headers: Mapping[str, str]) -> Iterator[Push]:
    """Packages of the container registry; the event's kind stands in a header, and names its key."""
    kind = headers.get("X-GitHub-Event", "")
    if kind not in _GITHUB_PACKAGES:
        return
    package = _at(document, kind)
    tag = _text(package, "package_version", "container_metadata", "tag", "name")
    owner = _text(package, "namespace") or _text(package, "owner", "login")
    if _text(package, "package_type").lower() in ("container", "docker") and tag:
        yield Push(f"{owner}/{_text(package, 'name')}".lower(), tag, "ghcr.io")


_SENDERS: Mapping[str, Callable[[object, Mapping[str, str]], Iterable[Push]]] = {
    "plain": _plain,
    "distribution": _distribution,
    "harbor": _harbor,
    "dockerhub": _dockerhub,
    "quay": _quay,
    "github": _github,
}


def _host(reference: str) -> str:
    """The host of `host/name`; empty when it is none."""
    first, slash, _ = reference.partition("/")
    try:
        return parse_host(first) if slash else ""
    except InvalidName:
        return ""


def _at(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: object, *keys: str) -> str:
    found = _at(value, *keys)
    return found if isinstance(found, str) else ""


def _items(value: object, *keys: str) -> list[object]:
    found = _at(value, *keys)
    return found if isinstance(found, list) else []
