"""Debian's Ceph as child processes: one monitor, one OSD that keeps all in memory, and the S3 gateway."""

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

from .client import fetch
from .process import Child, free_port, running, wait_for

PROGRAMS = ("ceph-mon", "ceph-osd", "ceph-mgr", "radosgw", "radosgw-admin", "monmaptool")
INSTALLED = all(shutil.which(name) for name in PROGRAMS)
ACCESS_KEY, SECRET_KEY = "test-access", "test-secret"
ENV = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
_CONFIG = """[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{mon}]
auth cluster required = none
auth service required = none
auth client required = none
mon allow pool size one = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 2147483648
admin socket =
keyring = {folder}/keyring
run dir = {folder}
mon data = {folder}/mon
mgr data = {folder}/mgr
osd data = {folder}/osd
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw}
"""


@contextmanager
def ceph_rgw(folder: Path) -> Iterator[str]:
    """A cluster of one; the gateway's URL. It takes half a minute to come up, longer beside other work."""
    ports = {name: free_port() for name in ("mon", "rgw")}
    config = folder / "ceph.conf"
    for name in ("mon", "mgr", "osd", "rgw"):
        (folder / name).mkdir(parents=True)
    (folder / "keyring").touch()
    fsid = str(uuid.uuid4())
    config.write_text(_CONFIG.format(fsid=fsid, folder=folder, **ports))
    address = f"[v1:127.0.0.1:{ports['mon']}]"
    _run(folder, "monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, folder / "monmap")
    _run(folder, "ceph-mon", "--mkfs", "-i", "a", "--monmap", folder / "monmap", "-c", config)
    with ExitStack() as stack:
        _start(stack, folder, "ceph-mon", "-i", "a")
        _start(stack, folder, "ceph-mgr", "-i", "x")
        osd = str(uuid.uuid4())
        _run(folder, "ceph", "-c", config, "osd", "new", osd)
        _run(folder, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd, "-c", config)
        _start(stack, folder, "ceph-osd", "-i", "0")
        gateway = _start(stack, folder, "radosgw", "-n", "client.rgw")
        url = f"http://127.0.0.1:{ports['rgw']}"
        gateway.wait_until(lambda: _answers(url), "the gateway to answer", 600)
        keys = ("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
        _run(folder, "radosgw-admin", "-c", config, "user", "create", "--uid=test", "--display-name=test", *keys)
        yield url


def client(url: str) -> Any:
    """botocore's, which has no types."""
    settings = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    session = botocore.session.get_session()
    made = session.create_client("s3", region_name="default", endpoint_url=url, config=settings, **keys)
    wait_for(lambda: bool(made.list_buckets()), "the gateway to know its user")
    return made


def _start(stack: ExitStack, folder: Path, program: str, *arguments: str) -> Child:
    log = folder / f"{program}.d"
    log.mkdir()
    command = [program, "-f", *arguments, "-c", str(folder / "ceph.conf")]
    return stack.enter_context(running(command, log))


def _run(folder: Path, *command: str | Path) -> None:
    done = subprocess.run(list(command), capture_output=True, text=True, check=False, cwd=folder, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: exit {done.returncode}: {done.stderr[-2000:]}")


def _answers(url: str) -> bool:
    with suppress(OSError):
        return fetch("GET", f"{url}/").status == 200
    return False
