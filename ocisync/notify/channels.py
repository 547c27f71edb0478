"""The ways to people: each sends one message, or raises."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, Protocol
from urllib.parse import unquote, urlsplit

import anyio
from anyio import to_thread

from ocisync import __version__
from ocisync.content.network.tls import system_context
from ocisync.errors import ConfigError, Handling, NetworkError, OcisyncError
from ocisync.logs import MASK
from ocisync.notify.events import Notice
from ocisync.notify.messages import as_json, as_mail, as_slack, as_teams, as_text, headline, sign

TIMEOUT = 30.0  # seconds for one attempt
_ANSWER = 300  # bytes of a refusal that are told
_PARTS_OF_URL = re.compile(r"[^/?&=]{4,}")  # that may be secret; shorter ones are words, or guessed anyway
_PASSING = frozenset({408, 425, 429})  # refusals that pass, beside 5xx

_TLS_ADVICE = {  # by words in the error's text
    "CERTIFICATE_VERIFY_FAILED": "Name the PEM file of its certificate authority as `ca`",
    "WRONG_VERSION_NUMBER": "It does not speak TLS from the start: write `tls: starttls`",
    "STARTTLS extension not supported": "Write `tls: tls` for a port that begins with TLS, or `tls: none`",
    "server ready message": "If its port begins with TLS, write `tls: tls`",
}


class NotifyError(OcisyncError):
    """A message was not taken."""

    code = "notify.failed"
    handling = Handling.RETRY


class Channel(Protocol):
    """A way to people."""

    async def send(self, notices: Sequence[Notice], host: str) -> None:
        """Send one message; `host` is where this daemon runs.

        Raises:
            OcisyncError: it was not taken; worth trying again if it is retryable.
        """
        ...


@dataclass(frozen=True, slots=True)
class WebhookChannel:
    """POSTs JSON: ocisync's own, signed where there is a secret, or what Slack or Teams take."""

    url: str = field(repr=False)
    format: Literal["webhook", "slack", "teams"] = "webhook"
    secret: str = field(default="", repr=False)

    async def send(self, notices: Sequence[Notice], host: str) -> None:
        """Any 2xx is a success. Redirects are not followed: the signed body is for this URL."""
        import aiohttp

        if self.format == "slack":
            body = as_slack(notices, host)
        elif self.format == "teams":
            body = as_teams(notices, host)
        else:
            body = as_json(notices, host, time.time())
        headers = {"Content-Type": "application/json", "User-Agent": f"ocisync/{__version__}"}
        if self.format == "webhook":
            headers |= {"X-Ocisync-Event": "notify", "X-Ocisync-Delivery": str(uuid.uuid4())}
        if self.secret:
            headers["X-Ocisync-Signature-256"] = sign(body, self.secret)
        connector = aiohttp.TCPConnector(ssl=system_context() if self.url.startswith("https:") else True)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=True,
                ) as session,
                session.post(self.url, data=body, headers=headers, allow_redirects=False) as reply,
            ):
                if not 200 <= reply.status < 300:
                    told = " ".join((await reply.content.read(_ANSWER)).decode(errors="replace").split())
                    told = _mask_place(told, self.url)
                    raise NotifyError(f"answered {reply.status}: {told}", handling=_handling(reply.status))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            raise NetworkError(f"cannot be reached: {type(exc).__name__}") from exc  # its text may show the URL


@dataclass(frozen=True, slots=True)
class MailChannel:
    """Sends mail through a server."""

    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    tls: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    password: str = field(default="", repr=False)
    authorities: Path | None = None  # a PEM file; None: the system's

    async def send(self, notices: Sequence[Notice], host: str) -> None:
        """One mail to all recipients."""
        import aiosmtplib

        mail = as_mail(notices, host, self.sender, self.recipients)
        try:
            # Not `system_context`, which offers HTTP by ALPN: a mail server may refuse that.
            context = None if self.tls == "none" else ssl.create_default_context(cafile=self.authorities)
            await aiosmtplib.send(
                mail,
                hostname=self.host,
                port=self.port,
                username=self.username or None,
                password=self.password or None,
                use_tls=self.tls == "tls",
                start_tls=self.tls == "starttls",
                tls_context=context,
                timeout=TIMEOUT,
            )
        except aiosmtplib.SMTPResponseException as exc:
            handling = Handling.FAIL if exc.code >= 500 else Handling.RETRY
            raise NotifyError(f"answered {exc.code}: {exc.message[:_ANSWER]}", handling=handling) from exc
        except aiosmtplib.SMTPRecipientsRefused as exc:
            refused = ", ".join(f"{one.recipient}: {one.code} {one.message}" for one in exc.recipients)
            raise NotifyError(f"recipients were refused: {refused[:_ANSWER]}", handling=Handling.FAIL) from exc
        except (aiosmtplib.SMTPException, OSError, ValueError) as exc:
            raise NetworkError(f"{self.host}:{self.port}: no mail was taken: {exc}{_advise_tls(str(exc))}") from exc


@dataclass(frozen=True, slots=True)
class CommandChannel:
    """Runs a command, without a shell, that gets the document of a webhook on its standard input."""

    command: tuple[str, ...]

    async def send(self, notices: Sequence[Notice], host: str) -> None:
        """Exit status 0 is a success."""
        body = as_json(notices, host, time.time())
        try:
            with anyio.fail_after(TIMEOUT):
                status, told = await self._run(body)
        except TimeoutError as exc:
            raise NotifyError(f"{self.command[0]}: it did not end within {TIMEOUT:g} seconds") from exc
        except OSError as exc:
            raise NotifyError(f"{self.command[0]}: it cannot be run: {exc.strerror}", handling=Handling.FAIL) from exc
        if status:
            raise NotifyError(f"{self.command[0]}: exit status {status}: {told}")

    async def _run(self, body: bytes) -> tuple[int, str]:
        """The exit status, and the end of what it said on standard error.

        Both are in files without a name: a command that does not read ends as it likes, and one that says much fills
        no memory.
        """
        with await to_thread.run_sync(_make_file, body) as document, await to_thread.run_sync(_make_file) as said:
            command, silent = list(self.command), subprocess.DEVNULL
            done = await anyio.run_process(command, stdin=document, stdout=silent, stderr=said, check=False)
            return done.returncode, await to_thread.run_sync(_read_end, said)


def _mask_place(text: str, url: str) -> str:
    """What a receiver said, without the parts of its URL: many name the path that was asked for, and that is secret."""
    parts = urlsplit(url)
    for part in sorted(_PARTS_OF_URL.findall(f"{parts.path}?{parts.query}"), key=len, reverse=True):
        for spelling in (part, unquote(part)):
            text = text.replace(spelling, MASK)
    return text


def _advise_tls(text: str) -> str:
    """What to change where a mail server and `tls` do not fit."""
    return next((f". {advice}" for sign, advice in _TLS_ADVICE.items() if sign in text), "")


def _make_file(body: bytes = b"") -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    file.write(body)
    file.seek(0)
    return file


def _read_end(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _ANSWER))
    return " ".join(file.read(_ANSWER).decode(errors="replace").split())


@dataclass(frozen=True, slots=True)
class AppriseChannel:
    """Whatever apprise knows, by its URL; needs the extra `ocisync[notify]`."""

    url: str = field(repr=False)

    async def send(self, notices: Sequence[Notice], host: str) -> None:
        """apprise does not tell why it failed, only that it did."""
        if not await to_thread.run_sync(self._send, headline(notices, host), as_text(notices)):
            raise NotifyError("apprise could not deliver it")

    def _send(self, title: str, text: str) -> bool:
        try:
            import apprise
        except ModuleNotFoundError as exc:
            raise ConfigError("apprise is not installed. Install ocisync[notify]") from exc
        service = apprise.Apprise()
        if not service.add(self.url):
            raise ConfigError("apprise does not know this kind of URL. See https://github.com/caronc/apprise")
        return bool(service.notify(title=title, body=text or title))


def _handling(status: int) -> Handling:
    return Handling.RETRY if status >= 500 or status in _PASSING else Handling.FAIL
