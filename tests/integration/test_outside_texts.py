"""What servers, media and archives say, on the terminal of who uses the command line: nothing steers it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from aiohttp import web

from tests.forked import Run, command_runner
from tests.servers.images import docker_members, make_image, write_archive
from tests.servers.loop import serve_app
from tests.unit.test_outside_texts import EVIL, STEERS

FORGED = re.compile(r"^2026-11-30T00:00:00Z", re.MULTILINE)
SENT = EVIL.replace("\ud800", "")  # nothing else can be sent as UTF-8
ONE_LINE = re.sub(r"[\r\n\x00]", "", SENT)  # nothing else can be sent in a header
XML = escape(re.sub(r"[\x00-\x08\x0b-\x1f]", "", SENT))  # nothing else may stand in XML
STATUS = {
    "version": SENT, "now": 1.0, "day": {"bytes": 1, "copied": 1, "failed": 1}, "drops": {}, "jobs": [],
    "rules": {SENT: {"state": "failing", "last_success": None, "running": False, "wanted": False, "next_due": None,
                     "message": SENT}},
    "failures": [{"what": SENT, "rule": SENT, "message": SENT, "code": SENT, "at": 1.0}],
    "queue": {"waiting": 0, "by_rule": {}, "running": [], "still": []},
}  # fmt: skip


async def answer(request: web.Request) -> web.StreamResponse:
    """Something hostile, by the first part of the path or by the repository's name."""
    path = request.path
    if path == "/v1/status":
        return web.json_response(STATUS)
    if path == "/v2/":
        return web.json_response({})
    if "redirect" in path:
        return web.Response(status=307, headers={"Location": f"http://127.0.0.1:1/{ONE_LINE}"})
    if "challenge" in path:
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{ONE_LINE}/",service="x"'})
    if "tags" in path and path.endswith("/tags/list"):
        return web.json_response({"name": SENT, "tags": ["t", SENT, "a\nb"]})
    if path.startswith("/v2/manifest/"):
        raw = json.dumps(
            {"schemaVersion": 2, "mediaType": SENT, "config": {"mediaType": SENT, "digest": SENT}, SENT: 1}
        )
        return web.Response(text=raw, content_type="application/vnd.oci.image.manifest.v1+json")
    if path.startswith("/bucket"):
        body = f"<Error><Code>{XML}</Code><Message>{XML}</Message><Resource>{XML}</Resource></Error>"
        return web.Response(
            status=403, text=body, content_type="application/xml", headers={"x-amz-request-id": ONE_LINE}
        )
    return web.json_response({"errors": [{"code": SENT, "message": SENT, "detail": SENT}]}, status=403)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Run, str]]:
    """A folder to work in, a runner, and the host of a server that means no good."""
    folder = tmp_path_factory.mktemp("texts")
    for name in ("work", "home"):
        (folder / name).mkdir()
    work = folder / "work"
    inventory = {"format": "x", "kind": EVIL, "id": EVIL, "name": EVIL, EVIL: EVIL}
    (work / "m-0001.bundle.json").write_text(json.dumps(inventory))
    (work / "m-0001.tar").write_text(EVIL, errors="replace")
    (work / "SHA256SUMS").write_text(EVIL, errors="replace")
    archive = docker_members({"a/b:t": make_image()})
    archive["manifest.json"] = json.dumps(
        [{**json.loads(archive["manifest.json"])[0], "RepoTags": [f"a/b:{EVIL}"]}]
    ).encode()
    write_archive(work / "x.tar", archive)
    (work / "odd.tar").write_text(EVIL, errors="replace")
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret-of-the-bucket"}
    with serve_app(app) as url, command_runner(work, **keys) as run:
        host = url.removeprefix("http://")
        sync = [{"name": name, "source": f"{host}/{name}/x", "target": "x"} for name in ("denied", "tags", "manifest")]
        config = {"version": 1, "targets": {"x": {"type": "static", "path": "./reg"}}, "defaults": {"retries": 0}}
        config |= {"sync": sync, "daemon": {"state": "./state"}}
        (work / "ocisync.yaml").write_text(json.dumps(config))
        yield work, run, host


def sources(command: str, *more: str) -> list[list[str]]:
    """A command for each thing that the server may say of an image."""
    return [[*command.split(), f"docker://HOST/{name}/x:t", *more] for name in NAMES]


NAMES = ("denied", "redirect", "challenge", "tags", "manifest")
BUCKET = "s3://bucket?endpoint=http://HOST&use_path_style=true"
COMMANDS = [
    *sources("inspect"), *sources("inspect --json"), *sources("digest"), *sources("unpack", "root"),
    *sources("copy", "static:out//a/b:t"),
    ["tags", "docker://HOST/tags/x"], ["tags", "--json", "docker://HOST/tags/x"], ["tags", "docker://HOST/denied/x"],
    ["once"], ["once", "--json"], ["plan"], ["plan", "--json"], ["status"], ["status", "--json"],
    ["doctor", "http://HOST/denied/x:t"], ["doctor", "http://HOST/manifest/x:t"],
    ["copy", "x.tar", f"{BUCKET}//a/b:t"], ["ls", BUCKET], ["verify", BUCKET], ["gc", "--dry-run", BUCKET],
    ["tags", "x.tar"], ["inspect", "x.tar"], ["copy", "--all", "x.tar", "static:out"], ["inspect", "odd.tar"],
    ["bundle", "inspect", "m-0001.bundle.json"], ["bundle", "apply", ".", "-t", "static:out"],
    ["bundle", "diff", "m-0001.bundle.json", "m-0001.bundle.json"],
    ["top", "--url", "http://HOST"],
    ["copy", ONE_LINE, ONE_LINE], [ONE_LINE], ["copy", f"--{ONE_LINE}"], ["inspect", f"docker://{ONE_LINE}/x:t"],
    ["copy", "x.tar", "docker://someone:hunter22@127.0.0.1:1/x:t"],
]  # fmt: skip


def name_command(command: list[str]) -> str:
    """Printable, for the test's name."""
    return " ".join(command)[:50].encode("ascii", "replace").decode()


@pytest.mark.parametrize("command", COMMANDS, ids=name_command)
def test_nothing_steers_the_terminal(command: list[str], place: tuple[Path, Run, str]) -> None:
    _, run, host = place
    ended = run(*(word.replace("HOST", host) for word in command), is_inside=True)
    said = ended.stdout + ended.stderr
    assert said
    assert STEERS.search(said) is None, repr(said)
    assert FORGED.search(said) is None, repr(said)
    assert "hunter22" not in said
    assert "secret-of-the-bucket" not in said
    assert "Traceback" not in said
    assert "internal" not in said
    assert ended.code in (0, 1, 2)
