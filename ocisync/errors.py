"""Every error that ocisync raises on purpose.

    OcisyncError
    ├── ConfigError              the configuration or the command line is wrong          config.invalid
    │   └── MissingSecret        a secret that it names is not known here                config.secret
    ├── InvalidName              a reference, name, tag or digest breaks its grammar     name.invalid
    ├── NotFound                 a tag, manifest or blob is not there                    source.missing
    ├── ManifestError            a manifest cannot be used                               manifest.invalid
    │   ├── AmbiguousManifest    its type and its body disagree                          manifest.ambiguous
    │   └── UnsupportedManifest  schema 1, or a type the target cannot hold              manifest.unsupported
    ├── LimitExceeded            a cap on size, count or ratio was reached               limit.exceeded
    ├── VerificationError        bytes are not what they claim to be
    │   ├── DigestMismatch                                                               verify.digest
    │   ├── SizeMismatch                                                                 verify.size
    │   ├── DiffIdMismatch       an uncompressed layer is not its diff ID                verify.diffid
    │   └── SignatureError       a signature is missing, or of nobody trusted                verify.untrusted
    ├── NetworkError             the connection failed                                   net.unreachable
    │   ├── Truncated            the body ended too early                                net.truncated
    │   ├── Stalled              no progress within the idle time-out                    net.stalled
    │   └── TlsError             the certificate was refused                             tls.verify
    ├── RegistryError            a registry answered with an error                       registry.error
    │   ├── AuthError            credentials missing, refused or not to be sent          auth.denied
    │   ├── RateLimited          429 or 503: the whole host pauses                       limit.rate
    │   └── RedirectRefused                                                              redirect.refused
    ├── StoreError               a target's storage refused                              store.error
    │   ├── S3ConfigError        bucket, region or credentials are wrong                 s3.config
    │   ├── PreconditionFailed   a conditional write lost its race                       store.conflict
    │   └── DiskError            full, read-only, or an I/O error                        disk
    ├── ArchiveError             an archive is corrupt or not an image                   archive.invalid
    ├── BundleError              a bundle is damaged, not whole, or not what it says     bundle.invalid
    └── InputError               a dropped input cannot be published                     input.invalid
        └── InputChanged         it was replaced or cut while it was read                input.changed

`code` is stable: logs, metrics and reports carry it. `handling` says what a job's edge does with the error.
"""

from __future__ import annotations

import enum
import errno
from typing import Self


class Handling(enum.Enum):
    """What the edge of a job does with an error."""

    RETRY = "retry"  # back off and try again, across restarts
    QUARANTINE = "quarantine"  # leave it until the input changes
    FAIL = "fail"  # report now, the next cycle tries again
    EXIT = "exit"  # refuse to start


class OcisyncError(Exception):
    """The root: a message for people, a stable `code`, and facts for logs."""

    code: str = "error"
    handling: Handling = Handling.FAIL

    def __init__(
        self, message: str, *, code: str | None = None, handling: Handling | None = None, **facts: object
    ) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts
        self.code = code or type(self).code
        self.handling = handling or type(self).handling

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed in a moment."""
        return self.handling is Handling.RETRY

    def at(self, where: str) -> Self:
        """The same error, its message beginning with where it happened."""
        told = self.message if self.message.startswith(where) else f"{where}: {self.message}"
        return type(self)(told, code=self.code, handling=self.handling, **self.facts)


class ConfigError(OcisyncError):
    """The configuration or the command line is wrong."""

    code = "config.invalid"
    handling = Handling.EXIT


class MissingSecret(ConfigError):
    """A secret that the configuration names is not known here, and is needed now."""

    code = "config.secret"


class InvalidName(OcisyncError):
    """A reference, name, tag or digest breaks its grammar."""

    code = "name.invalid"
    handling = Handling.QUARANTINE


class NotFound(OcisyncError):
    """A tag, manifest or blob is not there."""

    code = "source.missing"


class LeftOut(NotFound):
    """An image that an archive's index names, and that was not saved with it: no damage, if others were."""

    handling = Handling.QUARANTINE


class ManifestError(OcisyncError):
    """A manifest cannot be used."""

    code = "manifest.invalid"
    handling = Handling.QUARANTINE


class AmbiguousManifest(ManifestError):
    """A manifest's type and its body disagree."""

    code = "manifest.ambiguous"


class UnsupportedManifest(ManifestError):
    """A manifest of a kind that cannot be copied, such as docker's schema 1."""

    code = "manifest.unsupported"


class LimitExceeded(OcisyncError):
    """A cap on size, count, depth or ratio was reached."""

    code = "limit.exceeded"
    handling = Handling.QUARANTINE


class VerificationError(OcisyncError):
    """Bytes are not what they claim to be."""

    code = "verify.failed"
    handling = Handling.QUARANTINE


class DigestMismatch(VerificationError):
    """Content hashed to another digest than its descriptor's."""

    code = "verify.digest"


class SizeMismatch(VerificationError):
    """Content is longer or shorter than its descriptor says."""

    code = "verify.size"


class DiffIdMismatch(VerificationError):
    """An uncompressed layer is not the diff ID its configuration names."""

    code = "verify.diffid"


class SignatureError(VerificationError):
    """A signature is missing, is wrong, or was made by nobody who is trusted. The next pass looks again."""

    code = "verify.untrusted"
    handling = Handling.FAIL


class NetworkError(OcisyncError):
    """The connection could not be made or broke."""

    code = "net.unreachable"
    handling = Handling.RETRY


class Truncated(NetworkError):
    """The body ended before its announced length."""

    code = "net.truncated"


class Stalled(NetworkError):
    """No progress within the idle time-out."""

    code = "net.stalled"


class TlsError(NetworkError):
    """The server's certificate was refused."""

    code = "tls.verify"
    handling = Handling.FAIL


class RegistryError(OcisyncError):
    """A registry answered with an error status."""

    code = "registry.error"


class AuthError(RegistryError):
    """Credentials are missing or refused, or must not be sent there."""

    code = "auth.denied"


class RateLimited(RegistryError):
    """The host asked for a pause (429 or 503)."""

    code = "limit.rate"
    handling = Handling.RETRY


class RedirectRefused(RegistryError):
    """A redirect that must not be followed."""

    code = "redirect.refused"


class StoreError(OcisyncError):
    """A target's storage refused an operation."""

    code = "store.error"
    handling = Handling.RETRY


class S3ConfigError(StoreError):
    """The bucket, region or credentials are wrong."""

    code = "s3.config"
    handling = Handling.FAIL


class PreconditionFailed(StoreError):
    """A conditional write lost its race; look again."""

    code = "store.conflict"


class DiskError(StoreError):
    """The disk is full or read-only, or reported an I/O error."""

    code = "disk"
    handling = Handling.FAIL


def machine_error(error: BaseException, where: str, what: str) -> OcisyncError:
    """A trouble of the machine, told as that: it passes, or whoever looks after the machine ends it.

    No input, rule or object is to blame for it, so it is always tried again.
    """
    number = getattr(error, "errno", None)
    if number in (errno.EMFILE, errno.ENFILE):
        cure = "no descriptor is left: raise the limit of open files (ulimit -n, or LimitNOFILE= in the unit)"
        return StoreError(f"{where}: {what}: {cure}", code="limit.files", errno=number)
    if number == errno.ENOMEM or isinstance(error, MemoryError):
        return StoreError(f"{where}: {what}: no memory is left", code="limit.memory")
    if isinstance(error, RuntimeError) or number == errno.EAGAIN:
        return StoreError(f"{where}: {what}: no thread is left: raise the limit of tasks", code="limit.threads")
    reason = getattr(error, "strerror", None) or str(error)
    cure = ": let ocisync's user read it" if number in (errno.EACCES, errno.EPERM) else ""
    return DiskError(f"{where}: {what}: {reason}{cure}", handling=Handling.RETRY, errno=number)


def find_ours(error: BaseException, where: str) -> OcisyncError | None:
    """What is to be told of an error, whichever kind it is; None for one that nobody expected: a defect of ocisync.

    Of a group it is the first, if all in it can be told.
    """
    if isinstance(error, OcisyncError):
        return error
    if isinstance(error, ExceptionGroup):
        inner = [find_ours(part, where) for part in error.exceptions]
        return inner[0] if all(inner) else None
    is_of_machine = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _OF_MACHINE)
    is_thread = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    return machine_error(error, where, "cannot go on") if is_of_machine or is_thread else None


_OF_MACHINE = {
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM,
    errno.ETIMEDOUT, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EBUSY, errno.ENODEV, errno.EHOSTDOWN,
}  # fmt: skip


class ArchiveError(OcisyncError):
    """An archive is corrupt, or is not an image."""

    code = "archive.invalid"
    handling = Handling.QUARANTINE


class BundleError(OcisyncError):
    """A bundle is damaged, not whole, or not what its inventory says."""

    code = "bundle.invalid"
    handling = Handling.QUARANTINE


class InputError(OcisyncError):
    """A dropped input cannot be published as it is."""

    code = "input.invalid"
    handling = Handling.QUARANTINE


class InputChanged(InputError):
    """An input was replaced or cut while it was read."""

    code = "input.changed"
    handling = Handling.RETRY
