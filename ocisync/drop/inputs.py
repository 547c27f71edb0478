"""Group what lies in a drop folder into inputs, and decide which of them can be taken. Pure, with the time given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ocisync.bundles.inventory import INVENTORY, bundle_of
from ocisync.drop.naming import SetMemberPath, SingleArchive, classify, find_slip
from ocisync.drop.rule import DropRule, Incomplete
from ocisync.drop.scan import FolderEntry, Scan, Stamp
from ocisync.errors import InputError, InvalidName, OcisyncError
from ocisync.model.platform import Platform, is_same_platform
from ocisync.state.input_records import InputRecord, InputState, MemberRecord

SUPERSEDED = "input.superseded"  # the code of a record: nothing was published, because newer files have all names
_SLIP = "it looks like one platform's archive of a set, but not by its whole name"
MAX_WAIT = 3600.0  # seconds; back-off never waits longer, so a due time beyond it means that the clock was set


@dataclass(frozen=True, slots=True)
class InputMember:
    """One file of an input; the platform is what its name says."""

    entry: FolderEntry
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """What is published together: a single archive, or a set."""

    key: str  # a single archive's path; for a set NAME/TAG/, which no file can have
    members: tuple[InputMember, ...]
    name: str  # of the repository; for single archives what the path says, unchecked
    tag: str
    is_set: bool = False
    refusal: OcisyncError | None = None  # why it can never be published under this path
    waits: str = ""  # not to be published, only read: why a set with these files waits for others

    @property
    def stamps(self) -> dict[str, Stamp]:
        """Path -> what changes when the file does."""
        return {member.entry.relative: member.entry.stamp for member in self.members}


@dataclass(frozen=True, slots=True)
class Sighting:
    """Since when a file has been seen as it is."""

    stamp: Stamp
    since: float  # monotonic seconds


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by both clocks."""

    monotonic: float  # seconds
    wall: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether an input can be taken: `wait` seconds from now if nothing changes; infinite when files must come."""

    wait: float
    reason: str = ""
    lacks: str = ""  # the platforms that an incomplete set waits for
    overdue: bool = False  # the rule's time for incomplete sets is over
    refusal: OcisyncError | None = None  # it can be taken, to be refused
    stable: tuple[InputMember, ...] = ()  # the files of a set that waits that nobody writes to any more


def group(entries: Iterable[FolderEntry], layout: str, *, has_sets: bool = False) -> tuple[list[Input], list[str]]:
    """The inputs, in the order of their paths, and the paths whose names are no archive's.

    `has_sets`: the rule declares platforms, so that what only looks like a set's member is a slip in its name.
    """
    singles: list[Input] = []
    sets: dict[tuple[str, str], list[InputMember]] = {}
    others: list[str] = []
    for entry in entries:
        try:
            found = classify(entry.relative, layout, is_folder=entry.is_folder)
        except InvalidName as exc:
            singles.append(Input(entry.relative, (InputMember(entry),), "", "", refusal=exc))
            continue
        if found is None:
            others.append(entry.relative)
        elif isinstance(found, SingleArchive):
            wanted = find_slip(entry.relative, layout) if has_sets else ""
            refusal = InvalidName(f"{entry.relative}: {_SLIP}: call it {wanted}") if wanted else None
            name, tag = found.default_name, found.default_tag
            singles.append(Input(entry.relative, (InputMember(entry),), name, tag, refusal=refusal))
        else:
            _add_member(sets, found, entry)
    return [*singles, *(_make_set(name, tag, members) for (name, tag), members in sets.items())], others


def leave_bundles(found: Scan, rule: DropRule) -> None:
    """Take the files of bundles out of a look: a volume is a tar of a layout, but seldom a whole one.

    Where the rule does not take bundles, only what lies beside an inventory is one: other archives may be called so.
    """
    names = {entry.relative for entry in found.entries}
    ours: set[str] = set()
    for entry in found.entries:
        folder, slash, name = entry.relative.rpartition("/")
        bundle = None if entry.is_folder else bundle_of(name)
        if bundle is None:
            continue
        if rule.takes_bundles and not folder:
            ours.add(entry.relative)
        elif f"{folder}{slash}{bundle}{INVENTORY}" in names:
            ours.add(entry.relative)
            found.skipped[entry.relative] = "a bundle's file: give the rule `bundles:`, or run `ocisync bundle apply`"
    found.entries = [entry for entry in found.entries if entry.relative not in ours]


def observe(before: Mapping[str, Sighting], entries: Iterable[FolderEntry], now: float) -> dict[str, Sighting]:
    """Carry on how long each file has been as it is; `now` is monotonic."""
    return {
        entry.relative: known
        if (known := before.get(entry.relative)) is not None and known.stamp == entry.stamp
        else Sighting(entry.stamp, now)
        for entry in entries
    }


def readiness(dropped: Input, rule: DropRule, seen: Mapping[str, Sighting], now: Moment) -> Readiness:
    """When an input can be taken: its files stable, its set complete or settled."""
    growing = {member: rule.stable - _get_unwritten_time(member.entry, seen, now) for member in dropped.members}
    if (longest := max(growing.values())) > 0:
        stable = tuple(member for member, left in growing.items() if left <= 0)
        return Readiness(longest, "still being written", stable=stable)
    if not dropped.is_set or dropped.refusal:
        return Readiness(0)
    state = _find_set_readiness(dropped, rule, seen, now)
    return replace(state, stable=dropped.members) if state.wait > 0 else state


def _find_set_readiness(dropped: Input, rule: DropRule, seen: Mapping[str, Sighting], now: Moment) -> Readiness:
    missing = [wanted for wanted in rule.platforms if not _has_platform(dropped, wanted)]
    quiet = min(_get_quiet_time(member.entry, seen, now) for member in dropped.members)
    if missing:
        return _wait_for_missing(dropped, ", ".join(map(str, missing)), quiet, rule.incomplete)
    if quiet < rule.settle and not rule.platforms:
        return Readiness(rule.settle - quiet, "waits for more platforms")
    return Readiness(0)


def _wait_for_missing(dropped: Input, missing: str, quiet: float, policy: Incomplete | None) -> Readiness:
    if policy is None:
        return Readiness(math.inf, f"waits for {missing}", missing)
    if quiet < policy.after:
        return Readiness(policy.after - quiet, f"waits for {missing}", missing)
    if policy.action == "publish":
        return Readiness(0, overdue=True)
    problem = (
        f"{dropped.name}:{dropped.tag}: no file for {missing} came within {policy.after:g} seconds after the last one"
    )
    if policy.action == "fail":
        return Readiness(0, refusal=InputError(f"{problem}; drop the whole set again", code="set.incomplete"))
    return Readiness(math.inf, f"waits for {missing}; {problem}", missing, overdue=True)


def is_as_recorded(dropped: Input, record: InputRecord) -> bool:
    """Whether the files are those that were read, by their stamps; some of them may be gone."""
    known = {member.path: member for member in record.members}
    return all(_is_same(stamp, known.get(path)) for path, stamp in dropped.stamps.items())


def is_remnant(dropped: Input, record: InputRecord | None, rule: DropRule) -> bool:
    """Whether these files were published or refused before, and only their clearing away is left."""
    if record is None or record.state is InputState.WAITING or record.purpose != rule.purpose:
        return False
    return is_as_recorded(dropped, record)


def is_settled(dropped: Input, record: InputRecord | None, rule: DropRule) -> bool:
    """Whether nothing is left to do: published for this purpose, and its files stay."""
    if record is None or record.state is not InputState.DONE:
        return False
    stays = rule.done == "keep" or record.code == SUPERSEDED  # what was not published is never deleted
    return stays and is_remnant(dropped, record, rule)


def is_settled_whole(dropped: Input, record: InputRecord | None, rule: DropRule) -> bool:
    """Whether an input is settled and no file of it is gone, so that it can be published again as it was."""
    return record is not None and len(record.members) == len(dropped.members) and is_settled(dropped, record, rule)


def back_off_left(dropped: Input, record: InputRecord | None, now: float) -> float:
    """Seconds until an input that failed is due again; none when it changed or the clock was set."""
    if record is None or not is_as_recorded(dropped, record):
        return 0.0
    left = record.due - now
    return left if 0 < left <= MAX_WAIT else 0.0


def _is_same(stamp: Stamp, known: MemberRecord | None) -> bool:
    if known is None or (known.size, known.mtime_ns, known.inode) != (stamp.size, stamp.mtime_ns, stamp.inode):
        return False
    return known.ctime_ns in (0, stamp.ctime_ns)


def _add_member(sets: dict[tuple[str, str], list[InputMember]], found: SetMemberPath, entry: FolderEntry) -> None:
    sets.setdefault((found.name, found.tag), []).append(InputMember(entry, found.platform))


def _make_set(name: str, tag: str, members: list[InputMember]) -> Input:
    platforms = [member.platform for member in members]
    twice = next((platform for platform in platforms if platforms.count(platform) > 1), None)
    refusal = None
    if twice is not None:
        files = ", ".join(member.entry.relative for member in members if member.platform == twice)
        refusal = InputError(f"{name}:{tag}: several files for {twice}: {files}; keep one", code="set.ambiguous")
    return Input(f"{name}/{tag}/", tuple(members), name, tag, is_set=True, refusal=refusal)


def _has_platform(dropped: Input, wanted: Platform) -> bool:
    return any(member.platform is not None and is_same_platform(member.platform, wanted) for member in dropped.members)


def _get_unwritten_time(entry: FolderEntry, seen: Mapping[str, Sighting], now: Moment) -> float:
    age = now.wall - entry.stamp.mtime_ns / 1e9
    return max(_get_seen_time(entry, seen, now), age)


def _get_quiet_time(entry: FolderEntry, seen: Mapping[str, Sighting], now: Moment) -> float:
    return max(_get_seen_time(entry, seen, now), now.wall - entry.changed)


def _get_seen_time(entry: FolderEntry, seen: Mapping[str, Sighting], now: Moment) -> float:
    sighting = seen.get(entry.relative)
    return now.monotonic - sighting.since if sighting else 0.0
