"""Which scopes are asked for, and which when those are refused."""

import pytest

from ocisync.stores.registry.auth.scopes import DELETE, PULL, PUSH, Grant, choose_scopes

OWN_PULL, OWN_PUSH, OWN_DELETE = (f"repository:a/b:{actions}" for actions in (PULL, PUSH, DELETE))


@pytest.mark.parametrize(
    ("grant", "named", "is_read", "choices"),
    [
        (Grant("a/b"), "", True, [(OWN_PULL,)]),
        (Grant("a/b"), OWN_PULL, True, [(OWN_PULL,)]),
        # a look into a target: all that a push needs, else the look alone
        (Grant("a/b", PUSH), OWN_PULL, True, [(OWN_PUSH,), (OWN_PULL,)]),
        (Grant("a/b", PUSH), "", False, [(OWN_PUSH,)]),
        # Quay knows no `delete`
        (Grant("a/b", DELETE), OWN_PUSH, False, [(OWN_DELETE,), (OWN_PUSH,)]),
        # distribution names `delete` alone
        (
            Grant("a/b", DELETE),
            "repository:a/b:delete",
            False,
            [(OWN_DELETE,), (OWN_PUSH,), ("repository:a/b:delete",)],
        ),
        # a mount without the right to read the other repository is still a push
        (Grant("a/b", PUSH, "c"), "", False, [(OWN_PUSH, "repository:c:pull"), (OWN_PUSH,)]),
        # a proxy that knows the repository by another name
        (
            Grant("local/a"),
            "repository:a:pull",
            True,
            [("repository:local/a:pull", "repository:a:pull"), ("repository:local/a:pull",), ("repository:a:pull",)],
        ),
        (Grant("a/b"), "aws", True, [(OWN_PULL, "aws"), (OWN_PULL,), ("aws",)]),
        # more than is needed, for the same repository: only when ours is refused
        (Grant("a/b"), OWN_PUSH, True, [(OWN_PULL,), (OWN_PUSH,)]),
        (Grant(""), "", True, [("registry:catalog:*",)]),
    ],
)
def test_scopes_in_the_order_in_which_they_are_tried(
    grant: Grant, named: str, is_read: bool, choices: list[tuple[str, ...]]
) -> None:
    assert choose_scopes(grant, named, is_read=is_read, is_insufficient=False) == choices


def test_after_a_token_that_was_not_enough_what_is_named_goes_first() -> None:
    assert choose_scopes(Grant("a/b"), OWN_PUSH, is_read=True, is_insufficient=True)[0] == (OWN_PUSH,)
    assert choose_scopes(Grant("a/b"), OWN_PULL, is_read=True, is_insufficient=True) == [(OWN_PULL,)]
    named = "repository:a/b:pull,push registry:catalog:*"
    assert choose_scopes(Grant("a/b"), named, is_read=True, is_insufficient=True)[0] == tuple(named.split())
