"""Errors of HTTP in ocisync's words: what a connection's failure or an answer's status means. Pure.

No message holds a query, a token or a control character.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import socket
import ssl
from collections.abc import Iterable
from http.client import HTTPException, RemoteDisconnected

import aiohttp
from yarl import URL

from ocisync.content.transfer.pool import CannotConnect, ProxyRefused
from ocisync.errors import (
    AuthError,
    Handling,
    NetworkError,
    NotFound,
    OcisyncError,
    RateLimited,
    RegistryError,
    Stalled,
    TlsError,
    Truncated,
)
from ocisync.stores.registry.http.hosts import safe_url
from ocisync.stores.registry.http.policy import RETRIED

_LONGEST = 300  # characters of a server's words in a message
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")  # OpenSSL's words for no handshake at all
_SNIFFED = 2048  # bytes that tell what a body is
_MARKUP = re.compile(
    rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body|\?xml[^>]*>\s*<!doctype\s+html)", re.IGNORECASE
)
_WARNING_TEXT = re.compile(r'\b299\s+\S+\s+"((?:[^"\\]|\\.)*)"')
_LONGEST_WARNINGS = 4096  # characters
_TITLE = re.compile(rb"<title[^>]*>\s*([^<]{1,200})", re.IGNORECASE)


def network_error(exc: Exception, method: str, url: URL) -> OcisyncError:
    """What a failed connection or transfer is to ocisync."""
    where = f"{method} {safe_url(url)}"
    if (refused := _tls_error(exc, where, url)) is not None:
        return refused
    if isinstance(exc, CannotConnect | HTTPException):
        return _bulk_error(exc, where, url)
    if isinstance(exc, aiohttp.SocketTimeoutError):
        return Stalled(f"{where}: no byte came within the idle time-out", host=url.host)
    if isinstance(exc, TimeoutError):
        return NetworkError(f"{where}: no connection within the time-out", host=url.host)
    if isinstance(exc, aiohttp.ClientPayloadError):
        return Truncated(f"{where}: the body ended too early", host=url.host)
    if isinstance(exc, aiohttp.ClientHttpProxyError | ProxyRefused):
        return _proxy_refusal(exc.status, where, url)
    if isinstance(exc, aiohttp.ClientConnectorDNSError | socket.gaierror):
        advice = "check its spelling, and this machine's DNS"
        return NetworkError(f"{where}: the name {url.host} was not found; {advice}", host=url.host)
    if isinstance(exc, aiohttp.ClientConnectorError):
        proxy = f"{exc.host}:{exc.port}" if isinstance(exc, aiohttp.ClientProxyConnectionError) else ""
        return _connection_error(exc, proxy, where, url)
    if isinstance(exc, aiohttp.ClientResponseError):
        return NetworkError(f"{where}: the answer is not HTTP: {_reason(exc)}", host=url.host)
    return NetworkError(f"{where}: {_reason(exc)}", host=url.host)


def refusal(method: str, url: URL, status: int, body: bytes, *, retry_after: str | None = None) -> OcisyncError:
    """The error of an answer whose status is not among those that were hoped for."""
    said = find_words(body)
    text = f"{method} {safe_url(url)}: status {status}" + (f" ({said})" if said else "")
    if status == 403 and retry_after is not None:  # GitHub's way to ask for fewer requests
        status = 429
    if status in (401, 403):
        advice = "check that the repository exists and that the credentials allow this"
        return AuthError(f"{text}; {advice}", host=url.host, status=status)
    if status == 404:
        advice = "check repository and tag; some registries return 404 when you are not logged in"
        return NotFound(f"{text}; {advice}", host=url.host, status=status)
    if status == 429 or (status == 503 and retry_after is not None):
        advice = "the registry asks for fewer requests: log in, or lower its requests_per_second and concurrency"
        return RateLimited(f"{text}; {advice}", host=url.host, status=status)
    handling = Handling.RETRY if status in RETRIED else Handling.FAIL
    return RegistryError(text, handling=handling, host=url.host, status=status)


def make_printable(text: str, longest: int = _LONGEST) -> str:
    """A server's words, cut and without control characters."""
    return "".join(char if char.isprintable() else " " for char in text[:longest]).strip()


def find_words(body: bytes) -> str:
    """What a refusal's body says to people, in whichever of the usual forms.

    Registries answer with a list of `errors` whose `detail` is text or an object (distribution-spec, "Error Codes"),
    with one object (Docker Hub: `details`, GitLab: `message`, OAuth2: `error_description`), or with plain text. Proxies
    answer with a page of HTML, of which the title is told.
    """
    if is_web_page("", body):
        title = _TITLE.search(body[:_SNIFFED])
        return make_printable(f"a web page: {title[1].decode(errors='replace')}" if title else "a web page")
    try:
        document = json.loads(body.removeprefix(codecs.BOM_UTF8))
    except (ValueError, RecursionError):
        text = body.decode(errors="replace").strip()
        return make_printable(text) if text and "\ufffd" not in text else ""
    listed = document.get("errors") if isinstance(document, dict) else None
    items = listed[:3] if isinstance(listed, list) else [document]
    return make_printable("; ".join(filter(None, map(_error_words, items))))


def find_warnings(values: Iterable[str]) -> list[str]:
    """The texts of Warning headers that are meant for people (`299 - "text"`)."""
    found = [text for value in values for text in _WARNING_TEXT.findall(value[:_LONGEST_WARNINGS])]
    return [told for text in found if (told := make_printable(re.sub(r"\\(.)", r"\1", text)))]


def is_web_page(media_type: str, body: bytes) -> bool:
    """Whether a body is HTML, by its type or its first bytes: what a sign-in page or a wrong host answers."""
    if media_type in ("text/html", "application/xhtml+xml"):
        return True
    return bool(_MARKUP.match(body[:_SNIFFED]))


def check_not_web_page(url: URL, media_type: str, body: bytes) -> None:
    """Refuse a page of HTML where a registry's answer should be; what is said to be JSON is not looked into.

    Raises:
        RegistryError: it is one.
    """
    if "json" not in media_type and is_web_page(media_type, body):
        raise RegistryError(
            f"{safe_url(url)}: answers with a web page (HTML), so it is not a registry, or something before it wants a "
            f"login ({find_words(body)}); check host and path, and whether a proxy is in the way",
            host=url.host,
        )


def _error_words(item: object) -> str:
    """`CODE: message (detail)` of one error."""
    if isinstance(item, str):
        return item[:_LONGEST]
    if not isinstance(item, dict):
        return ""
    code = _text(item.get("code")) or _text(item.get("error"))
    message = _text(item.get("message")) or _text(item.get("error_description"))
    detail = _detail_words(item.get("detail") or item.get("details"))
    words = f"{code}: {message}" if code and message else code or message
    if not detail or detail in words:
        return words
    return f"{words} ({detail})" if words else detail


def _detail_words(detail: object) -> str:
    if isinstance(detail, dict) and (message := _text(detail.get("message"))):
        return message
    if isinstance(detail, dict | list):
        return json.dumps(detail, ensure_ascii=False)[:200] if detail else ""
    return _text(detail)


def _text(value: object) -> str:
    return value[:200].strip() if isinstance(value, str) else ""


def _tls_error(exc: Exception, where: str, url: URL) -> TlsError | None:
    """What went wrong with TLS, if that did."""
    if _is_plain_http(exc):
        advice = "set `plain_http: true` for this host, or give --tls-verify=false"
        return TlsError(f"{where}: the server speaks no TLS; if it is meant to be plain HTTP, {advice}", host=url.host)
    if _is_certificate(exc):
        reason = _reason(exc)
        is_timely = not any(word in reason for word in ("expired", "not yet valid"))
        advice = "trust its authority by `ca`" if is_timely else "have it renewed, or set this machine's clock by NTP"
        return TlsError(f"{where}: TLS refused: {reason}; {advice}", host=url.host)
    return None


def _bulk_error(exc: CannotConnect | HTTPException, where: str, url: URL) -> OcisyncError:
    """The same for connections whose bytes threads move."""
    if isinstance(exc, CannotConnect):
        return _connection_error(exc, f"{exc.proxy.host}:{exc.proxy.port}" if exc.proxy else "", where, url)
    if isinstance(exc, RemoteDisconnected):
        return NetworkError(f"{where}: the server closed the connection without an answer", host=url.host)
    reason = make_printable(str(exc) or type(exc).__name__)
    return NetworkError(f"{where}: the answer is not HTTP: {reason}", host=url.host)


def _connection_error(exc: OSError, proxy: str, where: str, url: URL) -> OcisyncError:
    """`proxy` is the place of the one that could not be reached, if it was one."""
    advice = "see that it runs, and that name and port are right"
    if proxy:
        proxy, advice = f" to the proxy {proxy}", "see that it runs, and correct `proxy` or the environment's"
    return NetworkError(f"{where}: cannot connect{proxy}: {_reason(exc)}; {advice}", host=url.host)


def _proxy_refusal(status: int, where: str, url: URL) -> OcisyncError:
    handling = Handling.RETRY if status in RETRIED else Handling.FAIL
    advice = "set the proxy's username and password" if status == 407 else f"it must allow CONNECT to {url.host}"
    text = f"{where}: the proxy refused with status {status}; {advice}"
    return NetworkError(text, handling=handling, host=url.host, status=status)


def _is_plain_http(exc: Exception) -> bool:
    """Whether a server answered a TLS handshake with something else, such as an error of HTTP."""
    cause = getattr(exc, "os_error", None) or exc.__cause__ or exc
    return isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS


def _is_certificate(exc: Exception) -> bool:
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return True
    cause = exc.__cause__ or getattr(exc, "os_error", None)
    broken = isinstance(exc, ssl.SSLEOFError) or isinstance(cause, ssl.SSLEOFError | ConnectionError)
    return isinstance(exc, aiohttp.ClientSSLError | ssl.SSLError) and not broken


def _reason(exc: Exception) -> str:
    inner = getattr(exc, "certificate_error", None) or getattr(exc, "os_error", None)
    if inner is None and isinstance(exc, ssl.SSLCertVerificationError):
        inner = exc
    if isinstance(inner, ssl.SSLCertVerificationError):  # its number is OpenSSL's, not the system's
        return make_printable(inner.verify_message)
    if isinstance(inner, OSError):
        plain = os.strerror(inner.errno) if inner.errno else ""  # the loop's own text repeats the address
        return make_printable(plain or inner.strerror or str(inner) or type(inner).__name__)
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return "the server closed the connection without an answer"
    if isinstance(exc, aiohttp.ClientResponseError):
        return make_printable(exc.message)
    if isinstance(exc, OSError) and exc.strerror:
        return make_printable(exc.strerror)
    return make_printable(f"the connection broke ({type(exc).__name__})")
