"""Verification of a bundle's volumes: one pass over every byte, before anything is published.

The reader does not look into the tar to find out what is there. It computes what the inventory allows to be there
(`bundles.volume_layout`), and compares: a member more, a link, a path that leaves, another order, each is a difference.
"""

from __future__ import annotations

import hashlib
import resource
from array import array
from collections.abc import Generator
from dataclasses import dataclass, field

from ocisync.bundles.bundle_files import BundleFiles, OpenedInventory, last_sum, list_missing
from ocisync.bundles.inventory import INVENTORY
from ocisync.bundles.volume_layout import END, Member, VolumeMap, padding
from ocisync.content.files import READ, FileSection, InputFile, Spool
from ocisync.content.verify import Verifier
from ocisync.errors import BundleError, ManifestError, StoreError, VerificationError
from ocisync.model.digest import Digest, hasher_for, hex_of
from ocisync.model.manifest import parse_manifest
from ocisync.stores.archive.tar_writer import render_header


@dataclass(slots=True)
class OpenBundle:
    """A bundle whose volumes were verified and stay open."""

    map: VolumeMap
    volumes: list[InputFile] = field(default_factory=list)
    offsets: array[int] = field(default_factory=lambda: array("q"))  # in its volume, of what is whole there; by number
    parts: dict[Digest, list[FileSection]] = field(default_factory=dict)  # of what is cut
    spool: Spool | None = None  # manifests: they are read often
    manifests: dict[Digest, int] = field(default_factory=dict)  # offset in the spool

    def sections(self, digest: Digest) -> list[FileSection] | None:
        """Where a blob lies, part by part; None where it is not in this bundle."""
        entry = self.map.inventory.blobs.get(digest)
        if entry is None or not entry.volume:
            return None
        if digest in self.manifests and self.spool is not None:
            return [FileSection(self.spool, self.manifests[digest], entry.size)]
        if entry.parts:
            return self.parts[digest]
        offset = self.offsets[self.map.inventory.blobs.number(digest)]
        return [FileSection(self.volumes[entry.volume - 1], offset, entry.size)]

    def close(self) -> None:
        """Close the files."""
        for volume in self.volumes:
            volume.close()


def verify_bundle(files: BundleFiles, opened: OpenedInventory, bundle: OpenBundle) -> Generator[None, None, None]:
    """Read every byte of a bundle once, in steps of a thread; the volumes stay open in `bundle`.

    Raises:
        BundleError: something is missing, damaged, too much, or not what the inventory says.
        StoreError: it has more volumes than this process may have files open.
    """
    inventory = opened.inventory
    bundle.map.check_sizes()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2  # the rest is for other work
    if len(inventory.volumes) > most:
        raise StoreError(
            f"{inventory.id}: {len(inventory.volumes)} volumes, and {most} may be open at a time: raise the limit of "
            "open files (ulimit -n, or LimitNOFILE= in the unit)",
            code="limit.files",
        )
    bundle.offsets.extend([0] * len(inventory.blobs))
    if missing := list_missing(files, inventory):
        raise BundleError(f"{inventory.id}: {_names(missing)} missing", code="bundle.missing", volumes=missing)
    names = inventory.file_names
    for number, name in enumerate(names, 1):
        file = files.open(name)
        bundle.volumes.append(file)
        expected = bundle.map.whole_size(number, opened.size)
        if file.size != expected:
            how = "it was cut" if file.size < expected else "it is longer"
            raise BundleError(f"{name}: {file.size} bytes instead of {expected}: {how}, or is another bundle's")
    cut: dict[Digest, Verifier] = {}
    for number, name in enumerate(names, 1):
        yield from _Volume(bundle, number, name, cut).verify(opened, last_sum(files, inventory))


class _Volume:
    """One volume that is being read from its beginning to its end."""

    def __init__(self, bundle: OpenBundle, number: int, name: str, cut: dict[Digest, Verifier]) -> None:
        self._bundle = bundle
        self._number = number
        self._name = name
        self._cut = cut
        self._file = bundle.volumes[number - 1]
        self._hasher = hashlib.sha256()
        self._offset = 0
        self._last_step = 0  # the offset of the last pause

    def verify(self, opened: OpenedInventory, last: str | None) -> Generator[None, None, None]:
        inventory = opened.inventory
        for member in self._bundle.map.members(self._number):
            yield from self._read_member(member)
        volume = inventory.volumes[self._number - 1]
        if self._number < len(inventory.volumes):
            self._expect(END, "the end of the tar")
        if self._hasher.hexdigest() != volume.sha256:
            raise self._damage("its checksum differs from the inventory's")
        if self._number == len(inventory.volumes):
            name = inventory.id + INVENTORY
            self._expect(render_header(name, opened.size), name)
            yield from self._expect_inventory(opened, name)
            self._expect(bytes(padding(opened.size)) + END, "the end of the tar")
            if last is not None and last != self._hasher.hexdigest():
                raise self._damage("its checksum differs from SHA256SUMS")
        self._file.check()

    def _read_member(self, member: Member) -> Generator[None, None, None]:
        self._expect(render_header(member.name, member.size), member.name)
        self._note(member)
        hasher = hasher_for(member.digest) if member.digest else None
        check = self._check_of(member)
        manifest: list[bytes] | None = [] if member.digest and self._is_manifest(member.digest) else None
        left = member.size
        while left:
            chunk = self._read(min(left, READ))
            left -= len(chunk)
            if hasher is not None:
                hasher.update(chunk)
            if check is not None:
                check.update(chunk)
            if manifest is not None:
                manifest.append(chunk)
            if self._offset - self._last_step >= READ:  # a step for each of many small blobs would take longer than it
                self._last_step = self._offset
                yield
        if member.digest and hasher is not None and hasher.hexdigest() != member.digest.partition(":")[2]:
            raise self._damage(f"the content of {member.name} does not match its digest")
        if check is not None and member.piece is not None and member.piece.is_last:
            self._finish(check, member)
        if manifest is not None and member.digest is not None:
            self._keep_manifest(member.digest, b"".join(manifest))
        self._expect(bytes(padding(member.size)), f"what follows {member.name}")

    def _check_of(self, member: Member) -> Verifier | None:
        """What hashes a blob over all its parts."""
        if member.digest is not None or member.piece is None:
            return None
        digest = member.piece.digest
        return self._cut.setdefault(digest, Verifier(digest, member.piece.size))

    def _finish(self, check: Verifier, member: Member) -> None:
        try:
            check.finish()
        except VerificationError as exc:
            raise self._damage(f"the parts that end with {member.name} do not match their digest") from exc

    def _note(self, member: Member) -> None:
        piece = member.piece
        if piece is None:
            return
        if piece.is_cut:
            section = FileSection(self._file, self._offset, piece.length)
            self._bundle.parts.setdefault(piece.digest, []).append(section)
        else:
            blobs = self._bundle.map.inventory.blobs
            self._bundle.offsets[blobs.number(piece.digest)] = self._offset

    def _is_manifest(self, digest: Digest) -> bool:
        entry = self._bundle.map.inventory.blobs.get(digest)
        return entry is not None and bool(entry.media_type)

    def _keep_manifest(self, digest: Digest, raw: bytes) -> None:
        entry = self._bundle.map.inventory.blobs[digest]
        try:
            parse_manifest(raw, entry.media_type)
        except ManifestError as exc:
            raise BundleError(
                f"{self._name}: {digest} is not the manifest that it is said to be: {exc.message}"
            ) from exc
        if self._bundle.spool is not None:
            self._bundle.manifests[digest] = offset = self._bundle.spool.reserve(len(raw))
            self._bundle.spool.write_at(offset, raw)

    def _read(self, length: int) -> bytes:
        data = self._file.read_at(self._offset, length)
        self._offset += length
        self._hasher.update(data)
        return data

    def _expect_inventory(self, opened: OpenedInventory, name: str) -> Generator[None, None, None]:
        hasher, left = hasher_for(opened.digest), opened.size
        while left:
            chunk = self._read(min(left, READ))
            left -= len(chunk)
            hasher.update(chunk)
            yield
        if hasher.hexdigest() != hex_of(opened.digest):
            raise self._damage(f"at its end there is not {name}, or the one beside it differs")

    def _expect(self, expected: bytes, what: str) -> None:
        """Read what is known beforehand."""
        for start in range(0, len(expected), READ):
            piece = expected[start : start + READ]
            if self._read(len(piece)) != piece:
                raise self._damage(f"at byte {self._offset - len(piece)} there is not {what[:200]}")

    def _damage(self, what: str) -> BundleError:
        return BundleError(
            f"{self._name}: {what}: it is damaged, or not a volume of this bundle",
            code="bundle.damaged",
            volume=self._name,
        )


def _names(missing: list[str]) -> str:
    shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    return f"{shown} {'is' if len(missing) == 1 else 'are'}"
