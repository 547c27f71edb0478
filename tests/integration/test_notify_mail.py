"""Mail over TLS: STARTTLS and TLS from the start, with a certificate authority of our own; who is not trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from ocisync.errors import OcisyncError
from ocisync.notify.channels import MailChannel, NotifyError
from ocisync.notify.events import FAILURE, Notice
from tests.servers.command import run_ocisync
from tests.servers.mail import MailServer, mail_server
from tests.servers.tls import Certificate, make_certificate

NOTICE = Notice(FAILURE, "rule app", "app", "Rule app", "the credentials were refused", 1.0, "auth.denied")
Tls = Literal["starttls", "tls", "none"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def channel(
    server: MailServer, tls: Tls, authorities: Path | None = None, recipient: str = "ops@x.example", **login: str
) -> MailChannel:
    return MailChannel(
        "localhost", server.port, "ocisync@x.example", (recipient,), tls, authorities=authorities, **login
    )


async def test_mail_is_sent_and_a_wrong_recipient_is_told() -> None:
    with mail_server() as server:
        await channel(server, "none").send([NOTICE], "farm")
        with pytest.raises(NotifyError, match="no such user"):
            await channel(server, "none", recipient="nobody@x.example").send([NOTICE], "farm")
    [mail] = server.mails
    assert "To: ops@x.example" in mail
    assert "the credentials were refused [auth.denied]" in mail


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_mail_and_login_are_encrypted(tls: Tls, certificate: Certificate) -> None:
    with mail_server(certificate, is_implicit=tls == "tls") as server:
        sender = channel(server, tls, certificate.authority, username="me", password="pass")
        await sender.send([NOTICE], "farm")
        assert server.encrypted == [True]
        assert "the credentials were refused [auth.denied]" in server.mails[0]
        assert server.users == ["me:pass"]
        assert server.protocols == [None]  # HTTP, which other connections offer, is not offered here
        refused = channel(server, tls, certificate.authority, username="me", password="wrong")
        with pytest.raises(NotifyError, match="535") as caught:
            await refused.send([NOTICE], "farm")
        assert not caught.value.retryable
        assert len(server.mails) == 1


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_server_that_is_not_trusted_gets_nothing(tls: Tls, certificate: Certificate) -> None:
    with mail_server(certificate, is_implicit=tls == "tls") as server:
        with pytest.raises(OcisyncError, match=r"certificate verify failed.*Name the PEM file"):
            await channel(server, tls, username="me", password="pass").send([NOTICE], "farm")
        assert (server.mails, server.users) == ([], [])


async def test_a_server_of_another_name_gets_nothing(tmp_path: Path) -> None:
    other = make_certificate(tmp_path, names="DNS:mail.example.com")
    with mail_server(other) as server:
        with pytest.raises(OcisyncError, match=r"(?i)hostname mismatch|not valid for"):
            await channel(server, "starttls", other.authority).send([NOTICE], "farm")
        assert server.mails == []


async def test_nothing_is_sent_in_plain_where_the_server_has_no_tls(certificate: Certificate) -> None:
    with mail_server() as server:
        cases: list[tuple[Tls, str]] = [("starttls", "Write `tls: tls`"), ("tls", "write `tls: starttls`")]
        for tls, advice in cases:
            with pytest.raises(OcisyncError, match=advice):
                await channel(server, tls, certificate.authority, username="me", password="pass").send([NOTICE], "farm")
        assert (server.mails, server.users) == ([], [])


def test_notify_test_sends_mail_as_configured(certificate: Certificate, tmp_path: Path) -> None:
    with mail_server(certificate) as server:
        config = tmp_path / "ocisync.yaml"
        config.write_text(
            "version: 1\nnotify:\n  mail:\n    type: email\n    sender: ocisync@x.example\n"
            f"    server: localhost:{server.port}\n    ca: {certificate.authority}\n    recipients: [ops@x.example]\n"
            "    username: me\n    password: {env: SMTP_PASSWORD}\n"
        )
        env = {"SMTP_PASSWORD": "pass"}
        assert "mail" in run_ocisync("notify", "test", "-c", config, env=env).expect(0).stdout
        assert (server.encrypted, server.users) == ([True], ["me:pass"])
        config.write_text(config.read_text().replace(f"    ca: {certificate.authority}\n", ""))
        failed = run_ocisync("notify", "test", "-c", config, env=env).expect(1)
        assert "certificate verify failed" in failed.stdout + failed.stderr
