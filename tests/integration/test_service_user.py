"""root beside the service: nothing that root does by hand locks the service out, and what is in the way is told."""

from __future__ import annotations

import os
import pwd
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.servers.command import Finished, run_ocisync
from tests.servers.images import docker_archive, make_image

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who becomes another user")
USER, PYTHON, SITE = "nobody", "/usr/bin/python3", sysconfig.get_path("purelib")
CONFIG = """version: 1
targets: {here: {type: static, path: ./registry}}
drop: [{name: builds, path: ./drop, target: here, settle: 0s}]
daemon: {state: ./state}
registries: {ghcr.io: {username: me, password: {env: OCISYNC_T_SERVICE}}}
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others may enter; pytest's own are for their owner only."""
    with TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def service(place: Path) -> dict[str, str]:
    """A folder of the user's own, with a configuration and the unit that runs with it."""
    home = place / "home"
    (home / "drop/team").mkdir(parents=True)
    (home / "ocisync.yaml").write_text(CONFIG)
    docker_archive(home / "drop/team/app.tar", {"a:1": make_image()})
    user = pwd.getpwnam(USER)
    for path in (home, *home.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    units = place / "units"
    units.mkdir()
    (units / "environment").write_text('# secrets\nOCISYNC_T_SERVICE="a word"\n')
    unit = (
        f"[Service]\nUser={USER}\nEnvironmentFile=-{units}/environment\nExecStart=/x/ocisync run -c {home}/ocisync.yaml"
    )
    (units / "ocisync.service").write_text(unit)
    return {"SYSTEMD_UNIT_PATH": str(units), "HOME": "/root"}


def owners(folder: Path) -> set[str]:
    return {pwd.getpwuid(path.lstat().st_uid).pw_name for path in (folder, *folder.rglob("*"))}


def run_as_root(*arguments: str | Path, env: dict[str, str]) -> Finished:
    """`ocisync` by the system's Python: the one of the tests may be below /root, for root only."""
    env = env | {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{SITE}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [PYTHON, "-m", "ocisync", *map(str, arguments)]
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False, timeout=60)
    return Finished(done.returncode, done.stdout, done.stderr, 0.0)


@pytest.fixture(scope="module")
def runs_as_user() -> None:
    """Only where the user may read this checkout, and the system's Python can run it."""
    command = [PYTHON, "-c", "import ocisync.cli.app, uvloop, pydantic_core, aiohttp"]
    env = {"PYTHONPATH": f"{ROOT}:{SITE}", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        code = subprocess.run(command, user=USER, env=env, cwd="/", capture_output=True, check=False).returncode
    except OSError:
        code = 1
    if code:
        pytest.skip(f"{USER} may not read this checkout, or the system's Python is another")


@pytest.mark.usefixtures("runs_as_user")
def test_root_works_as_the_service_and_with_its_variables(place: Path, service: dict[str, str]) -> None:
    home = place / "home"
    done = run_as_root("once", "-c", home / "ocisync.yaml", env=service).expect(0)
    assert f"running as {USER}, the user of ocisync.service" in done.stderr
    assert "1 copied" in done.stdout
    assert owners(home) == {USER}
    run_as_root("status", "-c", home / "ocisync.yaml", env=service).expect(0)
    run_as_root("gc", "here", "-c", home / "ocisync.yaml", env=service).expect(0)
    assert owners(home) == {USER}


def test_a_ledger_that_root_makes_belongs_to_the_folders_owner(place: Path, service: dict[str, str]) -> None:
    home = place / "home"
    env = service | {"SYSTEMD_UNIT_PATH": "/nonexistent", "OCISYNC_T_SERVICE": "x"}
    run_ocisync("once", "-c", home / "ocisync.yaml", env=env).expect(0)
    assert owners(home / "state") == {USER}


@pytest.mark.usefixtures("runs_as_user")
@pytest.mark.parametrize("command", ["once", "status", "run"])
def test_a_state_of_another_user_is_told(command: str, place: Path, service: dict[str, str]) -> None:
    home = place / "home"
    state = home / "state"
    state.mkdir(mode=0o700)  # root's, as it was made before
    (state / "ledger.sqlite3").touch(mode=0o600)
    done = run_as_root(command, "-c", home / "ocisync.yaml", env=service).expect(1)
    assert f"{state} belongs to root, and this process runs as {USER}" in done.stderr
    assert f"chown -R {USER}: {state}" in done.stderr


@pytest.mark.usefixtures("runs_as_user")
def test_a_file_that_the_service_may_not_read_or_not_move_is_told(place: Path, service: dict[str, str]) -> None:
    """root's own files in the drop folder: in the pass, and in the status until somebody mends it."""
    home = place / "home"
    file = home / "ocisync.yaml"
    file.write_text(CONFIG.replace("settle: 0s", "settle: 0s, stable: 0s, done: move"))
    (home / "drop/shut.tar").write_bytes((home / "drop/team/app.tar").read_bytes())
    (home / "drop/shut.tar").chmod(0)
    os.chown(home / "drop/team", 0, 0)  # the archive may be read, and not be moved away
    run_as_root("once", "-c", file, env=service).expect(1)
    for _ in range(2):
        told = run_as_root("status", "-c", file, env=service).expect(0).stdout
        assert (
            f"shut.tar skipped: it cannot be read by this user ({USER}): its mode is 0000 and it belongs to root"
            in told
        )
        assert "team/app.tar retry: it was published, but its file stays: " in told
        assert f"and of {home}/drop/team, which holds the file" in told
        assert (home / "registry/v2/a/manifests/1").exists()
    os.chown(home / "drop/team", pwd.getpwnam(USER).pw_uid, 0)
    (home / "drop/shut.tar").unlink()
    run_as_root("once", "-c", file, env=service)
    told = run_as_root("status", "-c", file, env=service).expect(0).stdout
    assert "team/app.tar" not in told
    assert (home / "drop/done/team/app.tar").exists()
