"""A process as Kubernetes runs it: a root that cannot be written to, volumes, uid 65532 without name, home or rights.

Needs root, for a mount namespace of its own: what is mounted there goes with the process.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

USER = 65532
_CHECKOUT = Path(__file__).parents[2]
_SCRIPT = """set -e
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
while [ "$1" != -- ]; do
  mount --rbind "$3" "$root$2"
  [ "$1" = rw ] || mount -o remount,bind,ro "$root$2"
  shift 3
done
shift
mount -o remount,bind,ro "$root"
exec chroot "$root" /usr/bin/setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs --bounding-set=-all \
  /bin/sh -c 'cd "$0" && exec "$@"' "$@"
"""


@dataclass
class Pod:
    """A root and what is mounted in it, by the path inside."""

    root: Path
    read_only: dict[str, Path] = field(default_factory=dict)
    volumes: dict[str, Path] = field(default_factory=dict)

    def volume(self, inside: str, folder: Path) -> Path:
        """A folder that the pod's user may write to."""
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, USER, USER)
        self.volumes[inside] = folder
        return folder

    def command(self, arguments: Sequence[str], env: Mapping[str, str], folder: str = "/") -> list[str]:
        """What to run; `env` is the whole environment, so there is no HOME unless it has one."""
        mounts = [("rw", inside, place) for inside, place in self.volumes.items()]
        mounts += [("ro", inside, place) for inside, place in self.read_only.items()]
        for _, inside, _ in mounts:
            (self.root / inside.lstrip("/")).mkdir(parents=True, exist_ok=True)
        shown = [str(word) for mount in sorted(mounts, key=lambda one: one[1]) for word in mount]
        variables = [f"{name}={value}" for name, value in env.items()]
        inner = [folder, "/usr/bin/env", "-i", *variables, *arguments]
        return ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", str(self.root), *shown, "--", *inner]


def pod_of_this_machine(root: Path) -> Pod:
    """A pod whose image is this machine's /usr, this interpreter and this checkout."""
    root.mkdir()
    pod = Pod(root)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    pod.volumes |= {"/dev": Path("/dev"), "/proc": Path("/proc")}
    for place in (Path("/usr"), Path(sys.base_prefix), Path(sys.prefix), _CHECKOUT):
        if not any(place.is_relative_to(known) for known in pod.read_only.values()):
            pod.read_only[str(place)] = place
    return pod
