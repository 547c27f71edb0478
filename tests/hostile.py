"""Inputs that nobody means well with, from a seed: texts, names, documents, layers, archives and requests."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import random
import tarfile
from collections.abc import Mapping
from pathlib import Path

import zstandard

from tests.integration.odd_layers import LayerMaker, header, pax
from tests.servers.images import docker_members, image_of, layout_files, make_index, noise, tar

Document = dict[str, object]
TEXTS = (
    "", ".", "..", "/", "../../outside/x", "/etc/passwd", "a/b:t", "a/b", "t", "@0", "@-1", "latest", "\x1b[2J",
    "\u202egnp", "\x9b31m", "a\nb", "a\r", "\0", "\ud800", "\udcff", "käse", "x" * 300, "x" * 70_000, "%s", "{}",
    "%2e%2e%2f", "A/B", "sha256:" + "0" * 64, "sha256:" + "A" * 64, "sha256:..", "sha512:" + "0" * 128,
    "md5:" + "0" * 32, "sha256:x/../y", "http://127.0.0.1:1/x", "file:///etc/passwd",
    "application/vnd.oci.image.index.v1+json", "1e999", "-1", "linux", "\\..\\x",
    "application/vnd.docker.distribution.manifest.v1+prettyjws", "2026-11-30T00:00:00Z", "https://u:hunter22@h/",
    "a//b", "a:b:c", "a@sha256:" + "1" * 64, "localhost:5000/a", "[::1]:5000/a:b", "a" * 129, "..;/", "~", "-", "--",
    "%00", "*", "CON",
)  # fmt: skip
_PIECES = (
    *TEXTS,
    "/",
    ":",
    "@",
    ".",
    "-",
    "_",
    "0",
    "9",
    "z",
    "sha256:",
    "docker://",
    "oci:",
    "static:",
    "s3://",
    "?",
    "=",
    "&",
    "#",
)


def random_text(rng: random.Random) -> str:
    """A name, or what somebody gives out as one."""
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(TEXTS)
    if kind < 0.8:
        return "".join(rng.choice(_PIECES) for _ in range(rng.randint(1, 6)))
    return "".join(chr(rng.choice((rng.randrange(32), rng.randrange(256), rng.randrange(0x3000)))) for _ in range(9))


def random_value(rng: random.Random, depth: int = 3) -> object:
    """Any JSON."""
    kind = rng.randrange(9 if depth else 7)
    if kind == 7:
        return [random_value(rng, depth - 1) for _ in range(rng.choice((0, 1, 3, 100)))]
    if kind == 8:
        return {random_text(rng): random_value(rng, depth - 1) for _ in range(rng.choice((0, 1, 3)))}
    choices: tuple[object, ...] = (
        None,
        True,
        random_text(rng),
        rng.choice((0, -1, 2, 1 << 31, 1 << 63, 10**400, 1e308, 0.5)),
        "",
        [],
        {},
    )
    return choices[kind]


def change(document: object, rng: random.Random) -> object:
    """The document with one of its values or keys changed, left out or doubled."""
    if isinstance(document, dict) and document and rng.random() < 0.85:
        key = rng.choice(list(document))
        act = rng.random()
        if act < 0.15:
            return {name: value for name, value in document.items() if name != key}
        if act < 0.25:
            return {**document, random_text(rng): random_value(rng)}
        return {**document, key: change(document[key], rng)}
    if isinstance(document, list) and document and rng.random() < 0.85:
        at = rng.randrange(len(document))
        act = rng.random()
        if act < 0.15:
            return document[:at] + document[at + 1 :]
        if act < 0.25:
            return document + [document[at]] * rng.choice((1, 2, 500))
        return [*document[:at], change(document[at], rng), *document[at + 1 :]]
    return random_value(rng)


def as_json(document: object, rng: random.Random) -> bytes:
    """JSON, now and then no longer valid."""
    raw = json.dumps(document, ensure_ascii=rng.random() < 0.5).encode(errors="replace")
    act = rng.random()
    if act < 0.04:
        return raw[: rng.randrange(len(raw) + 1)]
    if act < 0.08:
        return flip(raw, rng)
    if act < 0.1:
        return b"[" * rng.choice((10, 100_000)) + raw
    return b"\xef\xbb\xbf" + raw if act < 0.11 else raw


def flip(raw: bytes, rng: random.Random) -> bytes:
    """Bytes of which some are others."""
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 1, 3, 30))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def random_layer(rng: random.Random, outside: str) -> bytes:
    """A layer that tries to get to `outside`, an absolute path beside the folder that it is unpacked to."""
    if rng.random() < 0.2:
        return LayerMaker(rng.randrange(1 << 30)).layers()[0]
    ways = (
        "/".join([".."] * rng.randint(1, 6)) + "/outside",
        outside,
        outside.lstrip("/"),
        "sub/../../outside",
        "./.",
        "",
    )
    names = [
        *(f"{rng.choice(ways)}/evil", "link", "link/evil", "a/b/c", "a", f"{rng.choice(ways)}", ".wh.link", ".wh.."),
        *(".wh..wh..opq", "a/.wh..wh..opq", ".wh.a", ".wh.../outside", "x" * 300, "a/" * 200 + "f", random_text(rng)),
    ]
    parts: list[bytes] = []
    for _ in range(rng.randint(1, 8)):
        name, link = rng.choice(names), rng.choice((*ways, "a", "link", "/", "..", random_text(rng)))
        raw, to = (text.encode(errors="surrogatepass").replace(b"\0", b"") or b"x" for text in (name, link))
        kind = rng.choice(
            (b"0", b"0", b"5", b"2", b"2", b"1", b"3", b"4", b"6", b"7", b"S", b"L", b"K", b"g", b"\0", b"Z")
        )
        body = (
            rng.choice((b"", b"evil", bytes(rng.choice((512, 5000)))))
            if kind in (b"0", b"\0", b"7", b"L", b"K", b"Z")
            else b""
        )
        size = rng.choice(
            (None, None, None, None, b"-0000000001\0", b"\x80" + b"\xff" * 11, b"77777777777\0", b"garbage!!\0\0\0")
        )
        mode = rng.choice((b"", b"", b"", b"0004755\0", b"\x80\0\0\xff\xff\xff\xff\xff", b"zzzzzzz\0"))
        if rng.random() < 0.2:
            parts.append(
                pax((rng.choice((b"path", b"linkpath", b"size", b"SCHILY.xattr.user.x", b"GNU.sparse.major")), to))
            )
        parts.append(header(raw[:100], kind, body, link=to[:100], size=size, mode=mode))
    layer = b"".join(parts) + bytes(rng.choice((1024, 1024, 0, 512)))
    return flip(layer, rng) if rng.random() < 0.15 else layer


def random_files(rng: random.Random, outside: str, kind: str) -> dict[str, bytes]:
    """The members of a docker-archive (`docker`) or a layout (`oci`), some of its documents changed."""
    layers = (
        [random_layer(rng, outside) for _ in range(rng.randint(1, 2))]
        if rng.random() < 0.6
        else [tar({"f": noise(100, "f")})]
    )
    names = [
        random_text(rng) if rng.random() < 0.4 else f"team/app:{number}" for number in range(rng.choice((1, 1, 2)))
    ]
    made = image_of(layers, compressed=kind == "oci" and rng.random() < 0.7)
    image = make_index([made]) if kind == "oci" and rng.random() < 0.3 else made
    with_names = {name.replace("\0", ""): image for name in names}
    try:
        files = docker_members(dict.fromkeys(with_names, made)) if kind == "docker" else layout_files(with_names)
    except UnicodeEncodeError:
        files = docker_members({"a/b:t": made}) if kind == "docker" else layout_files({"t": image})
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        name = rng.choice([one for one in files if not one.endswith(".tar")] or list(files))
        try:
            files[name] = as_json(change(json.loads(files[name]), rng), rng)
        except (ValueError, UnicodeError, RecursionError):
            files[name] = flip(files[name], rng)
    act = rng.random()
    if act < 0.1:
        del files[rng.choice(list(files))]
    elif act < 0.2:
        files[random_text(rng).replace("\0", "") or "x"] = b"more"
    return files


def write_tar(path: Path, files: Mapping[str, bytes], rng: random.Random, outside: str) -> None:
    """The members as a tar with links, doubles and damage, packed or not."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))) as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name.encode(errors="replace").decode())
            if rng.random() < 0.05:
                info.type, info.linkname = (
                    rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE)),
                    rng.choice((outside, "../outside", *files)),
                )
                info.linkname = info.linkname.encode(errors="replace").decode()
                archive.addfile(info)
                continue
            info.size = len(body)
            for _ in range(rng.choice((1,) * 20 + (2,))):
                archive.addfile(info, io.BytesIO(body))
    raw = buffer.getvalue()
    act = rng.random()
    if act < 0.1:
        raw = raw[: rng.randrange(len(raw))]
    elif act < 0.25:
        raw = flip(raw, rng)
    pack = rng.choice((None, None, None, gzip.compress, zstandard.compress, lzma.compress))
    if pack is not None:
        raw = pack(raw)
        raw = flip(raw, rng) if rng.random() < 0.2 else raw
    path.write_bytes(raw)


def write_folder(path: Path, files: Mapping[str, bytes], rng: random.Random, outside: str) -> None:
    """A layout as a folder, some of its files being links out of it."""
    for name, body in files.items():
        place = path / name.replace("\0", "").encode(errors="replace").decode()[:200]
        if not place.is_relative_to(path) or ".." in place.parts:
            continue
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if rng.random() < 0.05:
                place.symlink_to(rng.choice((outside, f"{outside}/kept", "../outside/kept", "nowhere", "/dev/zero")))
            else:
                place.write_bytes(body)
        except OSError:
            continue


def random_request(rng: random.Random, name: str, digest: str, secret: str) -> bytes:
    """What a client sends, or what is taken for that."""
    texts = (
        name, digest, "manifests", "blobs", "tags/list", "referrers", "_catalog", "v1", "status", "events",
        "webhooks", "github", "sync", "healthz", "metrics", "..", "%2e%2e", "%00", "%ff", "%c0%af", "\x7f", "?n=-1",
        "?n=99999999999999999999", "?last=%00", "*",
    )  # fmt: skip
    path = "/" + "/".join(rng.choice((*texts, random_text(rng)[:3000])) for _ in range(rng.randint(0, 5)))
    path = rng.choice(
        (
            path,
            path,
            f"/v2{path}",
            f"/v2/{name}/blobs/{digest}",
            f"/v2/{name}/tags/list",
            "/webhooks/github",
            "/webhooks/harbor",
            "/v1/sync",
        )
    )
    path = (
        path.encode(errors="replace")
        .decode(errors="replace")
        .replace(" ", "%20")
        .replace("\n", "%0a")
        .replace("\r", "")
    )
    method = rng.choice(
        ("GET",) * 5 + ("HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "get", "", "X" * 9000)
    )
    body = as_json(
        change(
            {
                "repository": {"full_name": name, "name": name},
                "package": {"name": name},
                "rule": "r",
                "type": "PUSH_ARTIFACT",
            },
            rng,
        ),
        rng,
    )
    fields = {
        "Host": ("localhost", "127.0.0.1", "evil.example", "", "a" * 9000, "[", "localhost\x00"),
        "Range": ("bytes=0-", "bytes=-1", "bytes=5-2", "bytes=0-0,2-3", f"bytes={'9' * 400}-", "bytes=\u0662-"),
        "Accept": ("*/*", "application/vnd.oci.image.index.v1+json", "," * 5000, "x" * 7000),
        "If-None-Match": ("*", f'"{digest}"', "W/", '"', "," * 3000),
        "Authorization": ("Bearer x", f"Bearer {secret}", "Basic \udcff", "Bearer"),
        "X-Hub-Signature-256": ("sha256=" + "0" * 64, "sha256=ä", ""),
        "Content-Type": ("application/json", "text/html", "application/json; charset=utf-99"),
        "Transfer-Encoding": ("chunked", "gzip, chunked", "identity", "chunked, chunked"),
        "Expect": ("100-continue", "x"),
        "Cookie": ("a=b; " * 1000,),
        "Last-Event-ID": ("-1", "x" * 100),
    }  # fmt: skip
    chosen = [(key, rng.choice(fields[key])) for key in rng.sample(list(fields), rng.randint(0, 5))]
    if not any(key == "Host" for key, _ in chosen):
        chosen.append(("Host", "localhost"))
    if method in ("POST", "PUT") or rng.random() < 0.1:
        chosen.append(
            ("Content-Length", rng.choice((str(len(body)), str(len(body)), "0", "-1", "99999999", "x", "1, 2")))
        )
    end = rng.choice(("\r\n", "\r\n", "\r\n", "\n", "\r"))
    head = end.join(
        [
            f"{method} {path} HTTP/{rng.choice(('1.1', '1.1', '1.0', '2.0', '9'))}",
            *(f"{key}: {value}" for key, value in chosen),
        ]
    )
    raw = (head + end + end).encode("utf-8", "surrogateescape") + body
    return flip(raw, rng) if rng.random() < 0.15 else raw
