"""Retry, pause, redirect and realm as tables; FAULTS 7, 8, 12, 15, 16, 17."""

from email.utils import formatdate

import pytest
from yarl import URL

from ocisync.errors import AuthError, RedirectRefused
from ocisync.stores.registry.http.errors import refusal
from ocisync.stores.registry.http.hosts import endpoint, is_internal_only, is_plain_http, safe_url, same_origin
from ocisync.stores.registry.http.policy import (
    check_realm,
    redirect_target,
    resolve_location,
    retry_after,
    same_site,
    server_time,
    upload_location,
)
from ocisync.stores.registry.options import RegistryOptions

NOW = 1_700_000_000.0
REGISTRY = URL("https://registry.example.com")


NO_DATES = ("Fri, 31 Dec 99999999999 23:59:59 GMT", "Fri, 31 Dec 2027 23:59:59 +99999999999999999999")  # no C int


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 1.0),
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-7", 0.0),
        ("86400", 300.0),
        ("9" * 400, 300.0),
        (formatdate(NOW + 20, usegmt=True), 20.0),
        (formatdate(NOW - 20, usegmt=True), 0.0),
        (formatdate(NOW + 1e6, usegmt=True), 300.0),
        ("soon", 1.0),
        ("", 1.0),
        ("1.5.2", 1.0),
        ("1.5", 1.5),
        ("20s", 20.0),
        ("2m", 120.0),
        ("706.946µs, allowed: 44000/minute", 0.000706946),  # GHCR
        ("12 parsecs", 1.0),
        ("²", 1.0),
        ("Fri, 99 Foo 2023 99:99:99 GMT", 1.0),
    ],
)
def test_fault_15_retry_after_in_every_form(value: str | None, seconds: float) -> None:
    assert retry_after(value, NOW, 300.0) == seconds


def test_fault_61_a_date_is_taken_by_the_hosts_clock_not_ours() -> None:
    theirs = formatdate(NOW + 7200, usegmt=True)
    assert server_time(theirs, NOW) == NOW + 7200
    assert retry_after(formatdate(NOW + 7220, usegmt=True), server_time(theirs, NOW), 300.0) == 20.0
    assert [server_time(date, NOW) for date in (None, "", "yesterday", *NO_DATES)] == [NOW] * 5


@pytest.mark.parametrize(
    ("status", "retried"),
    [(status, True) for status in (408, 429, 499, 500, 502, 503, 504, 522)]
    + [(status, False) for status in (400, 401, 403, 404, 405, 409, 410, 416, 501, 505)],
)
def test_fault_16_which_statuses_are_retried(status: int, retried: bool) -> None:
    assert refusal("GET", REGISTRY, status, b"").retryable is retried


@pytest.mark.parametrize(("status", "given", "code"), [(503, None, "registry.error"), (503, "5", "limit.rate")])
def test_a_503_is_a_rate_limit_only_when_it_asks_for_a_pause(status: int, given: str | None, code: str) -> None:
    assert refusal("GET", REGISTRY, status, b"", retry_after=given).code == code


def test_a_refusal_quotes_the_registry_within_bounds() -> None:
    body = b'{"errors": [{"code": "DENIED\\u0007", "message": "' + b"x" * 5000 + b'"}]}'
    message = refusal("GET", URL("https://r.example/v2/?sig=s3cr3t"), 400, body).message
    assert "DENIED : xxx" in message
    assert len(message) < 500
    assert "s3cr3t" not in message


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"errors": {}}', b'{"errors": [1, {"code": 2}]}', b"[" * 99_999])
def test_a_refusal_needs_no_error_document(body: bytes) -> None:
    assert "status 400" in refusal("GET", REGISTRY, 400, body).message


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/v2/x", "https://registry.example.com/v2/x"),
        ("?a=b%2Fc", "https://registry.example.com/v2/blob?a=b%2Fc"),
        ("//cdn.example.net/x", "https://cdn.example.net/x"),
        ("https://cdn.example.net/x?sig=a%2Bb%3D&c=+", "https://cdn.example.net/x?sig=a%2Bb%3D&c=+"),
        ("https://cdn.example.net/x#part", "https://cdn.example.net/x"),
    ],
)
def test_a_redirect_is_followed_to_the_letter(location: str, target: str) -> None:
    assert str(redirect_target("GET", 307, URL("https://registry.example.com/v2/blob"), location)) == target


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "http://registry.example.com/",
        "ftp://registry.example.com/",
        "file:///etc/passwd",
        "data:,x",
        "https://169.254.169.254/latest",
        "https://[fe80::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://metadata.google.internal/",
        "https://0.0.0.0/",
        "https://[/",
        "https://host:99999/",
    ],
)
def test_fault_08_a_redirect_that_must_not_be_followed(location: str | None) -> None:
    with pytest.raises(RedirectRefused):
        redirect_target("GET", 302, REGISTRY, location)


@pytest.mark.parametrize(
    ("method", "status", "allowed"), [("PUT", 302, False), ("POST", 303, False), ("POST", 307, True)]
)
def test_fault_08_a_redirect_never_changes_a_method(method: str, status: int, allowed: bool) -> None:
    if allowed:
        assert redirect_target(method, status, REGISTRY, "/there")
    else:
        with pytest.raises(RedirectRefused):
            redirect_target(method, status, REGISTRY, "/there")


@pytest.mark.parametrize(
    ("current", "location", "target"),
    [
        ("https://r.example/v2/", "http://r.example/v2/u?_state=a%2Fb", "https://r.example/v2/u?_state=a%2Fb"),
        ("https://r.example:5443/v2/", "http://r.example/u", "https://r.example:5443/u"),
        ("https://r.example:5443/v2/", "http://r.example:5443/u", "https://r.example:5443/u"),
        ("https://r.example/v2/", "https://r.example:444/u", "https://r.example:444/u"),
        ("https://r.example/v2/", "/u", "https://r.example/u"),
        ("https://r.example/v2/x/", "r.example/u", "https://r.example/u"),
        ("https://r.example:5000/v2/x/", "r.example:5000/u", "https://r.example:5000/u"),
        ("http://r.example/v2/", "http://r.example/u", "http://r.example/u"),
        ("https://r.example/v2/", "/u?name=a b\u00e4", "https://r.example/u?name=a%20b%C3%A4"),
    ],
)
def test_where_an_upload_goes_on(current: str, location: str, target: str) -> None:
    assert str(upload_location(URL(current), location)) == target


@pytest.mark.parametrize(
    "location", ["http://other.example/u", "http://r.example:8080/u", "http://[/u", "ftp://r.example/u"]
)
def test_fault_08_an_upload_never_goes_on_without_tls(location: str) -> None:
    with pytest.raises(RedirectRefused):
        upload_location(URL("https://r.example/v2/"), location)


def test_plain_http_may_lead_to_either() -> None:
    for target in ("http://other.example/", "https://other.example/"):
        assert str(resolve_location(URL("http://registry.example.com/"), target)) == target


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example", "https://a.example/path?q", True),
        ("https://a.example", "https://a.example:443", True),
        ("https://a.example", "https://A.EXAMPLE", True),
        ("https://a.example", "https://a.example:444", False),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://b.a.example", False),
    ],
)
def test_fault_07_an_origin_is_scheme_host_and_port(one: str, other: str, same: bool) -> None:
    assert same_origin(URL(one), URL(other)) is same


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("docker.io", "https://auth.docker.io/token"),
        ("ghcr.io", "https://ghcr.io/token"),
        ("lscr.io", "https://ghcr.io/token"),
        ("quay.io", "https://quay.io/v2/auth"),
        ("registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("registry.example.com:5050", "https://gitlab.example.com/jwt/auth"),
        ("registry.example.co.uk", "https://auth.example.co.uk/token"),
        ("me.azurecr.io", "https://me.azurecr.io/oauth2/token"),
        ("trusted.example.net", "https://token.elsewhere.test/token"),
        ("127.0.0.1:5000", "http://localhost:5001/token"),
        ("localhost:5000", "https://localhost:5001/token"),
    ],
)
def test_fault_12_realms_that_may_have_credentials(registry: str, realm: str) -> None:
    allowed = ["token.elsewhere.test"] if registry == "trusted.example.net" else []
    assert check_realm(realm, endpoint(registry, RegistryOptions()), registry, allowed, is_secret=True)


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("docker.io", "https://auth.docker.io.evil.test/token"),
        ("docker.io", "http://auth.docker.io/token"),
        ("docker.io", "https://user:pw@auth.docker.io/token"),
        ("registry.example.com", "https://evil.test/token"),
        ("registry.example.co.uk", "https://auth.other.co.uk/token"),
        ("me.azurecr.io", "https://you.azurecr.io/token"),
        ("me.github.io", "https://you.github.io/token"),
        ("registry.example.com", "http://registry.example.com/token"),
        ("registry.example.com", "https://169.254.169.254/token"),
        ("registry.example.com", "https://metadata.google.internal/token"),
        ("registry.example.com", "https://127.0.0.1/token"),
        ("registry.example.com", "//elsewhere.test/token"),
        ("registry.example.com", "token"),
        ("registry.example.com", "ftp://registry.example.com/token"),
        ("registry.example.com", "https://[/token"),
        ("10.0.0.1:5000", "https://10.0.0.2/token"),
        ("127.0.0.1:5000", "http://registry.example.com/token"),
        ("com", "https://example.com/token"),
    ],
)
def test_fault_12_realms_that_get_nothing(registry: str, realm: str) -> None:
    with pytest.raises(AuthError) as caught:
        check_realm(realm, endpoint(registry, RegistryOptions()), registry, [], is_secret=True)
    assert caught.value.code == "auth.realm"


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("docker.n8n.io", "https://auth.docker.io/token"),  # a vanity host in front of Docker Hub
        ("cr.fluentbit.io", "https://ghcr.io/token"),
        ("registry.example.com", "https://elsewhere.test/token"),
    ],
)
def test_fault_12_whoever_has_nothing_secret_to_show_may_ask_on_any_site(registry: str, realm: str) -> None:
    assert check_realm(realm, endpoint(registry, RegistryOptions()), registry, [], is_secret=False) == URL(realm)
    with pytest.raises(AuthError, match="list its host under `realms`"):
        check_realm(realm, endpoint(registry, RegistryOptions()), registry, [], is_secret=True)


@pytest.mark.parametrize(
    "realm",
    [
        "http://elsewhere.test/token",
        "https://169.254.169.254/token",
        "https://metadata.google.internal/token",
        "https://user:pw@elsewhere.test/token",
        "ftp://elsewhere.test/token",
        "token",
    ],
)
def test_fault_12_also_without_a_secret_no_internal_or_unprotected_realm_is_asked(realm: str) -> None:
    with pytest.raises(AuthError) as caught:
        check_realm(realm, REGISTRY, "registry.example.com", [], is_secret=False)
    assert caught.value.code == "auth.realm"


def test_a_realm_without_a_scheme_has_that_of_the_registry_and_the_same_checks() -> None:
    realm = check_realm("null://registry.example.com/v2/token", REGISTRY, "registry.example.com", [], is_secret=True)
    assert str(realm) == "https://registry.example.com/v2/token"
    with pytest.raises(AuthError):
        check_realm("null://elsewhere.test/v2/token", REGISTRY, "registry.example.com", [], is_secret=True)


def test_a_realm_that_is_a_path_is_one_of_the_registry_itself() -> None:
    realm = check_realm("/service/token?a=b", REGISTRY, "registry.example.com", [], is_secret=True)
    assert str(realm) == "https://registry.example.com/service/token?a=b"


def test_fault_12_a_registry_configured_without_tls_may_have_its_realm_on_itself_without_tls() -> None:
    plain = URL("http://harbor.inner:8080")
    assert check_realm("http://harbor.inner:8080/service/token", plain, "harbor.inner:8080", [], is_secret=True)
    with pytest.raises(AuthError):
        check_realm("http://other.inner/service/token", plain, "harbor.inner:8080", ["other.inner"], is_secret=True)


def test_a_realm_never_shows_its_query_or_control_characters() -> None:
    with pytest.raises(AuthError) as caught:
        check_realm("https://evil.test/\x1b[31m?secret=1", REGISTRY, "registry.example.com", [], is_secret=True)
    assert "secret" not in caught.value.message
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a.example.com", "b.example.com", True),
        ("example.com", "a.example.com", True),
        ("a.example.com", "example.org", False),
        ("10.0.0.1", "11.0.0.1", False),
        ("::1", "127.0.0.1", True),
        ("a", "b", False),
        ("a.com.au", "b.com.au", False),
        ("x.s3.amazonaws.com", "y.s3.amazonaws.com", False),
    ],
)
def test_sites(one: str, other: str, same: bool) -> None:
    assert same_site(one, other) is same


@pytest.mark.parametrize(
    ("host", "options", "url"),
    [
        ("docker.io", RegistryOptions(), "https://registry-1.docker.io"),
        ("ghcr.io", RegistryOptions(), "https://ghcr.io"),
        ("localhost:5000", RegistryOptions(), "http://localhost:5000"),
        ("127.0.0.1:5000", RegistryOptions(insecure_tls=True), "https://127.0.0.1:5000"),
        ("127.0.0.1", RegistryOptions(plain_http=False), "https://127.0.0.1"),
        ("[::1]:5000", RegistryOptions(), "http://[::1]:5000"),
        ("10.0.0.1:5000", RegistryOptions(), "https://10.0.0.1:5000"),
        ("10.0.0.1:5000", RegistryOptions(plain_http=True), "http://10.0.0.1:5000"),
    ],
)
def test_where_a_host_answers(host: str, options: RegistryOptions, url: str) -> None:
    assert endpoint(host, options) == URL(url)
    assert is_plain_http(host, options) is url.startswith("http:")


@pytest.mark.parametrize(
    "name", ["169.254.1.1", "fe80::1%eth0", "::ffff:169.254.169.254", "224.0.0.1", "0.0.0.0", "METADATA"]
)
def test_internal_addresses(name: str) -> None:
    assert is_internal_only(name)


@pytest.mark.parametrize("name", ["fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200", "192.0.0.192"])
def test_addresses_where_clouds_tell_credentials(name: str) -> None:
    assert is_internal_only(name)


@pytest.mark.parametrize(
    "name",
    [
        "2852039166",
        "0xA9FEA9FE",
        "0251.0376.0251.0376",
        "169.254.43518",
        "169.254.169.254.",
        "\uff11\uff16\uff19.254.169.254",  # digits of full width
        "[::ffff:a9fe:a9fe]",
        "::a9fe:a9fe",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "FD20:CE:0::254",
        "::",
        "0",
    ],
)
def test_internal_addresses_in_other_spellings(name: str) -> None:
    assert is_internal_only(name)


@pytest.mark.parametrize(
    "name", ["2130706433", "::ffff:10.0.0.1", "64:ff9b::808:808", "2002:808:808::1", "0x7f.1", "256.1.1.1"]
)
def test_other_addresses_in_other_spellings(name: str) -> None:
    assert not is_internal_only(name)


@pytest.mark.parametrize("name", ["127.0.0.1", "10.0.0.1", "::1", "example.com", "169.254.169.254.example.com"])
def test_other_addresses(name: str) -> None:
    assert not is_internal_only(name)


def test_a_shown_url_has_neither_query_nor_user() -> None:
    assert safe_url(URL("https://me:pw@host/v2/?sig=1#x")) == "https://host/v2/"
