"""Bundles with many blobs and with huge ones take little memory; tests/prove has it with 100,000 and 40 GiB."""

import shutil
from pathlib import Path

from tests.integration.big import MIB, Measured, measured
from tests.integration.bundle_scale import Content, holes_dug, huge, made_up_registry, many
from tests.integration.mainjob import ENV, write_config
from tests.servers.command import run_ocisync

LIMIT = 128 * MIB


def _measure(what: str, *arguments: str | Path) -> Measured:
    done = measured("bundle", *arguments, env=ENV, timeout=3000)
    assert done.code == 0, done.output[-3000:]
    print(f"{what}: {done.peak / MIB:.0f} MiB at most, {done.seconds:.1f} s")  # noqa: T201 (the proof's figure)
    assert done.peak <= LIMIT, f"{what}: {done.peak / MIB:.0f} MiB"
    return done


def prove_many(folder: Path, repositories: int, images: int, layers: int) -> None:
    """A full bundle, its application, and a delta of one image more."""
    content = Content()
    many(content, repositories, images, layers)
    with made_up_registry(content) as host:
        rules = [
            {"name": f"r{number}", "source": f"{host}/many/r{number}", "target": f"out/many/r{number}"}
            for number in range(repositories)
        ]
        file = write_config(folder, {"out": {"type": "static", "path": str(folder / "out")}}, sync=rules)
        media = folder / "media"
        names = [str(rule["name"]) for rule in rules]
        create: list[str | Path] = ["create", *names, "--name", "many", "-o", media, "-c", file]
        blobs = repositories * images * (layers + 2)
        _measure(f"{blobs} blobs, create", *create)
        receipts: list[str | Path] = ["--receipts", folder / "receipts", "-c", file]
        _measure(f"{blobs} blobs, apply", "apply", media, "--target", "out", *receipts)
        content.add("many/r0", "more", [(digest, len(body)) for digest, body in _some(content)])
        _measure("a delta, create", *create, "--base", media / "many-0001.bundle.json")
        _measure("a delta, apply", "apply", media / "many-0002", "--target", "out", *receipts)
        shutil.rmtree(folder / "out")


def _some(content: Content) -> list[tuple[str, bytes]]:
    return [(digest, body) for digest, body in list(content.blobs.items())[:3] if isinstance(body, bytes)]


def prove_huge(folder: Path, size: int, volume: str) -> None:
    """One blob of zeros, cut into volumes and joined again; on the disk it becomes sparse while it is written."""
    content = Content()
    digest = huge(content, size)
    with made_up_registry(content) as host:
        rule = {"name": "huge", "source": f"{host}/huge/app", "target": "out"}
        file = write_config(folder, {"out": {"type": "static", "path": str(folder / "out")}}, sync=[rule])
        media = folder / "media"
        what = f"a blob of {size / MIB / 1024:g} GiB"
        with holes_dug(media):
            _measure(f"{what}, create", "create", "huge", "-o", media, "-c", file, "--volume", volume)
        _measure(f"{what}, inspect --deep", "inspect", media, "--deep")
        receipts = ("--receipts", folder / "receipts", "-c", file)
        with holes_dug(folder / "out"):
            _measure(f"{what}, apply", "apply", media, "--target", "out", *receipts)
        assert (folder / f"out/v2/huge/app/blobs/{digest}").stat().st_size == size
        run_ocisync("verify", "out", "-c", file, env=ENV, timeout=3000).expect(0)
    shutil.rmtree(media)


def test_many_blobs(tmp_path: Path) -> None:
    prove_many(tmp_path, repositories=2, images=6, layers=50)


def test_a_huge_blob(tmp_path: Path) -> None:
    prove_huge(tmp_path, 300 * MIB, "100MiB")
