"""A mail server for one test: plain, with STARTTLS, or with TLS from the start; it keeps what it got."""

from __future__ import annotations

import base64
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.servers.tls import Certificate


@dataclass
class MailServer:
    """Where it listens, and what it got."""

    port: int
    mails: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)  # for each mail, whether it came over TLS
    users: list[str] = field(default_factory=list)  # who logged in, with the password: `user:password`
    protocols: list[str | None] = field(default_factory=list)  # chosen by ALPN, for each TLS connection


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads, block_on_close = True, False

    def __init__(self, context: ssl.SSLContext | None, *, is_implicit: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.context, self.is_implicit = context, is_implicit
        self.found = MailServer(self.server_address[1])


class _Conversation(socketserver.BaseRequestHandler):
    server: _Server
    connection: socket.socket

    def handle(self) -> None:
        self.connection = self.request
        try:
            if self.server.is_implicit:
                self.encrypt()
            self.stream = self.connection.makefile("rb")
            self.say("220 test ESMTP")
            while (line := self.read_line()) and self.answer(line):
                pass
        except (OSError, UnicodeDecodeError):  # a client that does not trust us, or begins with TLS
            pass
        finally:
            self.connection.close()

    @property
    def is_secure(self) -> bool:
        return isinstance(self.connection, ssl.SSLSocket)

    def encrypt(self) -> None:
        assert self.server.context is not None
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.server.found.protocols.append(self.connection.selected_alpn_protocol())
        self.stream = self.connection.makefile("rb")

    def say(self, text: str) -> None:
        self.connection.sendall(f"{text}\r\n".encode())

    def read_line(self) -> str:
        return self.stream.readline().decode().rstrip("\r\n")

    def answer(self, line: str) -> bool:
        verb = line.upper().split()[0]
        found = self.server.found
        if verb == "EHLO":
            self.say("\r\n".join(("250-test", *(["250-STARTTLS"] if self.can_encrypt() else []), "250 AUTH PLAIN")))
        elif verb == "STARTTLS" and self.can_encrypt():
            self.say("220 go on")
            self.encrypt()
        elif verb == "AUTH":
            _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
            found.users.append(f"{user}:{password}")
            self.say("535 no such login" if password == "wrong" else "235 welcome")
        elif verb == "DATA":
            self.say("354 go on")
            found.mails.append("\n".join(iter(self.read_line, ".")))
            found.encrypted.append(self.is_secure)
            self.say("250 ok")
        else:
            is_refused = verb == "RCPT" and "nobody" in line
            self.say("550 no such user" if is_refused else "221 bye" if verb == "QUIT" else "250 ok")
        return verb != "QUIT"

    def can_encrypt(self) -> bool:
        return self.server.context is not None and not self.is_secure


@contextmanager
def mail_server(certificate: Certificate | None = None, *, is_implicit: bool = False) -> Iterator[MailServer]:
    """Without a certificate there is no TLS. Recipients called `nobody` are refused, and the password `wrong`."""
    server = _Server(certificate.server_context() if certificate else None, is_implicit=is_implicit)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
