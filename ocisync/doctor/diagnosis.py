"""A published registry, seen from outside as its clients see it: what each of them trips over, and what mends it.

Observe (`observations`), check (`checks`, pure), and say what to do (`remedies`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ocisync.doctor.causes import CLIENTS, Level
from ocisync.doctor.checks import CheckFinding, run_checks
from ocisync.doctor.observations import RegistryAddress, observe
from ocisync.doctor.probe import Probe
from ocisync.doctor.remedies import fronts_of, remedies_for
from ocisync.errors import InvalidName
from ocisync.model.digest import parse_digest
from ocisync.model.image_name import parse_name, split_tag
from ocisync.model.text.urls import split_url


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found at an address; `fronts` is what seems to serve it."""

    address: RegistryAddress
    fronts: tuple[str, ...]
    findings: Sequence[CheckFinding]
    remedies: Mapping[str, Mapping[str, str]]  # by the cause's code, then by the front that is to be changed
    requests: int  # sent

    def failing(self, clients: Collection[str] = CLIENTS) -> list[CheckFinding]:
        """What makes one of these clients fail."""
        wanted = set(clients)
        return [one for one in self.findings if one.cause.level is Level.FAILS and wanted & set(one.cause.clients)]

    def of_client(self, client: str) -> list[CheckFinding]:
        """What one client trips over."""
        return [one for one in self.findings if client in one.cause.clients]


async def examine(probe: Probe, address: RegistryAddress) -> Diagnosis:
    """Look at a registry as anonymous clients do; some twenty small requests."""
    observations = await observe(probe, address)
    findings = run_checks(observations)
    fronts = fronts_of([seen.answer for seen in observations.all])
    remedies = {one.cause.code: remedies_for(one.cause.code, fronts, observations.address.host) for one in findings}
    return Diagnosis(observations.address, fronts, findings, remedies, len(observations.all))


def parse_address(text: str) -> RegistryAddress:
    """Read `http[s]://HOST[:PORT][/NAME[:TAG|@DIGEST]]`.

    Raises:
        InvalidName: anything else.
    """
    url = split_url(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        raise InvalidName(f"{text[:100]!r} cannot be examined: write https://HOST, or https://HOST/NAME:TAG")
    path = url.path.strip("/").removeprefix("v2").lstrip("/") if url.path.startswith("/v2/") else url.path.strip("/")
    name, at, digest = path.partition("@")
    name, tag = split_tag(name)
    root = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
    return RegistryAddress(root, parse_name(name) if name else "", parse_digest(digest) if at else tag)
