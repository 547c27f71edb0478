"""What an answer means for the next request: retry, pause, redirect, realm. Pure; tested as tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urljoin

from yarl import URL

from ocisync.errors import AuthError, RedirectRefused
from ocisync.stores.registry.http.hosts import is_internal_only, is_loopback, safe_url

# What may be better a moment later; 520 to 524 and 530 are a CDN's own words for an origin that gave no answer in time.
RETRIED = frozenset({408, 425, 429, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529, 530, 598, 599})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
DENIED = frozenset({401, 403, 404})  # what a registry answers who should show something else
BUSY = frozenset({429, 503})  # the whole host, not only this request
MAX_REDIRECTS = 10
REFUSED = frozenset(range(400, 600)) - {401, 404} - BUSY  # a look that was not allowed, not understood or that broke
_NO_WAIT_GIVEN = 1.0  # seconds of pause when a host says "too many requests" without saying for how long
_KNOWN_REALMS = {"lscr.io": ("ghcr.io",)}  # registries that are known to send clients to another site
_SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "gov", "net", "or", "org"})
_DURATION = re.compile(r"\s*([+-]?[0-9]+(?:\.[0-9]+)?)\s*(ns|us|µs|μs|ms|s|m|h)?\s*(?:,.*)?\Z")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}  # seconds
_ILLEGAL = re.compile(r"[^\x21-\x7e]+")  # in a URL
_SHARED_SUFFIXES = (  # below these every name belongs to somebody else
    "amazonaws.com", "amazonaws.com.cn", "appspot.com", "azurecr.io", "azurewebsites.net", "cloudapp.azure.com",
    "cloudfront.net", "code.run", "digitaloceanspaces.com", "duckdns.org", "fly.dev", "github.io", "gitlab.io",
    "herokuapp.com", "netlify.app", "ngrok.app", "ngrok.io", "onrender.com", "pages.dev", "pkg.dev", "run.app",
    "sslip.io", "nip.io", "vercel.app", "windows.net", "workers.dev",
)  # fmt: skip


def retry_after(value: str | None, now: float, longest: float) -> float:
    """Seconds a host asks to be left alone, from 0 to `longest`; `now` in seconds since the epoch, by the host's clock.

    Spec: RFC 9110, 10.2.3: a number of seconds or a date. Some write it as Go writes durations (`706.9µs, allowed: …`);
    anything else counts as absent.
    """
    if value is None:
        return min(_NO_WAIT_GIVEN, longest)
    try:
        if number := _DURATION.match(value):
            seconds = float(number[1]) * _UNITS[number[2] or "s"]
        else:
            seconds = parsedate_to_datetime(value).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        seconds = _NO_WAIT_GIVEN
    return max(0.0, min(seconds, longest))


def server_time(date: str | None, ours: float) -> float:
    """The moment of an answer by its Date header, since our own clock may be wrong; in seconds since the epoch."""
    try:
        return parsedate_to_datetime(date).timestamp() if date else ours
    except (ValueError, OverflowError):
        return ours


def redirect_target(method: str, status: int, current: URL, location: str | None) -> URL:
    """Where a redirect leads.

    Raises:
        RedirectRefused: no usable Location, https to http, another scheme, an internal address, or a changed method.
    """
    if not location:
        raise RedirectRefused(f"{safe_url(current)}: a redirect (status {status}) without a Location")
    if method not in ("GET", "HEAD") and status not in (307, 308):
        raise RedirectRefused(f"{safe_url(current)}: {method} was redirected with status {status}, which would drop it")
    return resolve_location(current, location)


def upload_location(current: URL, location: str) -> URL:
    """Where an upload goes on: a Location as `resolve_location` has it.

    A registry behind a proxy that ends TLS may not know it, and say http of its own host: then TLS is kept to, by the
    port that was asked.
    """
    if current.scheme != "https" or not location.strip().lower().startswith("http:"):
        return resolve_location(current, location)
    try:
        own = URL(location.strip(), encoded=True)
        is_own = own.host == current.host and own.port in (80, current.port)
    except ValueError:
        is_own = False
    return resolve_location(current, f"{current.origin()}{own.raw_path_qs}" if is_own else location)


def resolve_location(current: URL, location: str) -> URL:
    """A Location header's URL, its query untouched: signatures and upload states must survive.

    Raises:
        RedirectRefused: it cannot be parsed, or must not be followed.
    """
    location = _ILLEGAL.sub(lambda found: quote(found[0]), location.strip())
    if location.startswith(f"{current.raw_authority}/"):  # some leave out the scheme, and mean no path below ours
        location = f"{current.scheme}://{location}"
    try:
        target = URL(location, encoded=True)
        if not (target.scheme and target.raw_host):  # to join takes as long as all else here
            target = URL(urljoin(str(current), location), encoded=True)
        host, _ = target.host, target.port
    except ValueError as exc:
        raise RedirectRefused(f"{safe_url(current)}: sent us to something that is not a URL") from exc
    if target.scheme not in ("http", "https") or not host:
        raise RedirectRefused(f"{safe_url(current)}: sent us to the scheme {target.scheme[:20]!r}, not https or http")
    if current.scheme == "https" and target.scheme == "http":
        raise RedirectRefused(
            f"{safe_url(current)}: sent us from https to http ({safe_url(target)}); "
            "if it stands behind a proxy, let that set X-Forwarded-Proto"
        )
    if is_internal_only(host):
        raise RedirectRefused(f"{safe_url(current)}: sent us to the internal address {host}")
    return target.with_fragment(None)


def check_realm(realm: str, registry: URL, host: str, allowed: Sequence[str], *, is_secret: bool) -> URL:
    """The URL of a token server that may be asked: for `is_secret`, with this registry's credentials.

    `host` is the registry's name as configured; `allowed` are further hosts that its operator trusts. Who has nothing
    secret to show may ask on any site: vanity hosts in front of public registries name the token server of those.

    Raises:
        AuthError: `auth.realm`: another site for credentials, no TLS, or an internal address.
    """
    try:
        if realm.startswith("null://"):  # Nexus 3.77 behind a proxy that does not tell it the scheme
            realm = realm.replace("null", registry.scheme, 1)
        url = URL(urljoin(str(registry), realm) if realm.startswith("/") else realm)
        name = url.host or ""
    except ValueError:
        raise _realm_error(host, realm, "it is not a URL") from None
    if url.scheme not in ("https", "http") or not name or url.user is not None:
        raise _realm_error(host, realm, "it is not an http(s) URL")
    if is_internal_only(name):
        raise _realm_error(host, realm, "it is an internal address")
    if url.scheme == "http" and not _may_be_plain(name, registry):
        raise _realm_error(host, realm, "it is not https")
    trusted = {*allowed, *_KNOWN_REALMS.get(host, ())}
    if is_secret and name not in trusted and not same_site(name, registry.host or ""):
        raise _realm_error(host, realm, "it is on another site; if that is right, list its host under `realms`")
    return url.with_fragment(None)


def same_site(one: str, other: str) -> bool:
    """Whether two host names belong to one owner, as far as their spelling shows."""
    if one == other or (is_loopback(one) and is_loopback(other)):
        return True
    return _site(one) == _site(other)


def _may_be_plain(realm_host: str, registry: URL) -> bool:
    if registry.scheme != "http":
        return False
    return realm_host == registry.host or (is_loopback(realm_host) and is_loopback(registry.host or ""))


def _site(host: str) -> str:
    labels = host.lower().rstrip(".").split(".")
    if labels[-1].isdigit() or ":" in host or len(labels) < 3:
        return ".".join(labels)
    for suffix in _SHARED_SUFFIXES:
        if host.endswith("." + suffix):
            return host
    deep = len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL
    return ".".join(labels[-3:] if deep else labels[-2:])


def _realm_error(host: str, realm: str, why: str) -> AuthError:
    place = realm.partition("?")[0][:200]
    printable = "".join(char if char.isprintable() else "?" for char in place)
    return AuthError(
        f"{host}: no credentials were sent to the token server {printable!r}, because {why}",
        code="auth.realm",
        host=host,
    )
