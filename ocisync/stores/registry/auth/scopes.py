"""What a request needs to be allowed, and which scopes a token server is asked for. Pure.

Spec: distribution, "Token Scope Documentation".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

PULL, PUSH, DELETE = "pull", "pull,push", "pull,push,delete"
NOTHING = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request needs to be allowed."""

    repository: str  # "" for the list of all repositories; without actions, for a look whether a login is right
    actions: str = PULL
    also_from: str = ""  # another repository that is read in the same request

    @property
    def scopes(self) -> tuple[str, ...]:
        """As a token server is asked for it."""
        if not self.repository:
            return ("registry:catalog:*",) if self.actions else ()
        own = f"repository:{self.repository}:{self.actions}"
        return (own, f"repository:{self.also_from}:{PULL}") if self.also_from else (own,)


def choose_scopes(grant: Grant, named: str, *, is_read: bool, is_insufficient: bool) -> list[tuple[str, ...]]:
    """The scopes to ask for, in the order in which to try them when a token server refuses one.

    `named` is the challenge's own `scope`. It is heeded at once where it is for something else than what was asked for:
    registries behind proxies know a repository by another name, and some want a scope of their own kind beside it. For
    the same repository our own scope goes first, because challenges often name more than a request needs. After a token
    that was not enough (`is_insufficient`) what is named is asked for first.

    Smaller scopes follow: token servers refuse a scope that has one action they do not know (Quay: `delete`), or one
    that the account does not have. A look into a repository (`is_read`) is content with `pull`.
    """
    own = grant.scopes
    resources = {_resource(scope) for scope in own}
    extra = tuple(scope for scope in named.split() if scope not in own)
    others = tuple(scope for scope in extra if _resource(scope) not in resources)
    choices = [(*own, *others)]
    if is_insufficient and extra:
        choices.insert(0, (*(scope for scope in own if not _is_widened(scope, extra)), *extra))
    choices += [own, replace(grant, also_from="").scopes]
    if grant.repository and grant.actions == DELETE:
        choices.append(Grant(grant.repository, PUSH).scopes)
    if grant.repository and is_read:
        choices.append(Grant(grant.repository, PULL).scopes)
    if extra:
        choices.append(tuple(named.split()))
    return list(dict.fromkeys(choices))


def _resource(scope: str) -> str:
    """Type and name of a scope, without its actions."""
    return scope.rpartition(":")[0] or scope


def _is_widened(scope: str, extra: Sequence[str]) -> bool:
    return any(_resource(scope) == _resource(other) for other in extra)
