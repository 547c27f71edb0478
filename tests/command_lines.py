"""Random command lines, each run in a child of a process that has ocisync imported."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SERVED = 3  # seconds; what serves, or tries again where nobody answers, is ended then
PATIENCE = 60  # seconds for everything else, on a machine that has much else to do
_SERVING = ("run", "serve", "demo")
_COMMANDS = (
    "run", "serve", "sync-now", "once", "plan", "status", "copy", "push", "pack", "unpack", "inspect", "tags", "digest",
    "reconcile", "ls", "rm", "keep", "gc", "verify", "doctor", "init", "config", "config check", "config import",
    "config schema", "version", "help", "nope", "", "login", "logout", "clients", "completion",
    "top", "notify", "notify test",
)  # fmt: skip
_OPTIONS = (
    "--all", "--platform", "--format", "--drop-signatures", "--compression", "--level", "--referrers", "--force",
    "--artifact-type", "--digest-tags", "--include-external", "--dry-run", "-q", "--creds", "--src-creds", "--json",
    "--dest-creds", "--tls-verify", "--src-tls-verify", "--authfile", "-c", "--config", "--raw", "--newest", "--tag",
    "--newer-than", "--limit", "--plan", "--apply", "--grace", "--deep", "--repair", "--resume", "--rate", "--listen",
    "--concurrency", "--targets", "--recheck", "--force-prune", "--url", "--repository", "--settings", "--exclude",
    "--env", "--entrypoint", "--owner", "--exclude-from", "--cache", "--rootless", "--client", "--ca", "--from", "-o",
    "--log-level", "--log-format", "--for", "-u", "--password-stdin", "--authfile", "--partial", "--output",
    "-h", "-V", "--nope", "-", "--", "--watch", "--wait", "--every", "-v",
)  # fmt: skip
_TEXTS = (
    "docker://127.0.0.1:1/a/b:t", "docker://127.0.0.1:1", "docker://", "docker:x", "oci:lay", "oci:", "x.tar",
    "./x.tar", "oci-archive:x.tar", "docker-archive:x.tar:a:b", "static:reg", "static:reg//a/b:t", "static:", "s3://",
    "s3:b", "s3://b/n?endpoint=http://127.0.0.1:1", "s3://b?what=1", "target:x/y", "alpine:3", "c.yaml", "bad.yaml",
    "bin", ".", "/dev/null", "/proc/self/mem", "nope", "", " ", "\x1b[2J", "\u202e", "\udcff", "a\nb", "http://127.0.0.1:1/a:b",
    "https://u:hunter22@127.0.0.1:1/", "u:plain", "linux/amd64", "oci", "docker", "zstd", "-1", "0", "1e999",
    "99", "8080", "1d", "1GiB", "true", "false", "debug", "NAME=VALUE", '["/x"', "{{.Digest}}", "{{.Nope}}", "{{", "(",
    "%s", "{}", "x" * 5000, "::", "127.0.0.1:0", "@sha256:" + "0" * 64, "rule", "regsync", "..", "~",
    "systemd", "bash", "containerd",    "docker://127.0.0.1:1/a@sha256:" + "0" * 64, "oci:lay:x", "verify",
)  # fmt: skip
_CHILD = """
import importlib, json, os, pkgutil, sys, time
import ocisync
from ocisync.cli import main
for module in pkgutil.walk_packages(ocisync.__path__, "ocisync."):  # so that no child imports what others have
    if module.name != "ocisync.__main__":
        importlib.import_module(module.name)
for line in sys.stdin:
    arguments, patience = json.loads(line)
    out, err = (os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) for name in ("../out", "../err"))
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0); os.dup2(out, 1); os.dup2(err, 2)
        sys.argv = ["ocisync", *arguments]
        main()
    end = time.monotonic() + patience
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end:
        time.sleep(0.002)
    if ended[0] == 0:
        os.kill(child, 9); ended = os.waitpid(child, 0)
    said = [os.pread(fd, 10_000_000, 0).decode("utf-8", "surrogateescape") for fd in (out, err)]
    os.close(out); os.close(err)
    print(json.dumps([os.waitstatus_to_exitcode(ended[1]), *said]), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command line, and what became of it."""

    arguments: list[str]
    code: int
    stdout: str
    stderr: str

    @property
    def is_unfinished(self) -> bool:
        """Whether it was ended although it would rightly have gone on: it serves, or asks a host that is not there."""
        return self.code == -signal.SIGKILL and may_go_on(self.arguments)


def may_go_on(arguments: list[str]) -> bool:
    """Whether a command line may rightly come to no end."""
    return any("127.0.0.1" in text for text in arguments) or any(name in arguments for name in _SERVING)


def random_line(rng: random.Random) -> list[str]:
    """A command with some of all options, and of texts that one may write there, or not."""
    words = rng.choice(_COMMANDS).split()
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4, 6))):
        option, text = rng.choice(_OPTIONS), rng.choice(_TEXTS)
        words += rng.choice(([option], [option, text], [f"{option}={text}"], [text], [text, rng.choice(_TEXTS)]))
    return words if rng.random() < 0.95 else [rng.choice(_OPTIONS), *words]


def run_lines(lines: Iterator[list[str]], folder: Path) -> Iterator[Ended]:
    """Run each in a folder that has a layout, a static registry and configurations by the names above."""
    work = folder / "work"
    for name in ("reg/v2", "bin", "lay"):
        (work / name).mkdir(parents=True, exist_ok=True)
    config = "version: 1\ntargets: {x: {type: static, path: ./reg}}\ndaemon: {state: ./s}\ndefaults: {retries: 0}\n"
    for name in ("c.yaml", "ocisync.yaml"):  # the latter is found unasked
        (work / name).write_text(config)
    (work / "bad.yaml").write_text("version: [\n")
    (work / "x.tar").write_bytes(b"\0" * 1024)
    env = {"HOME": str(folder), "PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"}
    env |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD], cwd=work, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        for arguments in lines:
            server.stdin.write(json.dumps([arguments, SERVED if may_go_on(arguments) else PATIENCE]) + "\n")
            server.stdin.flush()
            code, out, err = json.loads(server.stdout.readline())
            yield Ended(arguments, code, out, err)
        server.stdin.close()
