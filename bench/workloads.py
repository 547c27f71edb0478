"""The workloads: deterministic, made once per working folder, and read by every run."""

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from pathlib import Path

from bench.storage import MIB, Repository, Storage, Stored, remove

MOVED = 10  # tags


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the workloads are; disk use is about eight times the largest that is run."""

    repositories: int = 50
    tags: int = 20
    indexes: int = 200
    images: int = 30
    image_bytes: int = 1_100_000_000  # of `typical`, distinct
    big_images: int = 4
    big_layer: int = 512 * MIB
    archive_bytes: int = 1_500_000_000
    scale_repositories: int = 10
    scale_tags: int = 10_000


TINY = Sizes(4, 4, 4, 6, 2_000_000, 1, 4 * MIB, 2_000_000, 2, 40)


@dataclass(frozen=True, slots=True)
class Workload:
    """A source registry's content; `moves` are the tags that the phase `moved` points elsewhere."""

    name: str
    storage: Storage
    repositories: Mapping[str, Repository]  # as far as tags show them
    moves: Mapping[tuple[str, str], str]

    @property
    def tags(self) -> list[tuple[str, str]]:
        """Every repository and tag."""
        return [(name, tag) for name, one in self.repositories.items() for tag in one.tags]

    @property
    def no_referrers(self) -> Path:
        """An index of nothing, which a static registry keeps beside every manifest without referrers."""
        return self.storage.path(self.storage.empty.digest)

    @contextmanager
    def moved(self) -> Iterator[None]:
        """The moved tags, until the block ends."""
        before = {(name, tag): self.repositories[name].tags[tag] for name, tag in self.moves}
        try:
            self._point(self.moves)
            yield
        finally:
            self._point(before)

    def _point(self, tags: Mapping[tuple[str, str], str]) -> None:
        for (repository, tag), digest in tags.items():
            self.storage.tag(repository, tag, digest)


Build = Callable[[Storage, Sizes], None]


def workload(name: str, work: Path, sizes: Sizes) -> Workload:
    """A workload, from the working folder where it was made before."""
    folder = work / f"{name}-{abs(hash(sizes)):x}"
    storage = Storage(folder / "storage")
    catalogue = folder / "catalogue.json"
    if not catalogue.exists():
        remove(folder)
        BUILDS[name](storage, sizes)
        storage.save(catalogue)
    else:
        storage.load(catalogue)
    shown = {place: _shown(storage, place) for place in storage.repositories}
    return Workload(name, storage, shown, _moves(storage, shown))


def build_many(storage: Storage, sizes: Sizes) -> None:
    """Many small images on shared bases, some of them for two platforms."""
    bases = [storage.layer(20_000, f"base-{n}") for n in range(5)]
    middles = [storage.layer(8_000, f"middle-{n}") for n in range(10)]
    every = max(1, sizes.repositories * sizes.tags // sizes.indexes)
    for r, t in product(range(sizes.repositories), range(sizes.tags)):
        name, shared = f"many/app-{r:02}", (bases[r % 5], middles[r % 10])
        make = partial(_small, storage, name, shared)
        root = _both(storage, name, make, f"{r}-{t}") if (r * sizes.tags + t) % every == 0 else make(f"{r}-{t}")
        storage.tag(name, f"v{t:02}", root.digest)
    for r in range(min(MOVED, sizes.repositories)):
        name = f"many/app-{r:02}"
        _small(storage, name, (bases[r % 5], middles[r % 10]), f"moved-{r}")


def build_typical(storage: Storage, sizes: Sizes) -> None:
    """Images of six layers, log-normal in size, of which 40 % are shared; ten repositories."""
    places = sizes.images * 6
    own, pool = places * 6 // 10, max(1, places // 15)
    lengths = _log_normal(own + pool, sizes.image_bytes)
    shared = [storage.layer(size, f"shared-{n}") for n, size in enumerate(lengths[:pool])]
    others = (storage.layer(size, f"own-{n}") for n, size in enumerate(lengths[pool:]))
    for n in range(sizes.images):
        name = f"typical/app-{n % 10:02}"
        count = 2 + n % 2 if sizes.images > 1 else 2
        layers = [shared[(n * 3 + k) % pool] for k in range(count)]
        layers += islice(others, 6 - count)
        storage.tag(name, f"v{n // 10}", storage.image(name, layers, f"{n}").digest)
    storage.image("typical/app-00", [storage.layer(100_000, "moved")], "moved")


def build_big(storage: Storage, sizes: Sizes) -> None:
    """Few images of large layers."""
    for n in range(sizes.big_images):
        name, large = f"big/app-{n}", sizes.big_layer
        layers = [storage.layer(size, f"big-{n}-{k}") for k, size in enumerate((large, *[large // 4] * 4))]
        storage.tag(name, "v0", storage.image(name, layers, f"{n}").digest)


def build_single(storage: Storage, sizes: Sizes) -> None:
    """One image of one large layer."""
    image = storage.image("single/app", [storage.layer(sizes.big_layer, "single")], "single")
    storage.tag("single/app", "v0", image.digest)


def build_scale(storage: Storage, sizes: Sizes) -> None:
    """Very many tags on one layer."""
    layer = storage.layer(1000, "scale")
    for n in range(sizes.scale_tags):
        name = f"scale/app-{n % sizes.scale_repositories:02}"
        storage.tag(name, f"v{n // sizes.scale_repositories:05}", storage.image(name, [layer], f"{n}").digest)


BUILDS: Mapping[str, Build] = {
    "many": build_many,
    "typical": build_typical,
    "big": build_big,
    "single": build_single,
    "scale": build_scale,
}


def _small(storage: Storage, name: str, shared: tuple[Stored, ...], seed: str, platform: str = "amd64") -> Stored:
    layers = (*shared, storage.layer(3000, f"{name}-{seed}-{platform}"))
    return storage.image(name, layers, f"{seed}-{platform}", platform)


def _both(storage: Storage, name: str, make: Callable[..., Stored], seed: str) -> Stored:
    return storage.index(name, [(make(seed, platform), platform) for platform in ("amd64", "arm64")])


def _shown(storage: Storage, name: str) -> Repository:
    """What a repository's tags show: the roots, what is below them, and their blobs."""
    whole = storage.repositories[name]
    shown = Repository(dict(whole.tags))
    waiting = [whole.manifests[digest] for digest in whole.tags.values()]
    while waiting:
        manifest = waiting.pop()
        shown.manifests[manifest.digest] = manifest
        document = json.loads(storage.path(manifest.digest).read_bytes())
        waiting += [whole.manifests[child["digest"]] for child in document.get("manifests", ())]
        blobs = [*document.get("layers", ()), *([document["config"]] if "config" in document else ())]
        shown.blobs |= {one["digest"]: whole.blobs[one["digest"]] for one in blobs}
    return shown


def _moves(storage: Storage, shown: Mapping[str, Repository]) -> dict[tuple[str, str], str]:
    """The first tags of each repository that holds images which no tag shows, and those."""
    moves: dict[tuple[str, str], str] = {}
    for name, one in shown.items():
        hidden = [digest for digest in storage.repositories[name].manifests if digest not in one.manifests]
        moves |= {(name, tag): digest for tag, digest in zip(sorted(one.tags), hidden, strict=False)}
    return moves


def _log_normal(count: int, total: int) -> list[int]:
    """Sizes from 1 KB to 40 MB that come to about `total` bytes."""
    source = random.Random("typical")
    drawn = [source.lognormvariate(0, 1.6) for _ in range(count)]
    largest = max(40_000_000 * total / 1_100_000_000, 2000)
    low, high = 0.0, float(total)
    for _ in range(60):  # the factor that brings the sum, cut at both ends, to the total
        middle = math.sqrt(low * high) if low else high / 2
        low, high = (middle, high) if sum(_cut(one * middle, largest) for one in drawn) < total else (low, middle)
    return [_cut(one * high, largest) for one in drawn]


def _cut(size: float, largest: float) -> int:
    return int(min(max(size, 1000), largest))
