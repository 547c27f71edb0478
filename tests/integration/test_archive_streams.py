"""Archives through pipes and links: nothing special is ever replaced by a file."""

import io
import os
import stat
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from tests.servers.command import run_ocisync
from tests.servers.images import docker_archive, make_image, oci_archive

IMAGE = make_image()


def piped(*arguments: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """`ocisync` with bytes on both sides."""
    command = [sys.executable, "-m", "ocisync", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_an_archive_goes_to_standard_output(kind: str, tmp_path: Path) -> None:
    source = oci_archive(tmp_path / "a.tar", {"team/app:1": IMAGE})
    done = piped("copy", source, f"{kind}:-")
    assert done.returncode == 0
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert "manifest.json" in archive.getnames()
    assert IMAGE.digest.encode() in done.stderr
    run_ocisync("copy", source, f"{kind}:{tmp_path}/b.tar").expect(0)
    assert (tmp_path / "b.tar").read_bytes() == done.stdout


@pytest.mark.parametrize("source", ["oci-archive:-", "docker-archive:-", "-", "/dev/stdin"])
@pytest.mark.parametrize("compress", [False, True])
def test_an_archive_comes_from_standard_input(source: str, compress: bool, tmp_path: Path) -> None:
    make = docker_archive if source == "docker-archive:-" else oci_archive
    data = make(tmp_path / "a.tar", {"team/app:1": IMAGE}, compress=compress).read_bytes()
    done = piped("copy", source, f"static:{tmp_path}/registry//team/app:1", data=data)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "registry/v2/team/app/manifests/1").exists()


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    source = oci_archive(tmp_path / "a.tar", {"team/app:1": IMAGE})
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    run_ocisync("copy", source, f"oci-archive:{pipe}").expect(0)
    reader.join(timeout=60)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert b"index.json" in received[0]


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    source = oci_archive(tmp_path / "a.tar", {"team/app:1": IMAGE})
    run_ocisync("copy", source, "oci-archive:/dev/null").expect(0)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_link_is_followed(tmp_path: Path) -> None:
    source = oci_archive(tmp_path / "a.tar", {"team/app:1": IMAGE})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.tar").symlink_to("elsewhere/real.tar")
    run_ocisync("copy", source, f"oci-archive:{tmp_path}/link.tar").expect(0)
    assert (tmp_path / "link.tar").is_symlink()
    assert tarfile.is_tarfile(tmp_path / "elsewhere/real.tar")


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    source = oci_archive(tmp_path / "a.tar", {"team/app:1": IMAGE})
    (tmp_path / "out.tar").mkdir()
    assert "a folder is there" in run_ocisync("copy", source, f"oci-archive:{tmp_path}/out.tar").expect(1).stderr


def test_nothing_on_standard_input_is_no_archive(tmp_path: Path) -> None:
    done = piped("copy", "oci-archive:-", f"static:{tmp_path}/registry//team/app:1")
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
