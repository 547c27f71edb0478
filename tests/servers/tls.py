"""A certificate authority of our own, made by the openssl command."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files: the authority to trust, and a certificate with its key."""

    authority: Path
    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """For a server of our own."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_certificate(folder: Path, *, days: int = 30, names: str = "DNS:localhost,IP:127.0.0.1") -> Certificate:
    """An authority and one certificate signed by it for loopback; `days` below zero makes an expired one."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    ca_key, request, extensions = folder / "ca.key", folder / "cert.csr", folder / "extensions"
    extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
    _openssl("req", "-x509", *_NEW_KEY, "-keyout", ca_key, "-out", made.authority, "-subj", "/CN=test CA")
    _openssl("req", *_NEW_KEY, "-keyout", made.key, "-out", request, "-subj", "/CN=localhost")
    signed = ("-req", "-in", request, "-CA", made.authority, "-CAkey", ca_key, "-CAcreateserial")
    _openssl("x509", *signed, "-out", made.certificate, "-days", str(days), "-extfile", extensions)
    return made


def sign(key: Path, message: bytes) -> bytes:
    """An RS256 signature."""
    return _openssl("dgst", "-sha256", "-sign", key, stdin=message)


_NEW_KEY = ("-newkey", "rsa:2048", "-nodes", "-sha256")


def _openssl(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr.decode(errors='replace')}")
    return done.stdout
