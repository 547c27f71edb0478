"""What token servers answer."""

import pytest
from yarl import URL

from ocisync.errors import AuthError
from ocisync.stores.registry.auth.docker_config import Credential
from ocisync.stores.registry.auth.scopes import Grant
from ocisync.stores.registry.auth.tokens import Realm, list_ways, parse_token

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REALM = Realm(URL("https://auth.example/token?kept=1"), "registry.example")


@pytest.mark.parametrize(
    ("raw", "header", "life"),
    [
        (b'{"token": "t", "expires_in": 300}', "Bearer t", 270.0),
        (b'{"access_token": "a", "expires_in": 100}', "Bearer a", 90.0),
        (b'{"token": "t", "access_token": "a"}', "Bearer t", 54.0),
        (b'{"token": "t", "expires_in": 0}', "Bearer t", 54.0),
        (b'{"token": "t", "expires_in": -1}', "Bearer t", 54.0),
        (b'{"token": "t", "expires_in": "300"}', "Bearer t", 270.0),
        (b'{"token": "t", "expires_in": "soon"}', "Bearer t", 54.0),
        (b'{"token": "t", "expires_in": "nan"}', "Bearer t", 54.0),
        (b'{"token": "t", "expires_in": 1e300}', "Bearer t", 54.0),
        (b'{"token": "t", "expires_in": NaN}', "Bearer t", 54.0),
        (b'{"token": "t", "issued_at": "1970-01-01T00:00:00Z", "expires_in": 100}', "Bearer t", 90.0),
    ],
)
def test_tokens(raw: bytes, header: str, life: float) -> None:
    token = parse_token(raw, REALM, 1000.0)
    assert token.header == header
    assert token.expires == pytest.approx(1000.0 + life)
    assert header not in repr(token)


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b'{"token": ""}', b'{"token": 1}', b'{"token": "a\\nb"}', '{"token": "ä"}'.encode(), b"\xff"],
)
def test_what_is_no_token(raw: bytes) -> None:
    with pytest.raises(AuthError, match="holds no token"):
        parse_token(raw, REALM, 0.0)


def test_a_password_is_shown_by_get_and_every_scope_is_asked_for() -> None:
    scopes = Grant("a/b", "pull,push", also_from="c").scopes
    way, form = list_ways(REALM, scopes, Credential("me", "pw"))
    assert (way.method, way.body) == ("GET", None)
    assert way.url.query.getall("scope") == ["repository:a/b:pull,push", "repository:c:pull"]
    query = dict(way.url.query) | {"scope": ""}
    assert query == {"kept": "1", "service": "registry.example", "scope": "", "account": "me"}
    assert way.headers == {"Authorization": "Basic bWU6cHc="}
    assert (form.method, form.url, form.headers) == ("POST", REALM.url, FORM)
    assert form.body == (
        b"grant_type=password&client_id=ocisync&service=registry.example"
        b"&scope=repository%3Aa%2Fb%3Apull%2Cpush+repository%3Ac%3Apull&username=me&password=pw"
    )
    assert "pw" not in repr(form)


def test_anonymous_shows_nothing() -> None:
    (way,) = list_ways(REALM, ("s",), Credential())
    assert way.headers == {}
    assert "account" not in way.url.query


def test_an_identity_token_is_posted_and_stays_out_of_the_url() -> None:
    (way,) = list_ways(REALM, ("s1", "s2"), Credential("u", "", "r3fr3sh"))
    assert (way.method, way.url, way.headers) == ("POST", REALM.url, FORM)
    assert way.body == (
        b"grant_type=refresh_token&client_id=ocisync&service=registry.example&scope=s1+s2&refresh_token=r3fr3sh"
    )
    assert [one.method for one in list_ways(REALM, ("s",), Credential("u", "pw", "r3fr3sh"))] == ["POST", "GET"]
