"""What a log of signatures (Rekor) says of one: that it took note of it, and when. Pure.

Such a log signs each entry (its "promise", the SET), so that its word can be checked offline with its key. An entry is
worth something only when it is about the very signature, the very bytes and the very key or certificate: else a valid
entry of another signature could be shown with this one.

Spec: rekor's signed entry timestamps, and its types `hashedrekord` 0.0.1 and `dsse` 0.0.1.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocisync.errors import ConfigError, SignatureError
from ocisync.model.text.outside_json import load_json
from ocisync.trust.keys import PAYLOAD, UNTRUSTED, PublicKey, decode_base64, load_public_key, verify

if TYPE_CHECKING:  # which needs certificates
    from ocisync.trust.keyless import TrustedRoot

ENTRY = "dev.sigstore.cosign/bundle"  # the annotation of a layer under a .sig tag
IsSigner = Callable[[bytes], bool]
"""Whether a key or certificate in PEM is that of who signed."""


class RecordKind(enum.Enum):
    """What a log recorded: type and version."""

    HASHED = ("hashedrekord", "0.0.1")  # a signature over bytes
    DSSE = ("dsse", "0.0.1")  # an envelope


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry, with its log's signature."""

    body: str  # what was recorded: JSON in base64
    time: int  # seconds since the epoch
    log_id: bytes  # SHA-256 of the log's key
    index: int
    promise: bytes

    def check_promise(self, root: TrustedRoot) -> None:
        """See that a trusted log signed it; raises SignatureError."""
        log = root.find_log(self.log_id, self.time)
        said = {"body": self.body, "integratedTime": self.time, "logID": self.log_id.hex(), "logIndex": self.index}
        if not verify(log.key, self.promise, json.dumps(said, sort_keys=True, separators=(",", ":")).encode()):
            raise SignatureError("the log did not sign this entry", code=UNTRUSTED)

    def check_subject(self, kind: RecordKind, payload: bytes, signature: bytes, is_signer: IsSigner) -> None:
        """See that it is about a signature: `payload` are the bytes signed, or with `DSSE` the envelope's payload.

        Raises:
            SignatureError: it is about another, or cannot be read.
        """
        try:
            record: Any = load_json(decode_base64(self.body))
            is_kind = (record["kind"], record["apiVersion"]) == kind.value
            hashed, recorded, signer = _PARTS[kind](record["spec"])
            is_payload = (hashed["algorithm"], hashed["value"]) == ("sha256", hashlib.sha256(payload).hexdigest())
            is_signature = recorded == base64.b64encode(signature).decode()
            is_right = is_kind and is_payload and is_signature and is_signer(decode_base64(signer))
        except (ValueError, TypeError, KeyError) as exc:
            raise SignatureError("the log's entry cannot be read", code=PAYLOAD) from exc
        if not is_right:
            raise SignatureError("the log's entry is about another signature", code=PAYLOAD)


def parse_annotation(text: str) -> LogEntry:
    """The entry that a `.sig` tag's layer has in an annotation.

    Raises:
        SignatureError: it cannot be read.
    """
    try:
        document: Any = load_json(text)
        entry = document["Payload"]
        log_id, promise = bytes.fromhex(entry["logID"]), decode_base64(document["SignedEntryTimestamp"])
        return LogEntry(entry["body"], _count(entry["integratedTime"]), log_id, _count(entry["logIndex"]), promise)
    except (ValueError, TypeError, KeyError) as exc:
        raise SignatureError("the log's entry cannot be read", code=PAYLOAD) from exc


def parse_bundled(entry: Any) -> LogEntry:
    """An entry as bundles have it.

    Raises:
        SignatureError: it cannot be read, or its log promises nothing (Rekor 2).
    """
    try:
        promise = decode_base64(entry["inclusionPromise"]["signedEntryTimestamp"])
        log_id, body = decode_base64(entry["logId"]["keyId"]), entry["canonicalizedBody"]
        return LogEntry(body, int(entry["integratedTime"]), log_id, int(entry["logIndex"]), promise)
    except (ValueError, TypeError, KeyError, OverflowError) as exc:  # the last: of a number without an end
        raise SignatureError("the log's entry cannot be read", code=PAYLOAD) from exc


def _count(value: object) -> int:
    if type(value) is not int:
        raise TypeError("a number is needed")
    return value


def find_log_time(
    root: TrustedRoot | None,
    kind: RecordKind,
    entries: Iterable[Callable[[], LogEntry]],
    payload: bytes,
    signature: bytes,
    key: PublicKey,
) -> float | None:
    """When a trusted log took note of a key's signature; None where none of the entries, once read, proves that."""

    def is_key(pem: bytes) -> bool:
        return load_public_key(pem).fingerprint == key.fingerprint

    if root is None:
        return None
    for read in entries:
        try:
            entry = read()
            entry.check_promise(root)
            entry.check_subject(kind, payload, signature, is_key)
        except (SignatureError, ConfigError):
            continue
        return float(entry.time)
    return None


def _list_hashed(spec: Any) -> tuple[Any, str, str]:
    return spec["data"]["hash"], spec["signature"]["content"], spec["signature"]["publicKey"]["content"]


def _list_dsse(spec: Any) -> tuple[Any, str, str]:
    (signature,) = spec["signatures"]
    return spec["payloadHash"], signature["signature"], signature["verifier"]


_PARTS = {RecordKind.HASHED: _list_hashed, RecordKind.DSSE: _list_dsse}  # hash, signature, key or certificate
