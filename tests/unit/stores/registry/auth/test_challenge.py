"""WWW-Authenticate in all its shapes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.stores.registry.auth.challenge import Challenge, best_challenge, parse_challenges

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"'
HUB_PARAMETERS = {
    "realm": "https://auth.docker.io/token",
    "service": "registry.docker.io",
    "scope": "repository:a/b:pull,push",
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (HUB, [("bearer", HUB_PARAMETERS)]),
        ('Basic realm="a, b"', [("basic", {"realm": "a, b"})]),
        ("basic", [("basic", {})]),
        ("Basic realm=plain", [("basic", {"realm": "plain"})]),
        ('BEARER  Realm = "x" , Service=y', [("bearer", {"realm": "x", "service": "y"})]),
        (r'Basic realm="say \"hi\" \\ there"', [("basic", {"realm": r'say "hi" \ there'})]),
        ('Basic realm="a", Bearer realm="b"', [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("Negotiate YWJj==, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("Bearer realm=https://a/token,service=s", [("bearer", {"realm": "https://a/token", "service": "s"})]),
        ('Bearer realm="a",,,service="b"', [("bearer", {"realm": "a", "service": "b"})]),
        ('Bearer realm="first",realm="second"', [("bearer", {"realm": "first"})]),
        ('Bearer realm="open', [("bearer", {})]),
        ("", []),
        (",,", []),
        ("=", []),
        ('"quoted"', []),
    ],
)
def test_challenges(value: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(one.scheme, one.parameters) for one in parse_challenges([value])] == expected


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        (['Basic realm="a"', HUB], "bearer"),
        (["Bearer service=x", "Basic realm=a"], "basic"),
        (["Negotiate"], None),
        ([], None),
    ],
)
def test_the_challenge_to_answer(values: list[str], scheme: str | None) -> None:
    found = best_challenge(values)
    assert (found.scheme if found else None) == scheme


@given(st.text(max_size=300))
def test_anything_is_parsed_without_a_crash(value: str) -> None:
    assert all(
        isinstance(one, Challenge) for one in parse_challenges([value, f"Bearer {value}", f'Basic realm="{value}'])
    )


def test_a_long_header_ends_quickly() -> None:
    for filling in ("a" * 10**6, "a=" * 10**6, '"' * 10**6, "a," * 10**6, "\\" * 10**6, " " * 10**6):
        parse_challenges([f"Bearer {filling}"])
