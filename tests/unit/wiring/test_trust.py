"""Policies of a configuration as rules use them: made once, and anew each day where the public root is trusted."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ocisync.config.load import parse_config
from ocisync.config.models import VerifyPolicy
from ocisync.config.sections.verify_policies import KeylessSigner
from ocisync.errors import ConfigError
from ocisync.sync.judging.acceptance import Acceptance
from ocisync.sync.ledger import MemoryLedger
from ocisync.trust.recorded_checker import RecordedChecker
from ocisync.wiring.trust import Policies, check_policies, fingerprint_policy
from tests.signatures import KeySigner, Sigstore

DAY = 24 * 3600.0
ROOTS = [Sigstore().trusted_root() for _ in range(3)]


@dataclass
class PublicRoot:
    """What the extra fetches: another root each time, or an error."""

    fetched: int = 0
    is_down: bool = False

    def read(self) -> bytes:
        if self.is_down:
            raise ConfigError("no network", code="verify.root")
        self.fetched += 1
        return ROOTS[self.fetched - 1]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def public() -> PublicRoot:
    return PublicRoot()


@pytest.fixture
def made(tmp_path: Path, clock: Clock, public: PublicRoot) -> Policies:
    signer = {"issuer": "https://a.example", "identity": "x"}
    (tmp_path / "root.json").write_bytes(ROOTS[0])
    (tmp_path / "key.pub").write_text(KeySigner().pem)
    verify = {
        "public": {"keyless": [signer]},
        "private": {"keyless": [signer], "trusted_root": "root.json"},
        "ours": {"keys": ["key.pub"]},
    }
    target = {"t": {"type": "static", "path": "r"}}
    text = json.dumps({"version": 1, "targets": target, "verify": verify})
    return Policies(parse_config(text, folder=tmp_path).verify, public.read, clock)


async def root_of(made: Policies, name: str) -> bytes | None:
    """The root that a policy is made with."""
    checker = await made.open_checker(Acceptance((name,)), "", MemoryLedger())
    assert isinstance(checker, RecordedChecker)
    (policy,) = (await checker.load()).policies
    return policy.root.raw if policy.root else None


async def test_the_public_root_is_fresh(made: Policies, clock: Clock, public: PublicRoot) -> None:
    assert await root_of(made, "public") == await root_of(made, "public") == ROOTS[0]
    clock.now = DAY - 1
    assert await root_of(made, "public") == ROOTS[0]
    clock.now = DAY
    assert await root_of(made, "public") == ROOTS[1]
    assert public.fetched == 2


async def test_what_cannot_be_refreshed_stays_in_use_and_is_tried_again(
    made: Policies, clock: Clock, public: PublicRoot
) -> None:
    public.is_down = True
    with pytest.raises(ConfigError, match=r"verify\.public"):  # there is none yet: nothing is taken
        await root_of(made, "public")
    public.is_down = False
    await root_of(made, "public")
    public.is_down, clock.now = True, DAY
    assert await root_of(made, "public") == ROOTS[0]
    public.is_down = False
    assert await root_of(made, "public") == ROOTS[0]  # not at once: each job would wait for it
    clock.now += 3600
    assert await root_of(made, "public") == ROOTS[1]


async def test_files_are_read_once(made: Policies, clock: Clock, public: PublicRoot) -> None:
    first = await root_of(made, "private")
    clock.now = 30 * DAY
    assert await root_of(made, "private") == first
    assert await root_of(made, "ours") is None
    assert public.fetched == 0


SETTINGS = VerifyPolicy(keys=(KeySigner().pem,))
SIGNER = KeylessSigner(issuer="https://a.example", identity="x")


def test_a_verdict_depends_on_all_of_a_policy() -> None:
    changes: list[dict[str, object]] = [
        {"keys": (KeySigner().pem,)},
        {"keyless": (SIGNER,)},
        {"keyless": (SIGNER.model_copy(update={"identity": "y"}),)},
        {"keyless": (SIGNER.model_copy(update={"issuer": "https://b.example"}),)},
        {"signed_as": ("x",)},
        {"predicates": ("x",)},
    ]
    settings = [SETTINGS, *(SETTINGS.model_copy(update=change) for change in changes)]
    found = {fingerprint_policy(one, root) for one in settings for root in (b"", ROOTS[0], ROOTS[1])}
    assert len(found) == 3 * len(settings)


def test_keys_that_cannot_be_used_are_found_before_they_are_needed() -> None:
    small = rsa.generate_private_key(65537, 1024)
    for key in (small, ec.generate_private_key(ec.SECP256K1())):
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        with pytest.raises(ConfigError, match=r"verify\.bad: a key is ECDSA"):
            check_policies({"good": SETTINGS, "bad": VerifyPolicy(keys=(pem,))})
