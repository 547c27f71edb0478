"""Random command lines, each run in a child of a process that has ocisync imported."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.forked import PATIENCE, Ended, command_runner, environment

_KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
SERVED = 3  # seconds; what serves, or tries again where nobody answers, is ended then
_SERVING = ("run", "serve", "demo")
_COMMANDS = (
    "run", "serve", "sync-now", "once", "plan", "status", "copy", "push", "pack", "unpack", "inspect", "tags", "digest",
    "reconcile", "ls", "rm", "keep", "gc", "verify", "doctor", "init", "config", "config check", "config import",
    "config schema", "version", "help", "nope", "", "login", "logout", "clients", "completion",
    "top", "notify", "notify test", "bundle", "bundle create", "bundle apply", "bundle inspect", "bundle diff",
    "engine", "engine migrate", "engine status", "state move",
)  # fmt: skip
_OPTIONS = (
    "--all", "--platform", "--format", "--drop-signatures", "--compression", "--level", "--referrers", "--force",
    "--artifact-type", "--digest-tags", "--include-external", "--dry-run", "-q", "--creds", "--src-creds", "--json",
    "--dest-creds", "--tls-verify", "--src-tls-verify", "--authfile", "-c", "--config", "--raw", "--newest", "--tag",
    "--newer-than", "--limit", "--plan", "--apply", "--grace", "--deep", "--repair", "--resume", "--rate", "--listen",
    "--concurrency", "--targets", "--recheck", "--force-prune", "--url", "--repository", "--settings", "--exclude",
    "--env", "--entrypoint", "--owner", "--exclude-from", "--cache", "--rootless", "--client", "--ca", "--from", "-o",
    "--log-level", "--log-format", "--for", "-u", "--password-stdin", "--authfile", "--partial", "--output",
    "-h", "-V", "--nope", "-", "--", "--watch", "--wait", "--every", "-v", "--base", "--volume", "--name", "--key",
    "--target", "--trust", "--rename", "--staging", "--receipts", "--prune", "--whole-images-only", "--allow-older",
    "--to", "--verify", "--level",
)  # fmt: skip
_TEXTS = (
    "docker://127.0.0.1:1/a/b:t", "docker://127.0.0.1:1", "docker://", "docker:x", "oci:lay", "oci:", "x.tar",
    "./x.tar", "oci-archive:x.tar", "docker-archive:x.tar:a:b", "static:reg", "static:reg//a/b:t", "static:", "s3://",
    "s3:b", "s3://b/n?endpoint=http://127.0.0.1:1", "s3://b?what=1", "target:x/y", "alpine:3", "c.yaml", "bad.yaml",
    "bin", ".", "/dev/null", "/proc/self/mem", "nope", "", " ", "\x1b[2J", "\u202e", "\udcff", "a\nb", "http://127.0.0.1:1/a:b",
    "https://u:hunter22@127.0.0.1:1/", "u:plain", "linux/amd64", "oci", "docker", "zstd", "-1", "0", "1e999",
    "99", "8080", "1d", "1GiB", "true", "false", "debug", "NAME=VALUE", '["/x"', "{{.Digest}}", "{{.Nope}}", "{{", "(",
    "%s", "{}", "x" * 5000, "::", "127.0.0.1:0", "@sha256:" + "0" * 64, "rule", "regsync", "..", "~",
    "systemd", "bash", "containerd", "docker://127.0.0.1:1/a@sha256:" + "0" * 64, "oci:lay:x", "verify",
)  # fmt: skip


def is_unfinished(ended: Ended) -> bool:
    """Whether a line was ended although it would rightly have gone on: it serves, or asks a host that is not there."""
    return ended.code == -signal.SIGKILL and may_go_on(ended.arguments)


def may_go_on(arguments: Sequence[str]) -> bool:
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
    with command_runner(make_folder(folder), **_KEYS) as run:
        for arguments in lines:
            yield run(*arguments, patience=SERVED if may_go_on(arguments) else PATIENCE)


def run_process(arguments: Sequence[str], work: Path) -> Ended:
    """Run one as a user's shell does, in a process that begins with it."""
    env = environment(work, **_KEYS)
    command = [sys.executable, "-m", "ocisync", *arguments]
    with subprocess.Popen(
        command, cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            said = process.communicate(timeout=2 * SERVED if may_go_on(arguments) else PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            said = process.communicate()
    out, err = (text.decode("utf-8", "surrogateescape") for text in said)
    return Ended(arguments, process.returncode, 0, out, err)


def make_folder(folder: Path) -> Path:
    """The folder that command lines run in."""
    work = folder / "work"
    for name in ("reg/v2", "bin", "lay"):
        (work / name).mkdir(parents=True, exist_ok=True)
    config = "version: 1\ntargets: {x: {type: static, path: ./reg}}\ndaemon: {state: ./s}\ndefaults: {retries: 0}\n"
    for name in ("c.yaml", "ocisync.yaml"):  # the latter is found unasked
        (work / name).write_text(config)
    (work / "bad.yaml").write_text("version: [\n")
    (work / "x.tar").write_bytes(b"\0" * 1024)
    return work
