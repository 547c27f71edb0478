"""What an imported configuration selects, and what it is called then, is what the other tool's documents say.

The configurations have the options of the examples in those documents; the tags are chosen so that each option decides.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ocisync.config.importers.detect import convert_file
from ocisync.config.load import parse_config
from ocisync.sync.select import select_tags
from ocisync.wiring.jobs import sync_jobs

DIGEST = "sha256:" + "0" * 32 + "1" * 32

SKOPEO = f"""
hub.example:
    images:
        tools: []
        cache: ["1.0", "2.0", "{DIGEST}"]
    images-by-tag-regex:
        proxy: ^1\\.13\\.[12]-alpine-perl$
    images-by-semver:
        base: ">= 3.12.0"
    credentials: {{username: john, password: secret}}
    tls-verify: true
other.example:
    tls-verify: false
    images:
        deep/store: [latest]
"""

REGSYNC = """
version: 1
creds:
  - registry: local.example:5000
    tls: disabled
defaults:
  interval: 2h
sync:
  - {source: tools/cli:latest, target: "local.example:5000/tools/cli:latest", type: image}
  - source: tools/builder
    target: local.example:5000/tools/builder
    type: repository
    tags: {allow: ["3", "3.*", latest], deny: [".*-rc.*"]}
  - source: far.example/team/web
    target: local.example:5000/web
    type: repository
    tags: {semverRange: [">=1.2.0 <2.0.0"]}
    targetTag: "{{ .Ref.Tag }}-far"
    backup: "old-{{.Ref.Tag}}"
"""

DREGSY = r"""
relay: skopeo
tasks:
  - name: nightly
    interval: 60
    source: {registry: far.example}
    target: {registry: near.example, skip-tls-verify: true}
    mappings:
      - {from: test/image, to: archive/test/image, tags: ['0.1.0', '0.1.1'], platform: all}
      - from: test/another
        platform: all
        tags: ['semver: >=1.31.0 <1.31.9', 'regex: 1\.26\.[0-9]-(glibc|uclibc|musl)', '1.29.4', latest]
"""

ZOT = """
{"distSpecVersion": "1.1.0", "storage": {"rootDirectory": "/tmp/zot"}, "http": {"address": "127.0.0.1", "port": "8080"},
 "extensions": {"sync": {"enable": true, "registries": [
   {"urls": ["https://far.example:5000"], "onDemand": false, "pollInterval": "6h", "tlsVerify": true, "content": [
      {"prefix": "/first/repo", "tags": {"regex": "4.*", "semver": true}},
      {"prefix": "/first/other", "destination": "/moved", "stripPrefix": true},
      {"prefix": "/second/repo"}]}]}}}
"""

CASES = {
    "sync.yml": (
        SKOPEO,
        {
            "hub.example/tools": (["1", "edge"], {"tools:1": "1", "tools:edge": "edge"}),
            "hub.example/cache": (
                ["1.0", "2.0", "3.0"],
                {"cache:1.0": "1.0", "cache:2.0": "2.0", "cache:digest-0000000000000000": DIGEST},
            ),
            "hub.example/proxy": (
                ["1.13.1-alpine-perl", "1.13.2-alpine-perl", "1.13.3-alpine-perl", "x1.13.1-alpine-perl", "1.13.1"],
                {"proxy:1.13.1-alpine-perl": "1.13.1-alpine-perl", "proxy:1.13.2-alpine-perl": "1.13.2-alpine-perl"},
            ),
            "hub.example/base": (
                ["3.11.9", "3.12.0", "3.12.1", "4.0.0", "3.13.0-rc1", "edge"],
                {"base:3.12.0": "3.12.0", "base:3.12.1": "3.12.1", "base:4.0.0": "4.0.0"},
            ),
            "other.example/deep/store": (["1", "latest"], {"store:latest": "latest"}),
        },
    ),
    "regsync.yml": (
        REGSYNC,
        {
            "docker.io/tools/cli": (["1", "latest"], {"tools/cli:latest": "latest"}),
            "docker.io/tools/builder": (
                ["3", "3.1", "3.2-rc1", "33", "2.9", "latest", "latest-x"],
                {f"tools/builder:{tag}": tag for tag in ("3", "3.1", "33", "latest")},
            ),
            "far.example/team/web": (
                ["1.1.9", "1.2.0", "1.9.0", "2.0.0", "1.3.0-rc1"],
                {f"web:{tag}-far": tag for tag in ("1.2.0", "1.9.0", "1.3.0-rc1")},  # regsync leaves no suffix out,
            ),
        },
    ),
    "dregsy.yaml": (
        DREGSY,
        {
            "far.example/test/image": (
                ["0.1.0", "0.1.1", "0.1.2"],
                {"archive/test/image:0.1.0": "0.1.0", "archive/test/image:0.1.1": "0.1.1"},
            ),
            "far.example/test/another": (
                ["1.30.9", "1.31.0", "v1.31.8", "1.31.9", "1.26.3-glibc", "1.26.3-other", "1.29.4", "1.29.5", "latest"],
                {f"test/another:{tag}": tag for tag in ("1.31.0", "v1.31.8", "1.26.3-glibc", "1.29.4", "latest")},
            ),
        },
    ),
    "zot.json": (
        ZOT,
        {
            # zot looks for the expression anywhere, and reads versions leniently: 4-latest is a pre-release of 4.
            "far.example:5000/first/repo": (
                ["4.0.0", "4.1.0-rc1", "5.4.0", "4-latest", "5.0.0", "latest-4"],
                {f"first/repo:{tag}": tag for tag in ("4.0.0", "4.1.0-rc1", "5.4.0", "4-latest")},
            ),
            "far.example:5000/first/other": (["1", "x"], {"moved:1": "1", "moved:x": "x"}),
            "far.example:5000/second/repo": (["1"], {"second/repo:1": "1"}),
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_selected(name: str, tmp_path: Path) -> None:
    text, expected = CASES[name]
    (tmp_path / name).write_text(text)
    config = parse_config(convert_file(tmp_path / name).text, folder=tmp_path)
    found: dict[str, dict[str, str]] = {}
    for rule in config.sync:
        for job in sync_jobs(rule, config):
            place = f"{rule.source.host}/{rule.source.repository}"
            listed, _ = expected[place]
            selected = select_tags(job.tags, listed)
            found.setdefault(place, {}).update({f"{job.target.repository}:{tag}": of for tag, of in selected.items()})
    assert found == {place: tags for place, (_, tags) in expected.items()}
