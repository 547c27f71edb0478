"""Uploads into a drop folder that pause: cut off for a while, into reserved space, compressed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import IO

from tests.integration.mainjob import Directory, tags, write_config
from tests.servers.command import daemon
from tests.servers.images import docker_archive, image_of, noise, tar
from tests.servers.process import wait_for

KINDS = ("cut", "reserved", "closed", "compressed")


def upload_with_pauses(tmp_path: Path, pauses: Sequence[float], seed: int, deadline: float) -> list[str]:
    """Upload one archive per pause in seconds, all at once; what ended in the failed folder, once all are published."""
    place, chance, folder = Directory(tmp_path / "registry"), random.Random(seed), tmp_path / "drop"
    drop = {"name": "d", "path": str(folder), "target": "out", "stable": "200ms", "rescan": "1s"}
    file = write_config(tmp_path, {"out": place.settings}, drop=[drop])
    folder.mkdir()
    uploads = []
    for number, pause in enumerate(pauses):
        kind = KINDS[number % len(KINDS)]
        image = image_of([tar({"data": noise(100_000, f"{seed} {number}")})])
        path = docker_archive(tmp_path / f"whole{number}", {f"app:{number}": image}, compress=kind == "compressed")
        data = path.read_bytes()
        uploads.append((folder / f"{number}.tar", data, chance.randrange(512, len(data)), pause, kind))
    with daemon(file), ThreadPoolExecutor(len(uploads)) as threads:
        for done in [threads.submit(_upload, *upload) for upload in uploads]:
            done.result()
        wanted = {str(number) for number in range(len(uploads))}
        wait_for(lambda: wanted <= set(tags(place, "app")), "all uploads to be published", deadline)
    return [path.name for path in (folder / "failed").rglob("*.tar")]


def _upload(path: Path, data: bytes, cut: int, pause: float, kind: str) -> None:
    file: IO[bytes] = path.open("wb")
    if kind == "reserved":
        file.truncate(len(data))
    file.write(data[:cut])
    file.flush()
    if kind == "closed":  # as a client does that opens the file anew for each part
        file.close()
    Event().wait(pause)
    if kind == "closed":
        file = path.open("r+b")
        file.seek(cut)
    file.write(data[cut:])
    file.close()
