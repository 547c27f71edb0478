"""One benchmark: its sizes, its clients, and what was measured."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure import Place, Source, Usage, median, run
from bench.peers import SECRET, Client
from bench.workloads import Sizes, Workload, workload
from tests.servers.tls import Certificate

READERS, WRITERS = 6, 16  # requests at a time: the configuration's defaults for registries and for S3

Key = tuple[str, str, str]  # case, phase, client


@dataclass(slots=True)
class Bench:
    """One benchmark, and what it has measured so far."""

    work: Path
    sizes: Sizes
    runs: int
    peers: Mapping[str, Client]
    tell: Callable[[str], None]
    repeats: int = 1  # of what takes a second or two, in each run: its times scatter more
    tls: Certificate | None = None  # of both registries; None: plain HTTP
    records: dict[Key, list[Usage]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def record(self, case: str, phase: str, client: str, usage: Usage) -> None:
        """Keep one run."""
        self.records.setdefault((case, phase, client), []).append(usage)
        self.tell(f"{case}, {phase}, {client}: {usage.wall:.2f} s, {usage.cpu:.2f} s of CPU")

    def get(self, case: str, phase: str, client: str) -> Usage | None:
        """The median of the runs, if there were any."""
        runs = self.records.get((case, phase, client))
        return median(runs) if runs else None

    def load(self, name: str) -> Workload:
        """A workload; made when it is not there."""
        self.tell(f"{name}: preparing")
        return workload(name, self.work, self.sizes)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for one run, on the disk of the workloads."""
        self.work.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.work, ignore_cleanup_errors=True) as folder:
            yield Path(folder)


def measured(command: list[str], folder: Path, source: Source, place: Place) -> Usage:
    """Run a command; what it used, and what both ends were asked meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    source.skip()
    place.skip()
    return place.since(source.since(run(command, folder, SECRET)))
