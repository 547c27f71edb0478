"""Private keys as `cosign generate-key-pair` writes them: encrypted by NaCl's secretbox, with a key from scrypt.

The library at hand has no XSalsa20, so it is here: a key is a few hundred bytes, and is read once.

Spec: cosign's pkg/cosign/keys.go and secure-systems-lab's encrypted package; Bernstein, "Extending the Salsa20 nonce".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.poly1305 import Poly1305

from ocisync.errors import ConfigError
from ocisync.model.text.outside_json import load_json

_LABELS = (b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY")
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_BLOCK = 64  # bytes of Salsa20
_TAG = 16  # bytes of Poly1305
_LARGEST_COST = 1 << 20  # scrypt's N: more would take minutes and gigabytes
_WORD = 0xFFFFFFFF


def is_cosign_key(pem: bytes) -> bool:
    """Whether a private key was encrypted by cosign."""
    return any(b"-----BEGIN " + label + b"-----" in pem for label in _LABELS)


def decrypt_cosign_key(pem: bytes, password: bytes) -> bytes:
    """The key in DER (PKCS #8).

    Raises:
        ConfigError: the password is wrong, or the file is damaged.
    """
    try:
        body = b"".join(line for line in pem.splitlines() if not line.startswith(b"-----"))
        document = load_json(base64.b64decode(body, validate=True))
        kdf, cipher = document["kdf"], document["cipher"]  # type: ignore[index]
        if (kdf["name"], cipher["name"]) != ("scrypt", "nacl/secretbox"):
            raise ConfigError("the private key is encrypted in a way that is not known")
        cost, blocks, lanes = (int(kdf["params"][name]) for name in ("N", "r", "p"))
        if not (1 < cost <= _LARGEST_COST and blocks == 8 and lanes == 1):
            raise ConfigError("the private key is encrypted at a cost that cosign does not use")
        salt, nonce = base64.b64decode(kdf["salt"]), base64.b64decode(cipher["nonce"])
        key = hashlib.scrypt(password, salt=salt, n=cost, r=blocks, p=lanes, maxmem=256 * cost * blocks, dklen=32)
        return open_secretbox(base64.b64decode(document["ciphertext"]), nonce, key)  # type: ignore[index]
    except (ValueError, KeyError, TypeError, binascii.Error, struct.error) as exc:
        raise ConfigError("the private key of cosign cannot be read") from exc
    except InvalidSignature as exc:
        raise ConfigError("the password of the private key is wrong") from exc


def open_secretbox(box: bytes, nonce: bytes, key: bytes) -> bytes:
    """What a secretbox holds.

    Raises:
        InvalidSignature: the key or the nonce is another, or the box was changed.
    """
    words = struct.unpack("<4I", nonce[:16])
    subkey = _hsalsa(struct.unpack("<8I", key), words)
    size = 32 + len(box) - _TAG  # the first bytes of the stream are Poly1305's key
    stream = b"".join(
        _salsa_block(subkey, struct.unpack("<2I", nonce[16:24]), number) for number in range(-(-size // _BLOCK))
    )
    Poly1305.verify_tag(stream[:32], box[_TAG:], box[:_TAG])
    return bytes(one ^ other for one, other in zip(box[_TAG:], stream[32:], strict=False))


def _state(key: Sequence[int], words: Sequence[int]) -> list[int]:
    one, two, three, four = _SIGMA
    return [one, *key[:4], two, *words, three, *key[4:], four]


def _hsalsa(key: Sequence[int], words: Sequence[int]) -> Sequence[int]:
    mixed = _mix(_state(key, words))
    return [mixed[place] for place in (0, 5, 10, 15, 6, 7, 8, 9)]


def _salsa_block(key: Sequence[int], nonce: Sequence[int], number: int) -> bytes:
    state = _state(key, (*nonce, number, 0))
    return struct.pack("<16I", *((one + other) & _WORD for one, other in zip(state, _mix(state), strict=True)))


def _mix(state: Sequence[int]) -> list[int]:
    """Salsa20's twenty rounds."""
    x = list(state)
    for _ in range(10):
        for places in _COLUMNS + _ROWS:
            _quarter(x, *places)
    return x


_COLUMNS = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
_ROWS = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))


def _quarter(x: list[int], a: int, b: int, c: int, d: int) -> None:
    x[b] ^= _rotate(x[a] + x[d], 7)
    x[c] ^= _rotate(x[b] + x[a], 9)
    x[d] ^= _rotate(x[c] + x[b], 13)
    x[a] ^= _rotate(x[d] + x[c], 18)


def _rotate(word: int, bits: int) -> int:
    word &= _WORD
    return (word << bits | word >> (32 - bits)) & _WORD
