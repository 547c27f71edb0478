"""Policies of a configuration as rules use them: made once, and anew each day where the public root is trusted."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocisync.config.load import parse_config
from ocisync.config.models import VerifyPolicy
from ocisync.errors import ConfigError
from ocisync.sync.judging.acceptance import Acceptance
from ocisync.sync.ledger import MemoryLedger
from ocisync.trust.checker import PolicyChecker
from ocisync.trust.keyless import load_trusted_root
from ocisync.trust.policies import Policy
from ocisync.wiring.trust import Policies, make_policy
from tests.signatures import KeySigner, Sigstore

DAY = 24 * 3600.0
ROOTS = [Sigstore().trusted_root() for _ in range(3)]


@dataclass
class Maker:
    """Makes policies; what the extra fetches is another root each time, or an error."""

    fetched: int = 0
    is_down: bool = False

    def make(self, name: str, settings: VerifyPolicy) -> Policy:
        if not settings.keyless or settings.trusted_root:
            return make_policy(name, settings)
        if self.is_down:
            raise ConfigError("no network", code="verify.root")
        self.fetched += 1
        return Policy(name, root=load_trusted_root(ROOTS[self.fetched - 1]))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def made(tmp_path: Path, clock: Clock, maker: Maker) -> Policies:
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
    return Policies(parse_config(text, folder=tmp_path).verify, maker.make, clock)


async def root_of(made: Policies, name: str) -> bytes | None:
    checker = await made.open_checker(Acceptance((name,)), "", MemoryLedger())
    assert isinstance(checker, PolicyChecker)
    (policy,) = checker.policies
    return policy.root.raw if policy.root else None


async def test_the_public_root_is_fresh(made: Policies, clock: Clock, maker: Maker) -> None:
    assert await root_of(made, "public") == await root_of(made, "public") == ROOTS[0]
    clock.now = DAY - 1
    assert await root_of(made, "public") == ROOTS[0]
    clock.now = DAY
    assert await root_of(made, "public") == ROOTS[1]
    assert maker.fetched == 2


async def test_what_cannot_be_refreshed_stays_in_use_and_is_tried_again(
    made: Policies, clock: Clock, maker: Maker
) -> None:
    maker.is_down = True
    with pytest.raises(ConfigError, match=r"verify\.public"):  # there is none yet: nothing is taken
        await root_of(made, "public")
    maker.is_down = False
    await root_of(made, "public")
    maker.is_down, clock.now = True, DAY
    assert await root_of(made, "public") == ROOTS[0]
    maker.is_down = False
    assert await root_of(made, "public") == ROOTS[0]  # not at once: each job would wait for it
    clock.now += 3600
    assert await root_of(made, "public") == ROOTS[1]


async def test_files_are_read_once(made: Policies, clock: Clock, maker: Maker) -> None:
    first = await root_of(made, "private")
    clock.now = 30 * DAY
    assert await root_of(made, "private") == first
    assert await root_of(made, "ours") is None
    assert maker.fetched == 0
