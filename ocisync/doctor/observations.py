"""What the doctor observes: answers to the requests that docker, containerd, podman, crane, oras and cosign send.

Spec: distribution v1.1.1, "Pull" and "Content Discovery".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from ocisync.doctor.probe import REDIRECTS, Observation, Probe
from ocisync.errors import InvalidName, OcisyncError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, digest_of, is_digest, sha256
from ocisync.model.digest_tags import fallback_tag
from ocisync.model.image_name import is_tag, parse_name
from ocisync.model.manifest import Manifest, parse_manifest

MOST_HOPS = 10  # redirects; Go's clients give up there
_MOST_CHILDREN = 20  # of an index, until one is there
ABSENT = Digest("sha256:" + "0" * 63 + "1")
ABSENT_TAG = "ocisync-doctor-looks-for-what-is-not-there"
_TYPES = (
    media_types.OCI_INDEX, media_types.OCI_MANIFEST, media_types.DOCKER_LIST, media_types.DOCKER_MANIFEST,
)  # fmt: skip
ACCEPT = {"Accept": ", ".join(_TYPES)}
UNPACKING = {"Accept-Encoding": "gzip"}  # what Go's HTTP client adds to every GET without a Range


@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """What is examined; `name` and `tag` may be empty: they are looked for."""

    root: str  # such as https://registry.example.com
    name: str = ""
    tag: str = ""

    @property
    def host(self) -> str:
        """As it stands in image names."""
        return urlsplit(self.root).netloc


@dataclass(slots=True)
class Observations:
    """Everything that was seen; None where it was not looked at."""

    address: RegistryAddress
    base: Observation
    below: Observation | None = None  # /<first component>/v2/, when /v2/ is not there
    catalog: Observation | None = None
    tags: Observation | None = None
    absent: list[Observation] = field(default_factory=list)  # each of it must be 404
    by_tag: Observation | None = None
    tag_head: Observation | None = None
    by_digest: Observation | None = None
    digest_head: Observation | None = None
    child: Observation | None = None
    children: Sequence[Descriptor] = ()
    config: Observation | None = None
    layer: Descriptor | None = None
    layer_head: Observation | None = None
    layer_part: Observation | None = None
    referrers: list[Observation] = field(default_factory=list)

    @property
    def digest(self) -> Digest | None:
        """What the tag's bytes hash to."""
        if self.by_tag is None or not self.by_tag.ok:
            return None
        name = self.address.tag
        raw = self.by_tag.answer.plain
        return digest_of(raw, Digest(name)) if is_digest(name) else sha256(raw)

    @property
    def all(self) -> list[Observation]:
        """Every question with its answer."""
        single = (
            self.base, self.catalog, self.tags, self.by_tag, self.tag_head, self.by_digest, self.digest_head,
            self.child, self.config, self.layer_head, self.layer_part,
        )  # fmt: skip
        return [seen for seen in (*single, *self.absent, *self.referrers) if seen is not None]


async def observe(probe: Probe, address: RegistryAddress) -> Observations:
    """Ask everything that clients would ask, as far as the answers lead."""
    observer = _Observer(probe, address.root)
    observations = Observations(address, await observer.get("/v2/"))
    if observations.base.answer.status in (0, 401):
        return observations
    await _find_image(observer, observations)
    if observations.address.name:
        await _observe_absent(observer, observations)
    if observations.address.tag:
        await _observe_image(observer, observations)
    if observations.address.name and not observations.base.ok:
        observations.below = await _observe_below_path(observer, observations.address.name)
    return observations


async def _observe_below_path(observer: _Observer, name: str) -> Observation:
    """Whether the first component is no part of the name but where the registry lies, such as a bucket."""
    first, _, rest = name.partition("/")
    seen = await observer.get(f"/{first}/v2/{rest}/tags/list") if rest else None
    return seen if seen is not None and seen.ok else await observer.get(f"/{first}/v2/")


@dataclass(frozen=True, slots=True)
class _Observer:
    probe: Probe
    root: str

    async def get(self, path: str, headers: Mapping[str, str] = UNPACKING) -> Observation:
        return await self._follow("GET", path, headers)

    async def head(self, path: str, headers: Mapping[str, str]) -> Observation:
        return await self._follow("HEAD", path, headers)

    async def _follow(self, method: str, path: str, headers: Mapping[str, str]) -> Observation:
        url = self.root + path
        hops: list[str] = []
        answer = await self.probe.ask(method, url, headers)
        while answer.status in REDIRECTS and answer.header("location"):
            if len(hops) == MOST_HOPS:
                return Observation(method, path, answer, tuple(hops), is_endless=True)
            url = _join_url(url, answer.header("location"))
            if not url:
                break
            hops.append(url)
            answer = await self.probe.ask(method, url, headers)
        return Observation(method, path, answer, tuple(hops))


def _join_url(base: str, location: str) -> str:
    """Where a redirect leads, or nothing when that is no address of a web server."""
    try:
        url = urljoin(base, location)
        return url if urlsplit(url).scheme in ("http", "https") else ""
    except ValueError:
        return ""


async def _find_image(observer: _Observer, observations: Observations) -> None:
    """Complete what the caller did not name."""
    name, tag = observations.address.name, observations.address.tag
    if not name:
        observations.catalog = await observer.get("/v2/_catalog")
        name = next((text for text in _list_texts(observations.catalog, "repositories") if _is_name(text)), "")
    if name:
        observations.tags = await observer.get(f"/v2/{name}/tags/list")
        known = [text for text in _list_texts(observations.tags, "tags") if is_tag(text)]
        tag = tag or ("latest" if "latest" in known or not known else known[-1])
    observations.address = RegistryAddress(observations.address.root, name, tag)


def _is_name(text: str) -> bool:
    try:
        return bool(parse_name(text))
    except InvalidName:
        return False


def _list_texts(seen: Observation, member: str) -> list[str]:
    document = seen.answer.json() if seen.ok else None
    found = document.get(member) if document else None
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


async def _observe_absent(observer: _Observer, observations: Observations) -> None:
    base = f"/v2/{observations.address.name}"
    signature = f"{fallback_tag(ABSENT)}.sig"
    for path in (
        f"{base}/manifests/{ABSENT_TAG}", f"{base}/manifests/{ABSENT}", f"{base}/manifests/{signature}",
        f"{base}/blobs/{ABSENT}",
    ):  # fmt: skip
        observations.absent.append(await observer.get(path, ACCEPT | UNPACKING))


async def _observe_image(observer: _Observer, observations: Observations) -> None:
    base = f"/v2/{observations.address.name}/manifests"
    observations.by_tag = await observer.get(f"{base}/{observations.address.tag}", ACCEPT | UNPACKING)
    observations.tag_head = await observer.head(f"{base}/{observations.address.tag}", ACCEPT)
    digest = observations.digest
    manifest = _parse(observations.by_tag)
    if digest is None or manifest is None:
        return
    observations.by_digest = await observer.get(f"{base}/{digest}", ACCEPT | UNPACKING)
    observations.digest_head = await observer.head(f"{base}/{digest}", ACCEPT)
    await _observe_child(observer, observations, manifest)
    subjects = [digest, *(child.digest for child in observations.children[:1])]
    for subject in subjects:
        observations.referrers.append(await observer.get(f"/v2/{observations.address.name}/referrers/{subject}"))


async def _observe_child(observer: _Observer, observations: Observations, manifest: Manifest) -> None:
    """One child of an index, one configuration, and a part of one layer."""
    if manifest.is_index:
        observations.children = manifest.children
        path = f"/v2/{observations.address.name}/manifests/"
        for child in manifest.children[:_MOST_CHILDREN]:  # a mirror may hold only some platforms
            observations.child = await observer.get(path + child.digest, ACCEPT | UNPACKING)
            found = _parse(observations.child) if observations.child.ok else None
            if found is not None and not found.is_index:
                observations.children = (child,)
                await _observe_child(observer, observations, found)
                return
        return
    await _observe_blobs(observer, observations, manifest)


async def _observe_blobs(observer: _Observer, observations: Observations, manifest: Manifest) -> None:
    blobs = f"/v2/{observations.address.name}/blobs/"
    if manifest.config is not None:
        observations.config = await observer.get(blobs + manifest.config.digest)
    observations.layer = max(manifest.layers, key=lambda layer: layer.size, default=None)
    if observations.layer is not None:
        observations.layer_head = await observer.head(blobs + observations.layer.digest, {})
        observations.layer_part = await observer.get(blobs + observations.layer.digest, {"Range": "bytes=1-2"})


def _parse(seen: Observation) -> Manifest | None:
    try:
        return parse_manifest(seen.answer.plain)
    except OcisyncError:
        return None
