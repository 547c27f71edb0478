"""Signatures as strangers may write them: all good ones are accepted, and none of the bad ones.

The signatures are made by `tests.signatures` from the specifications; sigstore's library checks bundles without keys.
"""

import base64
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

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
LOGGED = Policy("ours", keys=KEYS.keys, root=PEOPLE.root)  # whose log's word for the time counts
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


@pytest.mark.parametrize("signer", all_keys(), ids=["p256", "p384", "p521", "rsa", "ed25519"])
def test_a_log_says_when_a_key_signed(signer: KeySigner) -> None:
    policy = Policy("ours", keys=(load_public_key(signer.pem.encode()),), root=PEOPLE.root)
    untimed = Policy("ours", keys=policy.keys)
    for signature in (tagged(SIGSTORE.layer(IMAGE, REPOSITORY, signer)), bundled(SIGSTORE.bundle(IMAGE, signer))):
        assert signature.check(policy, SUBJECT).signed_at == SIGNED_AT.timestamp()
        assert signature.check(untimed, SUBJECT).signed_at is None


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
    with pytest.raises(SignatureError, match="not a signature of an image"):
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


LOGGED_TAG, LOGGED_BUNDLE = SIGSTORE.layer(IMAGE, REPOSITORY, OURS), SIGSTORE.bundle(IMAGE, OURS)
ENTRY = "dev.sigstore.cosign/bundle"


def with_entry_of(layer: tuple[bytes, dict[str, str]]) -> Signature:
    return tagged(LOGGED_TAG, bundle=layer[1][ENTRY])


def with_bundled_entry_of(document: Json) -> Signature:
    material = document["verificationMaterial"]
    return bundled(LOGGED_BUNDLE, lambda one: one["verificationMaterial"].update(tlogEntries=material["tlogEntries"]))


UNTIMED: dict[str, Signature] = {
    "tag: no entry": tagged(LOGGED_TAG, bundle=None),
    "tag: no JSON": tagged(LOGGED_TAG, bundle="{"),
    "tag: another kind of JSON": tagged(LOGGED_TAG, bundle="[1]"),
    "tag: another signature's": with_entry_of(SIGSTORE.layer(OTHER, REPOSITORY, OURS)),
    "tag: another key's": with_entry_of(SIGSTORE.layer(IMAGE, REPOSITORY, STRANGER)),
    "tag: a certificate's": with_entry_of(GOOD_TAG),
    "tag: another log's": with_entry_of(forged_root("log_key").layer(IMAGE, REPOSITORY, OURS)),
    "tag: before the log was trusted": with_entry_of(
        SIGSTORE.layer(IMAGE, REPOSITORY, OURS, at=datetime(2020, 1, 1, tzinfo=UTC))
    ),
    "tag: another time": tagged(
        LOGGED_TAG,
        bundle=LOGGED_TAG[1][ENTRY].replace(
            str(int(SIGNED_AT.timestamp())), str(int(SIGNED_AT.timestamp()) - 9_000_000)
        ),
    ),
    "bundle: no entry": bundled(LOGGED_BUNDLE, without_log),
    "bundle: something else": bundled(
        LOGGED_BUNDLE, lambda one: one["verificationMaterial"].update(tlogEntries=["x", 1])
    ),
    "bundle: no list": bundled(LOGGED_BUNDLE, lambda one: one["verificationMaterial"].update(tlogEntries={"a": 1})),
    "bundle: no promise": bundled(LOGGED_BUNDLE, lambda one: log_entry(one).pop("inclusionPromise")),
    "bundle: another signature's": with_bundled_entry_of(SIGSTORE.bundle(OTHER, OURS)),
    "bundle: another key's": with_bundled_entry_of(SIGSTORE.bundle(IMAGE, STRANGER)),
    "bundle: a certificate's": with_bundled_entry_of(GOOD_BUNDLE),
    "bundle: another log's": with_bundled_entry_of(forged_root("log_key").bundle(IMAGE, OURS)),
    "bundle: another time": bundled(LOGGED_BUNDLE, lambda one: log_entry(one).update(integratedTime="1600000000")),
    "bundle: a time that is none": bundled(LOGGED_BUNDLE, lambda one: log_entry(one).update(integratedTime="soon")),
    "bundle: a time without an end": bundled(
        LOGGED_BUNDLE, lambda one: log_entry(one).update(integratedTime=float("inf"))
    ),
    "bundle: another place": bundled(LOGGED_BUNDLE, lambda one: log_entry(one).update(logIndex="7")),
}


@pytest.mark.parametrize("name", UNTIMED)
def test_what_proves_no_time(name: str) -> None:
    """The key did sign; but an age that is counted from the time of the signature is not known then."""
    assert UNTIMED[name].check(LOGGED, SUBJECT).signed_at is None


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


def with_certificate(document: Json, der: bytes) -> Signature:
    return bundled(document, lambda one: one["verificationMaterial"].update(certificate={"rawBytes": b64(der)}))


def tamper(raw: bytes, place: int) -> bytes:
    """The same with one bit changed."""
    changed = bytearray(raw)
    changed[place] ^= 1
    return bytes(changed)


def pem_of(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"


GOOD_CERTIFICATE = SIGSTORE.certificate()
FROM_TAG, FROM_BUNDLE = (
    SIGSTORE.layer(IMAGE, REPOSITORY, GOOD_CERTIFICATE),
    SIGSTORE.bundle(IMAGE, GOOD_CERTIFICATE),
)
for place, what in ((-1, "signature"), (200, "body")):  # the leaf's own signature is at its end
    changed = tamper(GOOD_CERTIFICATE.der, place)
    BAD |= {
        f"tag: the certificate's {what} is tampered with": (
            PEOPLE,
            tagged(FROM_TAG, certificate=pem_of(changed)),
            "verify.payload",  # the log's entry has another one
        ),
        f"bundle: the certificate's {what} is tampered with": (
            PEOPLE,
            with_certificate(FROM_BUNDLE, changed),
            "verify.untrusted",
        ),
    }


def retired(part: str) -> Policy:
    """The same policy, but that a part of the trusted root was retired before the signature was made."""
    ended: dict[str, str] = {part: "2022-01-01T00:00:00Z"}
    return Policy("people", identities=PEOPLE.identities, root=load_trusted_root(SIGSTORE.trusted_root(**ended)))


for kind, make in (("tag", make_tagged), ("bundle", make_bundled)):
    BAD |= {
        f"{kind}: a certificate for another purpose": (
            PEOPLE,
            make(SIGSTORE, SIGSTORE.certificate(purpose=ExtendedKeyUsageOID.SERVER_AUTH)),
            "verify.untrusted",
        ),
        f"{kind}: a certificate that must not sign": (
            PEOPLE,
            make(SIGSTORE, SIGSTORE.certificate(may_sign=False)),
            "verify.untrusted",
        ),
        f"{kind}: two issuers": (
            PEOPLE,
            make(SIGSTORE, SIGSTORE.certificate(old_issuer="https://accounts.test")),
            "verify.untrusted",
        ),
        f"{kind}: an authority that was retired": (retired("authority"), make(SIGSTORE), "verify.untrusted"),
        f"{kind}: a log of certificates that was retired": (retired("ct"), make(SIGSTORE), "verify.untrusted"),
        f"{kind}: a log of signatures that was retired": (retired("log"), make(SIGSTORE), "verify.untrusted"),
        f"{kind}: signed before the certificate was valid": (
            PEOPLE,
            make(SIGSTORE, at=SIGNED_AT - timedelta(hours=1)),
            "verify.expired",
        ),
    }


def signed_statement(changes: Json) -> Json:
    """An envelope of a statement that says something else."""
    payload = json.dumps(json.loads(statement(IMAGE)) | changes).encode()
    return envelope(payload, sign(OURS.key, pae(payload)))


BAD |= {
    "bundle: cut envelope": (
        KEYS,
        bundled(OURS.bundle(IMAGE), lambda one: one["dsseEnvelope"].update(payload=b64(statement(IMAGE)[:-9]))),
        "verify.untrusted",
    ),
    "bundle: a cut statement, signed": (
        KEYS,
        bundled(
            {
                **OURS.bundle(IMAGE),
                "dsseEnvelope": envelope(statement(IMAGE)[:-9], sign(OURS.key, pae(statement(IMAGE)[:-9]))),
            }
        ),
        "verify.payload",
    ),
    "bundle: cut signature": (
        KEYS,
        bundled(
            {
                **OURS.bundle(IMAGE),
                "dsseEnvelope": envelope(statement(IMAGE), sign(OURS.key, pae(statement(IMAGE)))[:-3]),
            }
        ),
        "verify.untrusted",
    ),
    "bundle: a key twice": (
        KEYS,
        BundledSignature(json.dumps(OURS.bundle(IMAGE)).encode()[:-1] + b',"dsseEnvelope":{}}'),
        "verify.payload",
    ),
    "bundle: two envelopes in two spellings": (
        PEOPLE,  # the genuine one is about another image
        bundled(
            SIGSTORE.bundle(OTHER),
            lambda one: one.update(
                dsse_envelope=one["dsseEnvelope"], dsseEnvelope=envelope(statement(IMAGE), b"x" * 70)
            ),
        ),
        "verify.untrusted",
    ),
    "bundle: no subject": (
        KEYS,
        bundled({**OURS.bundle(IMAGE), "dsseEnvelope": signed_statement({"subject": []})}),
        "verify.payload",
    ),
    "bundle: a subject in capitals": (
        KEYS,
        bundled(
            {**OURS.bundle(IMAGE), "dsseEnvelope": signed_statement({"subject": [{"digest": {"SHA256": "1" * 64}}]})}
        ),
        "verify.payload",
    ),
    "bundle: a key and a certificate": (
        KEYS,
        bundled(
            GOOD_BUNDLE, lambda one: one["verificationMaterial"].update(OURS.bundle(IMAGE)["verificationMaterial"])
        ),
        "verify.untrusted",
    ),
    "bundle: a wrong inclusion proof": (
        PEOPLE,
        bundled(GOOD_BUNDLE, lambda one: log_entry(one)["inclusionProof"].update(rootHash=b64(b"\1" * 32))),
        "verify.untrusted",
    ),
    "bundle: a checkpoint of nobody": (
        PEOPLE,
        bundled(GOOD_BUNDLE, lambda one: log_entry(one)["inclusionProof"].update(checkpoint={"envelope": ""})),
        "verify.untrusted",
    ),
    "bundle: a promise of another log": (
        PEOPLE,
        bundled(
            GOOD_BUNDLE,
            lambda one: log_entry(one).update(
                inclusionPromise=log_entry(forged_root("log_key").bundle(IMAGE, GOOD_CERTIFICATE))["inclusionPromise"]
            ),
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
    layers = ((KEYS, OURS.layer(IMAGE, REPOSITORY)), (PEOPLE, GOOD_TAG), (LOGGED, LOGGED_TAG))
    for policy, (payload, annotations) in layers:
        good.append((policy, payload, partial(TagSignature, annotations=annotations), bytes))
        for key in filter(annotations.get, annotations):
            changed = partial(_with_annotation, payload, annotations, key)
            good.append((policy, annotations[key].encode(), changed, _meaning))
    for policy, document in ((KEYS, OURS.bundle(IMAGE)), (PEOPLE, GOOD_BUNDLE)):
        good.append((policy, json.dumps(document).encode(), BundledSignature, _meaning_of_bundle))
    promised = bundled(LOGGED_BUNDLE, lambda one: log_entry(one).pop("inclusionProof")).raw  # nobody asks for it
    good.append((LOGGED, promised, BundledSignature, _meaning_of_bundle))
    accepted = 0
    for number in range(count):
        policy, raw, sign_with, meaning = good[number % len(good)]
        wrong = bytearray(raw)
        wrong[rng.randrange(len(wrong))] ^= rng.randrange(1, 256)
        try:
            signer = sign_with(bytes(wrong)).check(policy, SUBJECT)
        except SignatureError:
            continue
        is_untimed = policy is LOGGED and signer.signed_at is None  # nothing of the log's word is believed then
        accepted += not is_untimed and meaning(bytes(wrong)) != meaning(raw)
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
        [one["canonicalizedBody"], one["integratedTime"], one["inclusionPromise"], one.get("inclusionProof", {})]
        for one in material.get("tlogEntries", [])
    ]
    signed = document["dsseEnvelope"]
    return [signed["payload"], [one["sig"] for one in signed["signatures"]], material.get("certificate"), entries]


def test_mutated_bytes() -> None:
    assert mutate(400) == 0


@pytest.mark.prove
def test_ten_thousand_mutated_bytes() -> None:
    assert mutate(10_000) == 0
