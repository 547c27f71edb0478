"""Signatures as strangers may write them: all good ones are accepted, and none of the bad ones.

The signatures are made by `tests.signatures` from the specifications; sigstore's library checks bundles without keys.
"""

import base64
import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ocisync.errors import SignatureError
from ocisync.model.digest import Digest
from ocisync.trust.keyless import load_trusted_root
from ocisync.trust.keys import load_public_key
from ocisync.trust.policies import BundledSignature, Identity, Policy, Signature, Subject, TagSignature
from tests.signatures import (
    IDENTITY,
    ISSUER,
    SIGNED_AT,
    Certificate,
    KeySigner,
    Sigstore,
    b64,
    envelope,
    pae,
    sign,
    simple_signing,
    statement,
)

IMAGE = Digest("sha256:" + "1" * 64)
OTHER = Digest("sha256:" + "2" * 64)
REPOSITORY = "ghcr.io/acme/app"
SUBJECT = Subject(IMAGE, REPOSITORY)
OURS = KeySigner()
STRANGER = KeySigner()
SIGSTORE = Sigstore()
KEYS = Policy("ours", keys=(load_public_key(OURS.pem.encode()),))
PEOPLE = Policy(
    "people",
    identities=(Identity(ISSUER, r"https://github\.com/acme/.*"), Identity("https://accounts.test", "one@acme.test")),
    root=load_trusted_root(SIGSTORE.trusted_root()),
)
Json = dict[str, Any]


def tagged(layer: tuple[bytes, dict[str, str]], **changed: str | None) -> TagSignature:
    payload, annotations = layer
    names = {"signature": "dev.cosignproject.cosign/signature"}
    for key, text in changed.items():
        name = names.get(key, f"dev.sigstore.cosign/{key}")
        annotations = {known: said for known, said in annotations.items() if known != name}
        if text is not None:
            annotations[name] = text
    return TagSignature(payload, annotations)


def bundled(document: Json, change: Callable[[Json], object] = lambda _: None) -> BundledSignature:
    document = json.loads(json.dumps(document))
    change(document)
    return BundledSignature(json.dumps(document).encode())


def log_entry(document: Json) -> Json:
    entry: Json = document["verificationMaterial"]["tlogEntries"][0]
    return entry


def all_keys() -> list[KeySigner]:
    return [
        OURS,
        KeySigner(ec.generate_private_key(ec.SECP384R1())),
        KeySigner(ec.generate_private_key(ec.SECP521R1())),
        KeySigner(rsa.generate_private_key(65537, 2048)),
        KeySigner(ed25519.Ed25519PrivateKey.generate()),
    ]


@pytest.mark.parametrize("signer", all_keys(), ids=["p256", "p384", "p521", "rsa", "ed25519"])
def test_good_ones_by_key(signer: KeySigner) -> None:
    policy = Policy("ours", keys=(load_public_key(STRANGER.pem.encode()), load_public_key(signer.pem.encode())))
    assert tagged(signer.layer(IMAGE, REPOSITORY)).check(policy, SUBJECT).name.startswith("key ")
    assert bundled(signer.bundle(IMAGE)).check(policy, SUBJECT).signed_at is None


@pytest.mark.parametrize(("identity", "issuer"), [(IDENTITY, ISSUER), ("one@acme.test", "https://accounts.test")])
def test_good_ones_without_a_key(identity: str, issuer: str) -> None:
    certificate = SIGSTORE.certificate(identity, issuer)
    for signature in (
        tagged(SIGSTORE.layer(IMAGE, REPOSITORY, certificate)),
        bundled(SIGSTORE.bundle(IMAGE, certificate)),
    ):
        signer = signature.check(PEOPLE, SUBJECT)
        assert signer.name == f"{identity} ({issuer})"
        assert signer.signed_at == SIGNED_AT.timestamp()


def test_names_of_repositories() -> None:
    """A signature under a tag names a repository: the one that is copied from, or one that the policy names."""
    docker = Subject(IMAGE, "docker.io/library/alpine")
    for named in (
        "index.docker.io/library/alpine",
        "alpine",
        "docker.io/library/alpine:3",
        "registry-1.docker.io/alpine",
    ):
        tagged(OURS.layer(IMAGE, named)).check(KEYS, docker)
    mirrored = Policy("ours", keys=KEYS.keys, signed_as=(r"ghcr\.io/acme/.*",))
    moved = Subject(IMAGE, "registry.local/app")
    tagged(OURS.layer(IMAGE, REPOSITORY)).check(mirrored, moved)
    tagged(OURS.layer(IMAGE, "other.io/x")).check(KEYS, Subject(IMAGE, ""))  # an archive, which has no name
    for policy, named in ((KEYS, REPOSITORY), (mirrored, "ghcr.io/other/app"), (mirrored, "")):
        with pytest.raises(SignatureError, match="another repository"):
            tagged(OURS.layer(IMAGE, named)).check(policy, moved)


def test_other_statements_count_only_when_they_are_named() -> None:
    slsa = "https://slsa.dev/provenance/v1"
    signature = bundled(OURS.bundle(IMAGE, slsa))
    with pytest.raises(SignatureError, match="no signature of an image"):
        signature.check(KEYS, SUBJECT)
    signature.check(Policy("ours", keys=KEYS.keys, predicates=(slsa,)), SUBJECT)


EXPIRED = SIGNED_AT + timedelta(hours=1)
TAMPERED = simple_signing(IMAGE, REPOSITORY).replace(b'"optional":null', b'"optional":{}')
GOOD_TAG, GOOD_BUNDLE = SIGSTORE.layer(IMAGE, REPOSITORY), SIGSTORE.bundle(IMAGE)
STOLEN = SIGSTORE.certificate()  # another certificate of the same identity


def forged_root(name: str) -> Sigstore:
    """A sigstore of which one key is another's."""
    curve = ec.SECP384R1() if name in ("root_key", "issuer_key") else ec.SECP256R1()
    return SIGSTORE.but(name, ec.generate_private_key(curve))


def without_log(document: Json) -> None:
    document["verificationMaterial"]["tlogEntries"] = []


BAD: dict[str, tuple[Policy, Signature, str]] = {
    "tag: another key": (KEYS, tagged(STRANGER.layer(IMAGE, REPOSITORY)), "verify.untrusted"),
    "tag: another digest": (KEYS, tagged(OURS.layer(OTHER, REPOSITORY)), "verify.payload"),
    "tag: another repository's payload": (KEYS, tagged(OURS.layer(IMAGE, "ghcr.io/acme/b")), "verify.payload"),
    "tag: tampered payload": (KEYS, TagSignature(TAMPERED, OURS.layer(IMAGE, REPOSITORY)[1]), "verify.untrusted"),
    "tag: no signature": (KEYS, tagged(OURS.layer(IMAGE, REPOSITORY), signature=None), "verify.payload"),
    "tag: signature in another spelling": (
        KEYS,
        tagged(OURS.layer(IMAGE, REPOSITORY), signature=OURS.layer(IMAGE, REPOSITORY)[1].popitem()[1] + "\n"),
        "verify.payload",
    ),
    "tag: no JSON": (KEYS, tagged(OURS.layer(IMAGE, REPOSITORY, b"{")), "verify.payload"),
    "tag: a key twice": (
        KEYS,
        tagged(OURS.layer(IMAGE, "", simple_signing(IMAGE, REPOSITORY)[:-1] + b',"critical":{}}')),
        "verify.payload",
    ),
    "tag: another type": (
        KEYS,
        tagged(OURS.layer(IMAGE, "", simple_signing(IMAGE, REPOSITORY).replace(b"cosign container", b"atomic"))),
        "verify.payload",
    ),
    "bundle: another key": (KEYS, bundled(STRANGER.bundle(IMAGE)), "verify.untrusted"),
    "bundle: another digest": (KEYS, bundled(OURS.bundle(OTHER)), "verify.payload"),
    "bundle: another payload": (
        KEYS,
        bundled(OURS.bundle(OTHER), lambda one: one["dsseEnvelope"].update(payload=b64(statement(IMAGE)))),
        "verify.untrusted",
    ),
    "bundle: two signatures, one bad": (
        KEYS,
        bundled(
            {
                **OURS.bundle(IMAGE),
                "dsseEnvelope": envelope(
                    statement(IMAGE), sign(OURS.key, pae(statement(IMAGE))), sign(STRANGER.key, pae(statement(IMAGE)))
                ),
            }
        ),
        "verify.payload",
    ),
    "bundle: no signature": (
        KEYS,
        bundled(OURS.bundle(IMAGE), lambda one: one["dsseEnvelope"].update(signatures=[])),
        "verify.payload",
    ),
    "bundle: another type of payload": (
        KEYS,
        bundled(OURS.bundle(IMAGE), lambda one: one["dsseEnvelope"].update(payloadType="text/plain")),
        "verify.payload",
    ),
    "bundle: signed without the type": (
        KEYS,
        bundled({**OURS.bundle(IMAGE), "dsseEnvelope": envelope(statement(IMAGE), sign(OURS.key, statement(IMAGE)))}),
        "verify.untrusted",
    ),
    "bundle: cut": (KEYS, BundledSignature(json.dumps(OURS.bundle(IMAGE)).encode()[:-20]), "verify.payload"),
    "bundle: of another version": (
        KEYS,
        bundled(OURS.bundle(IMAGE), lambda one: one.update(mediaType="application/vnd.dev.sigstore.bundle.v0.9+json")),
        "verify.payload",
    ),
    "bundle: nobody's": (
        KEYS,
        bundled(OURS.bundle(IMAGE), lambda one: one.update(verificationMaterial={})),
        "verify.payload",
    ),
    "bundle: by an identity, where keys are trusted": (KEYS, bundled(GOOD_BUNDLE), "verify.untrusted"),
    "tag: by an identity, where keys are trusted": (KEYS, tagged(GOOD_TAG), "verify.untrusted"),
    "bundle: by a key, where identities are trusted": (PEOPLE, bundled(OURS.bundle(IMAGE)), "verify.untrusted"),
    "tag: by a key, where identities are trusted": (PEOPLE, tagged(OURS.layer(IMAGE, REPOSITORY)), "verify.untrusted"),
}


def make_tagged(store: Sigstore, certificate: Certificate | None = None, at: datetime = SIGNED_AT) -> Signature:
    return tagged(store.layer(IMAGE, REPOSITORY, certificate, at=at))


def make_bundled(store: Sigstore, certificate: Certificate | None = None, at: datetime = SIGNED_AT) -> Signature:
    return bundled(store.bundle(IMAGE, certificate, at=at))


for kind, make in (("tag", make_tagged), ("bundle", make_bundled)):
    BAD |= {
        f"{kind}: expired at log time": (PEOPLE, make(SIGSTORE, at=EXPIRED), "verify.expired"),
        f"{kind}: another issuer": (
            PEOPLE,
            make(SIGSTORE, SIGSTORE.certificate(issuer="https://accounts.test")),
            "verify.untrusted",
        ),
        f"{kind}: another identity": (
            PEOPLE,
            make(SIGSTORE, SIGSTORE.certificate(IDENTITY.replace("acme", "evil"))),
            "verify.untrusted",
        ),
        f"{kind}: an identity that begins like a trusted one": (
            PEOPLE,
            make(SIGSTORE, SIGSTORE.certificate("one@acme.test.evil.test", "https://accounts.test")),
            "verify.untrusted",
        ),
        f"{kind}: no SCT": (PEOPLE, make(SIGSTORE, SIGSTORE.certificate(with_sct=False)), "verify.untrusted"),
        f"{kind}: another authority": (PEOPLE, make(forged_root("issuer_key")), "verify.untrusted"),
        f"{kind}: another log of certificates": (
            PEOPLE,
            make(SIGSTORE, forged_root("ct_key").certificate()),
            "verify.untrusted",
        ),
        f"{kind}: another log of signatures": (PEOPLE, make(forged_root("log_key")), "verify.untrusted"),
    }

BAD |= {
    "tag: another certificate": (PEOPLE, tagged(GOOD_TAG, certificate=STOLEN.pem), "verify.payload"),
    "tag: no entry of the log": (PEOPLE, tagged(GOOD_TAG, bundle=None), "verify.untrusted"),
    "tag: another signature's entry": (
        PEOPLE,
        tagged(GOOD_TAG, bundle=SIGSTORE.layer(OTHER, REPOSITORY)[1]["dev.sigstore.cosign/bundle"]),
        "verify.payload",
    ),
    "tag: an entry at another time": (
        PEOPLE,
        tagged(
            SIGSTORE.layer(IMAGE, REPOSITORY, at=EXPIRED),
            bundle=SIGSTORE.layer(IMAGE, REPOSITORY, at=EXPIRED)[1]["dev.sigstore.cosign/bundle"].replace(
                str(int(EXPIRED.timestamp())), str(int(SIGNED_AT.timestamp()))
            ),
        ),
        "verify.untrusted",
    ),
    "tag: another digest, by an identity": (PEOPLE, tagged(SIGSTORE.layer(OTHER, REPOSITORY)), "verify.payload"),
    "bundle: another digest, by an identity": (PEOPLE, bundled(SIGSTORE.bundle(OTHER)), "verify.payload"),
    "bundle: no inclusion proof": (
        PEOPLE,
        bundled(GOOD_BUNDLE, lambda one: log_entry(one).pop("inclusionProof")),
        "verify.untrusted",
    ),
    "bundle: no entry of the log": (PEOPLE, bundled(GOOD_BUNDLE, without_log), "verify.untrusted"),
    "bundle: no promise": (
        PEOPLE,
        bundled(GOOD_BUNDLE, lambda one: log_entry(one).pop("inclusionPromise")),
        "verify.untrusted",
    ),
    "bundle: another signature's entry": (
        PEOPLE,
        bundled(
            GOOD_BUNDLE,
            lambda one: one["verificationMaterial"].update(
                tlogEntries=SIGSTORE.bundle(OTHER)["verificationMaterial"]["tlogEntries"]
            ),
        ),
        "verify.untrusted",
    ),
    "bundle: another certificate": (
        PEOPLE,
        bundled(
            GOOD_BUNDLE,
            lambda one: one["verificationMaterial"].update(certificate={"rawBytes": b64(STOLEN.der)}),
        ),
        "verify.untrusted",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_ones(name: str) -> None:
    policy, signature, code = BAD[name]
    with pytest.raises(SignatureError) as caught:
        signature.check(policy, SUBJECT)
    assert caught.value.code == code, caught.value.message


def mutate(count: int) -> int:
    """Change one byte of good signatures, so many times; how often one was accepted that says something else."""
    rng = random.Random(20)
    good: list[tuple[Policy, bytes, Callable[[bytes], Signature], Callable[[bytes], object]]] = []
    for policy, (payload, annotations) in ((KEYS, OURS.layer(IMAGE, REPOSITORY)), (PEOPLE, GOOD_TAG)):
        good.append((policy, payload, partial(TagSignature, annotations=annotations), bytes))
        for key in filter(annotations.get, annotations):
            changed = partial(_with_annotation, payload, annotations, key)
            good.append((policy, annotations[key].encode(), changed, _meaning))
    for policy, document in ((KEYS, OURS.bundle(IMAGE)), (PEOPLE, GOOD_BUNDLE)):
        good.append((policy, json.dumps(document).encode(), BundledSignature, _meaning_of_bundle))
    accepted = 0
    for number in range(count):
        policy, raw, sign_with, meaning = good[number % len(good)]
        wrong = bytearray(raw)
        wrong[rng.randrange(len(wrong))] ^= rng.randrange(1, 256)
        try:
            sign_with(bytes(wrong)).check(policy, SUBJECT)
        except SignatureError:
            continue
        accepted += meaning(bytes(wrong)) != meaning(raw)
    return accepted


def _with_annotation(payload: bytes, annotations: dict[str, str], key: str, raw: bytes) -> Signature:
    return TagSignature(payload, {**annotations, key: raw.decode("latin-1")})


def _meaning(raw: bytes) -> object:
    """What of an annotation counts: a certificate's bytes, a log's entry, or the text."""
    text = raw.decode("latin-1")
    if text.startswith("-----"):
        return base64.b64decode("".join(text.split("-----")[2].split()))
    try:
        document = json.loads(text)
    except ValueError:
        return text
    return [document["SignedEntryTimestamp"], document["Payload"]]


def _meaning_of_bundle(raw: bytes) -> object:
    """What of a bundle is signed, or proves something: hints, names of logs and unknown keys do not."""
    document = json.loads(raw)
    material = document["verificationMaterial"]
    entries = [
        [one["canonicalizedBody"], one["integratedTime"], one["inclusionPromise"], one["inclusionProof"]["rootHash"]]
        for one in material.get("tlogEntries", [])
    ]
    signed = document["dsseEnvelope"]
    return [signed["payload"], [one["sig"] for one in signed["signatures"]], material.get("certificate"), entries]


def test_mutated_bytes() -> None:
    assert mutate(400) == 0


@pytest.mark.prove
def test_ten_thousand_mutated_bytes() -> None:
    assert mutate(10_000) == 0
