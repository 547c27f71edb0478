"""The numbers to reach: each with its figure from this run, its bound, and whether it holds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import compression, copies, passes, threads
from bench.measure import Requests, Usage
from bench.record import Bench
from bench.workloads import Workload, workload

MIB = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Number:
    """One figure against its bound; both in the same unit, smaller is better."""

    what: str
    figure: float
    bound: float
    unit: str = "×"
    bare: float | None = None  # what a bare client comes to that sends the same and does nothing else

    @property
    def holds(self) -> bool:
        """Whether it is reached."""
        return self.figure <= self.bound

    @property
    def cells(self) -> tuple[str, ...]:
        """For a table."""
        figure, bound = (f"{value:.4g} {self.unit}" for value in (self.figure, self.bound))
        bare = "" if self.bare is None else f"{self.bare:.4g} {self.unit}"
        return (self.what, figure, f"<= {bound}", "pass" if self.holds else "FAIL", bare)


def numbers(bench: Bench) -> list[Number]:
    """What the cases that ran have to show."""
    return [number for judge in _JUDGES for number in judge(bench)]


def _many_warm(bench: Bench) -> Iterator[Number]:
    ours, skopeo = bench.get("many", "warm", "ocisync"), bench.get("many", "warm", "skopeo")
    bare = bench.get("many", "warm, no ledger", "ocisync")
    if ours and skopeo and bare:
        asked = bench.get("many to directory", "warm, daemon", passes.HEADS)
        least = asked.wall / skopeo.wall if asked else None
        yield Number("many warm, wall / skopeo sync", ours.wall / skopeo.wall, 0.15, bare=least)
        yield from _asked_little("many warm", bench, ours)
        yield Number("many warm without a ledger, wall / skopeo sync", bare.wall / skopeo.wall, 0.25)
    told = bench.get("many", "warm, no ledger, validates", "ocisync")
    if told and skopeo:
        yield Number("the same with `validates: true`, wall / skopeo sync", told.wall / skopeo.wall, 0.25)


def _asked_little(what: str, bench: Bench, usage: Usage) -> Iterator[Number]:
    load = workload("many", bench.work, bench.sizes)
    repositories = len(load.repositories)
    wanted = Requests({"HEAD manifest": len(load.tags), "GET tags": repositories})
    if usage.source:
        more = _more(usage.source, wanted)
        yield Number(f"{what}, requests at the source beyond a HEAD per tag and a list", more, 0, "")
    yield Number(f"{what}, requests at the target per repository", usage.target.total() / repositories, 2, "")


def _many_daemon(bench: Bench) -> Iterator[Number]:
    for kind in ("directory", "S3"):
        case = f"many to {kind}"
        ours, same = bench.get(case, "warm, daemon", "ocisync"), bench.get(case, "warm, daemon", passes.SAME)
        for client in (passes.HEADS, passes.CONDITIONAL):
            asked = bench.get(case, "warm, daemon", client)
            if ours and same and asked:
                what = f"{case}, warm pass of the daemon, wall / {client}"
                yield Number(what, ours.wall / asked.wall, 1.25, bare=same.wall / asked.wall)
        if ours:
            yield from _asked_little(f"{case}, warm pass of the daemon", bench, ours)


def _many_cold(bench: Bench) -> Iterator[Number]:
    ours, skopeo = bench.get("many", "cold", "ocisync"), bench.get("many", "cold", "skopeo")
    if ours and skopeo:
        least = _bare("many", bench, lambda usage: usage.wall / skopeo.wall)
        yield Number("many cold, wall / skopeo sync", ours.wall / skopeo.wall, 0.30, bare=least)
        wanted = needed(workload("many", bench.work, bench.sizes))
        yield Number("many cold, requests at the target beyond those needed", _more(ours.target, wanted), 0, "")


def _many_s3(bench: Bench) -> Iterator[Number]:
    ours, puts = bench.get("many to S3", "cold", "ocisync"), bench.get("many to S3", "cold", "bare PUTs")
    if ours and puts:
        objects = bench.counts["many objects"]
        least = _bare("many to S3", bench, lambda usage: usage.wall / puts.wall)
        yield Number("many to S3 cold, wall / bare PUTs", ours.wall / puts.wall, 1.2, bare=least)
        least = _bare("many to S3", bench, lambda usage: 1000 * usage.cpu / objects)
        yield Number("many to S3 cold, CPU per object", 1000 * ours.cpu / objects, 0.5, "ms", least)


def _large(bench: Bench) -> Iterator[Number]:
    for case, most in (("typical", 1.25), ("big", 1.05)):
        ours, bare = bench.get(case, "cold", "ocisync"), bench.get(case, "cold", threads.NAME)
        peers = {name: usage for name in bench.peers if (usage := bench.get(case, "cold", name))}
        if ours and peers:
            name, fastest = min(peers.items(), key=lambda one: one[1].wall)
            least = bare.wall / fastest.wall if bare else None
            yield Number(f"{case} cold, wall / {name}, the fastest peer", ours.wall / fastest.wall, 1.0, bare=least)
            for name, bound in (("regsync", most), ("skopeo", 0.5)):
                if name in peers:
                    least = bare.cpu / peers[name].cpu if bare else None
                    yield Number(f"{case} cold, CPU / {name}", ours.cpu / peers[name].cpu, bound, bare=least)
        yield from _large_s3(bench, f"{case} to S3")


def _large_s3(bench: Bench, case: str) -> Iterator[Number]:
    ours, puts, gets = (bench.get(case, "cold", client) for client in ("ocisync", "bare PUTs", "bare GETs"))
    if ours and puts and gets:
        larger = max(puts.wall, gets.wall)
        bare = bench.get(case, "cold", threads.NAME)
        least = bare.wall / larger if bare else None
        yield Number(f"{case} cold, wall / larger of bare GETs and PUTs", ours.wall / larger, 1.1, bare=least)


def _bare(case: str, bench: Bench, figure: Callable[[Usage], float]) -> float | None:
    copied = bench.get(case, "cold", copies.NAME)
    return figure(copied) if copied else None


def _single(bench: Bench) -> Iterator[Number]:
    ours, piped = bench.get("single", "cold", "ocisync"), bench.get("single", "cold", "curl | openssl")
    if ours and piped:
        yield Number("one large blob to a directory, wall / curl | openssl", ours.wall / piped.wall, 1.3)


def _archive(bench: Bench) -> Iterator[Number]:
    ours, skopeo = bench.get("archive", "cold", "ocisync"), bench.get("archive", "cold", "skopeo")
    rebuilt = bench.get("archive", "rebuilt", "ocisync")
    if ours and skopeo and rebuilt:
        bare, to_s3 = bench.get("archive", "cold", compression.NAME), bench.get("archive to S3", "cold", "ocisync")
        walls, cpus = (bare.wall / skopeo.wall, bare.cpu / skopeo.cpu) if bare else (None, None)
        yield Number("archive cold, wall / skopeo copy", ours.wall / skopeo.wall, 0.45, bare=walls)
        yield Number("archive cold, CPU / skopeo copy", ours.cpu / skopeo.cpu, 0.45, bare=cpus)
        if to_s3:
            yield Number("archive to S3 cold, CPU / skopeo copy", to_s3.cpu / skopeo.cpu, 0.45, bare=cpus)
        yield Number("archive rebuilt, wall / our own cold", rebuilt.wall / ours.wall, 0.25)


def _memory(bench: Bench) -> Iterator[Number]:
    peaks = {key: max(usage.peak for usage in runs) for key, runs in bench.records.items() if key[2] == "ocisync"}
    if peaks:
        worst = max(peaks, key=lambda key: peaks[key])
        yield Number(f"peak of memory, largest: {worst[0]} {worst[1]}", peaks[worst] / MIB, 128, "MiB")
    typical, big = peaks.get(("typical", "cold", "ocisync")), peaks.get(("big", "cold", "ocisync"))
    if typical and big:
        yield Number("peak of memory, big / typical", big / typical, 1.1)
    many, scale = peaks.get(("many", "warm", "ocisync")), peaks.get(("scale", "warm", "ocisync"))
    if many and scale and bench.counts["scale"] > bench.counts["many"]:
        tags = bench.counts["scale"] - bench.counts["many"]
        yield Number("peak of memory, scale over many, per tag", (scale - many) / tags / 1024, 4, "KiB")


def _scale(bench: Bench) -> Iterator[Number]:
    many, scale = bench.get("many", "warm", "ocisync"), bench.get("scale", "warm", "ocisync")
    if many and scale:
        per_tag = many.wall / bench.counts["many"]
        yield Number("scale warm, time per tag / many's", scale.wall / bench.counts["scale"] / per_tag, 1.1)


def _start(bench: Bench) -> Iterator[Number]:
    for phase, bound in (("--help", 0.25), ("config check", 0.5)):
        if usage := bench.get("start", phase, "ocisync"):
            yield Number(f"ocisync {phase}, CPU", usage.cpu, bound, "s")


_JUDGES: tuple[Callable[[Bench], Iterator[Number]], ...] = (
    _many_warm,
    _many_daemon,
    _many_cold,
    _many_s3,
    _large,
    _single,
    _archive,
    _memory,
    _scale,
    _start,
)


def needed(load: Workload) -> Requests:
    """What an empty target must be asked: POST and PUT per blob, a mount where it is elsewhere, a PUT per manifest."""
    found: Requests = Requests()
    known: set[str] = set()
    for one in load.repositories.values():
        found["GET tags"] += 1
        found["PUT manifest"] += len(one.tags) + len(one.manifests.keys() - one.tags.values())
        for digest in one.blobs:
            found.update(["POST mount"] if digest in known else ["POST upload", "PUT upload"])
            known.add(digest)
    return found


def _more(found: Requests, wanted: Requests) -> int:
    return (found - wanted).total()
