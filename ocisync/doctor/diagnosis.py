"""A published registry, seen from outside as its clients see it: what each of them trips over, and what mends it.

Look (`doctor_looks`), judge (`doctor_checks`, pure), and say what to do (`doctor_cures`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ocisync.doctor.causes import CLIENTS, Level
from ocisync.doctor.checks import CheckFinding, run_checks
from ocisync.doctor.observations import RegistryAddress, look
from ocisync.doctor.probe import Probe
from ocisync.doctor.remedies import cures_for, fronts_of
from ocisync.errors import InvalidName
from ocisync.model.digest import parse_digest
from ocisync.model.image_name import parse_name, split_tag


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found at a place; `fronts` is what seems to serve it."""

    place: RegistryAddress
    fronts: tuple[str, ...]
    findings: Sequence[CheckFinding]
    cures: Mapping[str, Mapping[str, str]]  # by the cause's code, then by the front that is to be changed
    looked_at: int  # requests

    def failing(self, clients: Collection[str] = CLIENTS) -> list[CheckFinding]:
        """What makes one of these clients fail."""
        wanted = set(clients)
        return [one for one in self.findings if one.cause.level is Level.FAILS and wanted & set(one.cause.clients)]

    def of_client(self, client: str) -> list[CheckFinding]:
        """What one client trips over."""
        return [one for one in self.findings if client in one.cause.clients]


async def examine(probe: Probe, place: RegistryAddress) -> Diagnosis:
    """Look at a registry as anonymous clients do; some twenty small requests."""
    sights = await look(probe, place)
    findings = run_checks(sights)
    fronts = fronts_of([seen.answer for seen in sights.all])
    cures = {one.cause.code: cures_for(one.cause.code, fronts, sights.place.host) for one in findings}
    return Diagnosis(sights.place, fronts, findings, cures, len(sights.all))


def parse_place(text: str) -> RegistryAddress:
    """Read `http[s]://HOST[:PORT][/NAME[:TAG|@DIGEST]]`.

    Raises:
        InvalidName: anything else.
    """
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        raise InvalidName(f"{text[:100]!r} cannot be examined: write https://HOST, or https://HOST/NAME:TAG")
    path = url.path.strip("/").removeprefix("v2").lstrip("/") if url.path.startswith("/v2/") else url.path.strip("/")
    name, at, digest = path.partition("@")
    name, tag = split_tag(name)
    root = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
    return RegistryAddress(root, parse_name(name) if name else "", parse_digest(digest) if at else tag)
