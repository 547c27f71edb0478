"""Keys and signatures over bytes: every kind that is accepted, and what is refused; openssl agrees both ways."""

import base64
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa

from ocisync.errors import ConfigError, SignatureError
from ocisync.trust import keys
from ocisync.trust.keys import load_private_key, load_public_key, sign, sign_blob, verify, verify_blob

DATA = b"what is signed"
KEYS: dict[str, keys.AnyPrivateKey] = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
PEM = serialization.Encoding.PEM


def private_pem(key: keys.AnyPrivateKey, password: bytes | None = None) -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem: bytes = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how)
    return pem


def public_pem(key: keys.AnyPrivateKey) -> bytes:
    pem: bytes = key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return pem


@pytest.mark.parametrize("kind", KEYS)
def test_each_kind_signs_and_verifies(kind: str) -> None:
    private, public = load_private_key(private_pem(KEYS[kind])), load_public_key(public_pem(KEYS[kind]))
    signature = sign(private, DATA)
    assert verify(public, signature, DATA)
    assert not verify(public, signature, DATA + b".")
    assert not verify(public, signature[:-1] + bytes([signature[-1] ^ 1]), DATA)
    assert not verify(public, b"", DATA)
    assert private.public.fingerprint == public.fingerprint


@pytest.mark.parametrize("kind", KEYS)
def test_no_other_key_verifies(kind: str) -> None:
    signature = sign(load_private_key(private_pem(KEYS[kind])), DATA)
    others = [load_public_key(public_pem(key)) for name, key in KEYS.items() if name != kind]
    assert not any(verify(key, signature, DATA) for key in others)


def test_hashes_of_larger_curves_and_pss() -> None:
    p384, p521, rsa_key = KEYS["p384"], KEYS["p521"], KEYS["rsa"]
    assert isinstance(p384, ec.EllipticCurvePrivateKey)
    assert isinstance(p521, ec.EllipticCurvePrivateKey)
    assert isinstance(rsa_key, rsa.RSAPrivateKey)
    assert verify(load_public_key(public_pem(p384)), p384.sign(DATA, ec.ECDSA(hashes.SHA384())), DATA)
    assert verify(load_public_key(public_pem(p521)), p521.sign(DATA, ec.ECDSA(hashes.SHA512())), DATA)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    assert verify(load_public_key(public_pem(rsa_key)), rsa_key.sign(DATA, pss, hashes.SHA256()), DATA)


@pytest.mark.parametrize("kind", KEYS)
def test_a_blob_is_signed_and_verified(kind: str) -> None:
    private, public = load_private_key(private_pem(KEYS[kind])), load_public_key(public_pem(KEYS[kind]))
    other = load_public_key(public_pem(ec.generate_private_key(ec.SECP256R1())))
    bundle = sign_blob(private, DATA)
    assert verify_blob(bundle, DATA, [other, public]) == public
    for code, wrong, data, trusted in [
        ("verify.untrusted", bundle, DATA, [other]),
        ("verify.untrusted", bundle, DATA, []),
        ("verify.payload", bundle, b"other", [public]),
        ("verify.payload", bundle[:-5], DATA, [public]),
        ("verify.payload", b"{}", DATA, [public]),
        ("verify.payload", b"[]", DATA, [public]),
        ("verify.payload", b"", DATA, [public]),
        ("verify.payload", bundle + b" " * keys.MAX_BUNDLE, DATA, [public]),
    ]:
        with pytest.raises(SignatureError) as caught:
            verify_blob(wrong, data, trusted)
        assert caught.value.code == code


def test_the_form_of_a_bundle() -> None:
    """What cosign writes: names and spelling of the fields, the hint of the key."""
    private = load_private_key(private_pem(KEYS["p256"]))
    document = json.loads(sign_blob(private, DATA))
    assert document["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert document["verificationMaterial"] == {"publicKey": {"hint": private.public.hint}}
    assert document["messageSignature"]["messageDigest"]["algorithm"] == "SHA2_256"


def test_a_signature_alone_in_base64() -> None:
    """As `cosign sign-blob` prints it without --bundle."""
    private = load_private_key(private_pem(KEYS["p256"]))
    text = base64.b64encode(sign(private, DATA)) + b"\n"
    assert verify_blob(text, DATA, [private.public]) == private.public


def test_a_hint_proves_nothing() -> None:
    """A bundle that names a trusted key and was signed by another."""
    trusted, other = load_private_key(private_pem(KEYS["p256"])), load_private_key(private_pem(KEYS["p384"]))
    forged = sign_blob(other, DATA).replace(other.public.hint.encode(), trusted.public.hint.encode())
    with pytest.raises(SignatureError):
        verify_blob(forged, DATA, [trusted.public])


def test_mutated_bundles_of_blobs() -> None:
    """Each bit of a bundle flipped: accepted only where the signature and what it says stay the same."""
    private = load_private_key(private_pem(KEYS["p256"]))
    bundle = sign_blob(private, DATA)
    signature = json.loads(bundle)["messageSignature"]["signature"]
    for place in range(len(bundle)):
        for bit in range(8):
            wrong = bytearray(bundle)
            wrong[place] ^= 1 << bit
            try:
                verify_blob(bytes(wrong), DATA, [private.public])
            except SignatureError:
                continue
            assert json.loads(wrong)["messageSignature"]["signature"] == signature


def test_what_is_no_key() -> None:
    small = rsa.generate_private_key(65537, 1024)
    koblitz = ec.generate_private_key(ec.SECP256K1())
    old = dsa.generate_private_key(2048)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    wrong = [key.public_key().public_bytes(PEM, spki) for key in (small, koblitz, old)]
    for pem in [*wrong, b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", private_pem(small)]:
        with pytest.raises(ConfigError):
            load_public_key(pem)
        with pytest.raises(ConfigError):
            load_private_key(pem)


def test_passwords() -> None:
    secret = private_pem(KEYS["p256"], b"password")
    assert verify(load_private_key(secret, b"password").public, sign(load_private_key(secret, b"password"), DATA), DATA)
    for pem, password in [(secret, None), (secret, b"other"), (private_pem(KEYS["p256"]), b"one too many")]:
        with pytest.raises(ConfigError):
            load_private_key(pem, password)


# Encrypted by PyNaCl and hashlib in cosign's form; the password is "password".
COSIGN_KEY = b"""\
-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----
eyJrZGYiOiB7Im5hbWUiOiAic2NyeXB0IiwgInBhcmFtcyI6IHsiTiI6IDMyNzY4
LCAiciI6IDgsICJwIjogMX0sICJzYWx0IjogIlF4aDBPRDVOWHJjTEcrNzBFVzYv
dnQ1N05JeDlOM05pekdPbVI3ZG83cDQ9In0sICJjaXBoZXIiOiB7Im5hbWUiOiAi
bmFjbC9zZWNyZXRib3giLCAibm9uY2UiOiAiUC8vbzlpcGhkT3B3TmMrVnpYTjZi
a01HdGlLWlBRZXYifSwgImNpcGhlcnRleHQiOiAiR3FheTlxZWpHV0dtRzI0SE9q
QWxsbHRBbXdmaTlPMGFmbzh4M1pTT1B2b2lCR1J3Z3lLTjlMWXYvc2JNVEcvYlJm
SERxYlFoTzNJMDB4T2pDWS84VVNQSndKL2lTOU8xZXAzQVYxaWxNdGtlRnovakE3
VjZxL0ZUcFI1WmxjTWY2ZUVnVkRvVi8zY1lVRzVQZGJ2NTBZbkswTHZVWDdBbTVY
MjRZYzhpNzdTdUJjTGRDZmNlaEs2em5CcjgzSGZadkcxTkFReG1xaG5TT2c9PSJ9
-----END ENCRYPTED SIGSTORE PRIVATE KEY-----
"""
COSIGN_PUBLIC = b"""\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAwIL3bn6g6ef5GKGV8ExK3jcZxc3
mhqJyKQ5LY2vcF3oo0Kui51YQzYOza8jqvb99vS5u3euvHX2GVcfy5o39A==
-----END PUBLIC KEY-----
"""


def test_a_private_key_as_cosign_encrypts_it() -> None:
    private = load_private_key(COSIGN_KEY, b"password")
    assert private.public == load_public_key(COSIGN_PUBLIC)
    assert verify(private.public, sign(private, DATA), DATA)
    cut = COSIGN_KEY.replace(b"In0sICJjaXBo", b"In0sICJjaXBp")
    for wrong, password in ((COSIGN_KEY, b"other"), (COSIGN_KEY, None), (cut, b"password")):
        with pytest.raises(ConfigError):
            load_private_key(wrong, password)


def test_openssl_agrees(tmp_path: Path) -> None:
    """A key, a signature and a check by openssl, which cosign's plain keys and signatures are made for."""
    key, public, data, made = (tmp_path / name for name in ("key.pem", "public.pem", "data", "signature"))
    data.write_bytes(DATA)

    def openssl(*arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)

    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    openssl("ec", "-in", key, "-pubout", "-out", public)
    openssl("dgst", "-sha256", "-sign", key, "-out", made, data)
    ours = load_private_key(key.read_bytes())
    assert verify(load_public_key(public.read_bytes()), made.read_bytes(), DATA)
    made.write_bytes(sign(ours, DATA))
    openssl("dgst", "-sha256", "-verify", public, "-signature", made, data)
