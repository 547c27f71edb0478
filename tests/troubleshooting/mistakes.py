"""Likely mistakes: what somebody writes or runs, and a word on it. What ocisync answers is found by running it."""

from __future__ import annotations

from dataclasses import dataclass

HEAD = "version: 1\ntargets:\n  local: {type: static, path: ./registry}\n"
CHECK = "ocisync config check"


@dataclass(frozen=True, slots=True)
class Mistake:
    """`shown` is the part of the configuration that matters; `config` is all of it, in place of head and part."""

    title: str
    shown: str = ""
    command: str = CHECK
    advice: str = ""
    config: str | None = None
    code: int = 2

    @property
    def text(self) -> str:
        """The configuration."""
        return HEAD + self.shown if self.config is None else self.config


FILE = (
    Mistake(
        "A tab in the indentation",
        "sync:\n\t- source: alpine\n",
        advice="YAML allows spaces only. Most editors can show tabs, and put spaces in their place.",
    ),
    Mistake(
        "Wrong indentation",
        "sync:\n  - source: alpine\n   target: local\n",
        advice="The keys of one rule begin in the same column.",
    ),
    Mistake("A mistyped key", "sync:\n  - {source: alpine, target: local, intervall: 6h}\n"),
    Mistake("A key at the wrong place", 'sync:\n  - {source: alpine, target: local, allow: ["3.*"]}\n'),
    Mistake("A key that appears twice", "sync:\n  - source: alpine\n    source: busybox\n    target: local\n"),
    Mistake(
        "A tag without quotes",
        "sync:\n  - {source: alpine, target: local, tags: {allow: [3.10]}}\n",
        advice="To YAML 3.10 is a number, and the same as 3.1.",
    ),
    Mistake("An interval without a unit", "sync:\n  - {source: alpine, target: local, interval: 60}\n"),
    Mistake("A unit in words", "sync:\n  - {source: alpine, target: local, interval: 5 minutes}\n"),
    Mistake(
        "A glob where an expression belongs", 'sync:\n  - {source: alpine, target: local, tags: {allow: ["*-slim"]}}\n'
    ),
    Mistake(
        "A star without quotes",
        "sync:\n  - {source: alpine, target: local, tags: {allow: [*]}}\n",
        advice='To YAML a star begins a name. Leave `tags` out to copy all tags, or write `allow: [".*"]`.',
    ),
    Mistake(
        "An expression that is not closed",
        'sync:\n  - {source: alpine, target: local, tags: {allow: ["3\\\\.(1|2"]}}\n',
    ),
    Mistake("A variable in the shell's way", "registries:\n  ghcr.io: {username: me, password: ${GHCR_TOKEN}}\n"),
    Mistake(
        "A variable in the shell's way, in quotes",
        'registries:\n  ghcr.io: {username: me, password: "${GHCR_TOKEN}"}\n',
    ),
    Mistake("A user without a password", "registries:\n  ghcr.io: {username: me}\n"),
    Mistake("A secret that is too short", "daemon: {token: abc}\n"),
    Mistake("A target's name mistyped", "sync:\n  - {source: alpine, target: locla}\n"),
    Mistake("A target without a type", config="version: 1\ntargets:\n  local: {path: ./registry}\n"),
    Mistake("A scheme before the source", "sync:\n  - {source: docker://ghcr.io/org/app, target: local}\n"),
    Mistake("The address of a web page as the source", "sync:\n  - {source: https://ghcr.io/org/app, target: local}\n"),
    Mistake("Capital letters in a repository's name", "sync:\n  - {source: ghcr.io/Org/App, target: local}\n"),
    Mistake(
        "Two rules that write the same tag",
        "sync:\n  - {name: one, source: alpine, target: local/base}\n"
        "  - {name: two, source: busybox, target: local/base}\n",
        advice="The tag would change its image with every run.",
    ),
    Mistake("A drop folder inside the registry", "drop:\n  - {path: ./registry/drop, target: local}\n"),
    Mistake("A platform that is none", "sync:\n  - {source: alpine, target: local, platforms: [x86_64]}\n"),
    Mistake("A certificate file that holds none", "registries:\n  registry.example.com: {ca: ./ocisync.yaml}\n"),
    Mistake("An address that is none", "daemon: {listen: localhost}\n"),
    Mistake("No version", config="targets:\n  local: {type: static, path: ./registry}\n"),
)

RUN = (
    Mistake("No configuration", command="ocisync once", config=""),
    Mistake("A file that is not there", command="ocisync config check mirror.yml"),
    Mistake(
        "A variable that is not set",
        "registries:\n  ghcr.io: {username: me, password: {env: GHCR_TOKEN}}\n",
        command="ocisync once",
        advice="Under systemd it belongs in /etc/ocisync/environment. `ocisync config check` only warns of it, and "
        "commands that need no secret run without.",
    ),
    Mistake(
        "A secret's file that is not there",
        "registries:\n  ghcr.io: {username: me, password: {file: ./token}}\n",
        command="ocisync once",
    ),
    Mistake(
        "A rule's name mistyped", "sync:\n  - {name: alpine, source: alpine, target: local}\n", "ocisync once alpin"
    ),
    Mistake(
        "The port is in use",
        "daemon: {listen: '{OPEN}'}\ndrop:\n  - {path: ./drop, target: local}\n",
        command="ocisync run",
        advice="`ss -ltnp` tells by whom. Choose another port with `daemon.listen`.",
    ),
    Mistake(
        "A daemon runs already",
        "daemon: {state: ./locked, listen: '127.0.0.1:0'}\ndrop:\n  - {path: ./drop, target: local}\n",
        command="ocisync run",
        advice="`ocisync once` and `status` work beside a running daemon; a second daemon needs a state of its own.",
    ),
    Mistake(
        "A folder that cannot be written",
        "drop:\n  - {path: ./drop, target: nowhere}\n",
        command="ocisync once",
        config="version: 1\ntargets:\n  nowhere: {type: static, path: /proc/registry}\n"
        "drop:\n  - {path: ./drop, target: nowhere, settle: 0s, stable: 0s}\n",
        advice="Under systemd, only what `ReadWritePaths` names can be written.",
        code=1,
    ),
    Mistake(
        "The disk is full",
        command="ocisync copy app.tar static:./small//app:1",
        advice="Nothing half-written is published. `ocisync gc` removes what no tag needs; the daemon goes on when "
        "there is room.",
        config="",
        code=1,
    ),
    Mistake(
        "The daemon is not running",
        "daemon: {listen: '127.0.0.1:1', token: a-token-of-some-length}\n"
        "sync:\n  - {name: alpine, source: alpine, target: local}\n",
        command="ocisync sync-now alpine",
        code=1,
    ),
    Mistake(
        "The daemon has no token",
        "sync:\n  - {name: alpine, source: alpine, target: local}\n",
        command="ocisync sync-now alpine",
    ),
    Mistake(
        "A file in a drop folder that is no image",
        "drop:\n  - {path: ./notes, target: local, settle: 0s, stable: 0s}\n",
        command="ocisync once",
        advice="The file lies in `failed/` now, with the reason beside it. `ocisync status` lists it.",
        code=1,
    ),
    Mistake(
        "A platform's file with another name",
        "drop:\n  - {path: ./farm, target: local, settle: 0s, stable: 0s, platforms: [linux/amd64]}\n",
        command="ocisync once",
        advice="The files of a set are named as `layout` says: NAME/TAG/OS.ARCH.tar.gz.",
        code=1,
    ),
    Mistake("A password on the command line", command="ocisync login ghcr.io -u me -p secret-word", config=""),
)

REGISTRIES = (
    Mistake("No transport", command="ocisync copy alpine:3 static:./registry//alpine:3", config=""),
    Mistake("A file that does not exist", command="ocisync copy ./app2.tar static:./registry//app:1", config=""),
    Mistake("Too few slashes", command="ocisync digest docker:alpine:3", config=""),
    Mistake("Credentials without a colon", command="ocisync digest docker://{OPEN}/app:1 --creds me", config=""),
    Mistake(
        "A host that does not exist", command="ocisync digest docker://no-such-host.invalid/app:1", config="", code=1
    ),
    Mistake("Nobody listens there", command="ocisync digest docker://127.0.0.1:1/app:1", config="", code=1),
    Mistake(
        "Plain HTTP where TLS is wanted",
        command="ocisync digest docker://{SECURED}/app:1",
        config="version: 1\nregistries:\n  '{SECURED}': {plain_http: true}\n",
        shown="registries:\n  '{SECURED}': {plain_http: true}\n",
        code=1,
    ),
    Mistake(
        "TLS where plain HTTP is spoken",
        command="ocisync digest docker://{OPEN}/app:1",
        config="version: 1\nregistries:\n  '{OPEN}': {plain_http: false, retries: 0}\n",
        shown="registries:\n  '{OPEN}': {plain_http: false}\n",
        advice="Set `plain_http: true` for this host, or give `--tls-verify=false` on the command line.",
        code=1,
    ),
    Mistake(
        "A certificate of an unknown authority",
        command="ocisync digest docker://{SECURED}/app:1 --tls-verify=true",
        config="",
        advice="Name the authority's file as `ca` under `registries`.",
        code=1,
    ),
    Mistake(
        "A login is needed",
        command="ocisync digest docker://{CLOSED}/app:1",
        config="",
        code=1,
        advice="`ocisync login` stores one, for ocisync, podman and skopeo alike.",
    ),
    Mistake(
        "A wrong password", command="ocisync digest docker://{CLOSED}/app:1 --creds tester:wrong", config="", code=1
    ),
    Mistake("A repository that is not there", command="ocisync tags docker://{OPEN}/ap", config="", code=1),
    Mistake("A tag that is not there", command="ocisync digest docker://{OPEN}/app:2", config="", code=1),
    Mistake(
        "No tag matches",
        "sync:\n  - {source: '{OPEN}/app', target: local/app, tags: {allow: ['v[0-9]+']}}\n",
        command="ocisync once",
        advice="If no tag matches, ocisync warns but does not fail.",
        code=0,
    ),
    Mistake("A web page, not a registry", command="ocisync tags docker://{PAGE}/app", config="", code=1),
    Mistake(
        "A wrong platform", command="ocisync digest docker://{OPEN}/multi:1 --platform linux/arm64", config="", code=1
    ),
    Mistake(
        "A registry that deletes nothing",
        command="ocisync rm docker://{STRICT}/app:1",
        config="",
        code=1,
    ),
    Mistake(
        "A bucket's service that is not there",
        command="ocisync ls 's3://images?endpoint=http://127.0.0.1:1'",
        config="",
        code=1,
        advice="The same is said of a wrong `endpoint`.",
    ),
)
SECTIONS = {"Writing the configuration": FILE, "Running": RUN, "Registries and images": REGISTRIES}
