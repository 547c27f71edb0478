"""docker, containerd's ctr, podman and buildah, with stores of their own, where they are installed; as root only."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .process import Child

COMMANDS = ("dockerd", "/usr/bin/docker", "ctr", "podman", "buildah", "skopeo", "umoci")
MISSING = [name for name in COMMANDS if shutil.which(name) is None]
_DOCKERD = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs")


@dataclass(frozen=True, slots=True)
class ContainerTools:
    """Runs each tool to its end; every method raises RuntimeError with what it said when it fails."""

    folder: Path

    def docker(self, *arguments: str | Path, check: bool = True) -> str:
        """Debian's docker, against its own daemon."""
        return self.run("/usr/bin/docker", "-H", f"unix://{self.folder}/docker.sock", *arguments, check=check)

    def ctr(self, *arguments: str | Path) -> str:
        """containerd's own client, against the containerd that dockerd brings along."""
        return self.run("ctr", "-a", self.folder / "exec/containerd/containerd.sock", *arguments)

    def podman(self, *arguments: str | Path) -> str:
        """podman without a daemon."""
        return self.run("podman", "--cgroup-manager", "cgroupfs", "--events-backend", "file", *arguments)

    def buildah(self, *arguments: str | Path) -> str:
        """buildah, in podman's store."""
        return self.run("buildah", *arguments)

    def run(self, *command: str | Path, check: bool = True) -> str:
        """Any command in the tools' environment; what it printed."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "DOCKER_BUILDKIT": "1",
        }
        done = subprocess.run(
            [*map(str, command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=env,
            cwd=self.folder,
            timeout=120,
            check=False,
        )
        said = done.stdout.decode(errors="replace")
        if check and done.returncode:
            raise RuntimeError(f"{command}: exit {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
        return said if check else said + done.stderr.decode(errors="replace")


@contextmanager
def container_tools(folder: Path) -> Iterator[ContainerTools]:
    """The tools, with a running dockerd."""
    folder.mkdir(parents=True)
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver="vfs"\nrunroot="{folder}/run"\ngraphroot="{folder}/store"\n'
    )
    places = (f"--data-root={folder}/docker", f"--exec-root={folder}/exec", f"--pidfile={folder}/docker.pid")
    daemon = Child(["dockerd", *_DOCKERD, *places, "-H", f"unix://{folder}/docker.sock"], folder)
    try:
        daemon.wait_until(lambda: "API listen on" in daemon.output, "dockerd to listen", 60)
        yield ContainerTools(folder)
    finally:
        daemon.stop()
