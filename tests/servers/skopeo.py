"""What an ordinary client sees and makes: the skopeo command, without any of the user's settings."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

ArchiveKind = Literal["docker-archive", "oci-archive"]


def skopeo(*arguments: str | Path, timeout: float = 60) -> bytes:
    """Run skopeo; its standard output.

    Blocking: an async test whose own loop serves what skopeo reads must call it in a thread.

    Raises:
        RuntimeError: it failed; holds what it said.
    """
    with TemporaryDirectory() as home:
        env = {"PATH": os.environ["PATH"], "HOME": home, "REGISTRY_AUTH_FILE": f"{home}/auth.json", "TMPDIR": home}
        command = ["skopeo", "--insecure-policy", *arguments]
        done = subprocess.run(command, capture_output=True, env=env, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"skopeo {arguments[0]}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def inspect_raw(reference: str, *options: str) -> bytes:
    """The manifest's bytes; `reference` is `host/name:tag` or `host/name@digest`."""
    return skopeo("inspect", "--raw", "--tls-verify=false", *options, f"docker://{reference}")


def pull(reference: str, folder: Path, *options: str) -> dict[str, bytes]:
    """Copy a whole image, every platform, out of a registry; the folder's files by name, as `dir:` keeps them."""
    copy = ("copy", "--all", "--preserve-digests", "--src-tls-verify=false", *options)
    skopeo(*copy, f"docker://{reference}", f"dir:{folder}")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def list_tags(repository: str, *options: str) -> list[str]:
    """The tags of `host/name`."""
    found = json.loads(skopeo("list-tags", "--tls-verify=false", *options, f"docker://{repository}"))
    return [str(tag) for tag in found["Tags"]]


def skopeo_archive(kind: ArchiveKind, reference: str, path: Path, tag: str = "", options: Sequence[str] = ()) -> Path:
    """Make an archive from an image in a registry; `tag` is what it carries inside (`name:tag`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = f"{kind}:{path}" + (f":{tag}" if tag else "")
    skopeo("copy", "--src-tls-verify=false", *options, f"docker://{reference}", target)
    return path
