"""An imported configuration brings what the other tool would bring: its examples, on a registry with names for them.

The files are the examples of the tools' documents and tests, with the hosts replaced. What each selects is what those
documents and tests say; for `skopeo sync` the installed skopeo is asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.mainjob import ENV
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.images import make_image, push
from tests.servers.skopeo import skopeo

BUSYBOX = re.split(
    r"\s+",
    """
    1.26.0 1.26.1-glibc 1.26.1-uclibc 1.26.1-musl 1.26.1-glibc-x 1.29.2 1.29.3 1.30.1 1.31 1.31.0 1.31.1 1.31.1-musl
    1.31.1-uclibc 1.31.1-glibc 1.31.0-glibc 1.32 1.32.0 1.33.0 1.34.1 1.35.0 1.35.0-uclibc 1.36 1.36.0 1.36.0-glibc
    1.36.0-musl 1.36.0-uclibc 1.36.1 1.36.1-musl glibc musl latest stable
""".strip(),
)

REPOSITORIES = {
    "library/busybox": BUSYBOX,
    "library/alpine": ["latest", "edge", "3", "3.9", "3.18", "3.18.2", "2.6", "20240101", "v3.1"],
    "library/debian": ["9", "10", "11.1", "10-slim", "bookworm", "latest", "12"],
    "regclient/regctl": ["latest", "v0.5", "edge"],
    "redis": ["1.0", "2.0", "3.0"],
    "nginx": ["1.13.1-alpine-perl", "1.13.2-alpine-perl", "1.13.3-alpine-perl", "1.13.12-alpine-perl", "latest"],
    "coreos/etcd": ["latest", "v3"],
    "alpine": ["3.11.9", "3.12", "3.12.0", "3.13.5", "4.0.0", "3.13.0-rc1", "v3.14.1", "edge", "latest", "20220101"],
    "copies/one": ["latest"],
    "repo1/repo": ["4.0.0", "4.1.0-rc1", "3.0.0", "4-latest", "latest", "v4.2.0"],
    "repo2/repo": ["1", "latest"],
    "repo3/deep/one": ["1"],
    "repo3/two": ["x"],
    "repo4/app": ["1.0", "1.0-amd64", "1.0-arm64", "1.0-armhf"],
    "repo4/more/app": ["2-arm64", "2"],
    "flux/nightly": ["main-0a1b-9", "main-0a1b-8-x", "dev-3c4d-10", "dev-3c4d-7"],
    "flux/cli": ["2.6.9", "2.7.0", "v2.7.1", "2.8.0-rc.1", "2.8.0", "3.0.0", "latest"],
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A registry with the repositories."""
    with docker_registry(tmp_path_factory.mktemp("source")) as registry:
        for name, tags in REPOSITORIES.items():
            image = make_image(name, size=50)
            for tag in tags:
                push(registry.client, name, tag, image)
        yield registry


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """Where everything would be copied to."""
    with docker_registry(tmp_path_factory.mktemp("target")) as registry:
        yield registry


def planned(folder: Path, name: str, text: str, filled: DockerRegistry, empty: DockerRegistry) -> set[str]:
    """What `plan` would copy with the imported file: `repository:tag` at the target."""
    file, made = folder / name, folder / "ocisync.yaml"
    file.write_text(text.replace("SOURCE", filled.host).replace("TARGET", empty.host))
    run_ocisync("config", "import", "--partial", file, "-o", made).expect(0)
    text = made.read_text()
    # The tests' registries speak plain HTTP, those of the examples do not.
    made.write_text(text.replace("insecure_skip_verify", "plain_http").replace("https://", "http://"))
    done = run_ocisync("plan", "-c", made, "--json", env=ENV)
    assert done.code in (0, 1), done.stderr
    copies = [one for one in json.loads(done.stdout)["tags"] if one["action"] == "copy"]
    return {f"{one['target'].partition('/')[2]}:{one['tag']}" for one in copies}


def names(repository: str, tags: str) -> set[str]:
    return {f"{repository}:{tag}" for tag in tags.split()}


REGSYNC = r"""
version: 1
creds:
  - registry: TARGET
    tls: disabled
  - registry: SOURCE
    tls: disabled
defaults:
  ratelimit:
    min: 100
    retry: 15m
  parallel: 2
  interval: 60m
  backup: "bkup-{{.Ref.Tag}}"
sync:
  - source: SOURCE/library/busybox:latest
    target: TARGET/library/busybox:latest
    type: image
  - source: SOURCE/library/alpine
    target: TARGET/library/alpine
    type: repository
    tags:
      allow:
      - "latest"
      - "3"
      - "3.\\d+"
  - source: SOURCE/library/debian
    target: TARGET/library/debian
    type: repository
    tags:
      allow:
      - "\\d+"
    mediaTypes:
      - "application/vnd.docker.distribution.manifest.v2+json"
      - "application/vnd.oci.image.index.v1+json"
  - source: SOURCE/regclient/regctl:latest
    target: TARGET/regclient/regctl:latest
    type: image
"""


def test_the_example_of_regsync(tmp_path: Path, filled: DockerRegistry, empty: DockerRegistry) -> None:
    """Its documents: expressions are bound at both ends."""
    assert planned(tmp_path, "regsync.yml", REGSYNC, filled, empty) == {
        "library/busybox:latest",
        *names("library/alpine", "latest 3 3.9 3.18"),
        *names("library/debian", "9 10 12"),
        "regclient/regctl:latest",
    }


REGSYNC_MORE = """
version: 1
creds: [{registry: SOURCE, tls: disabled}, {registry: TARGET, tls: disabled}]
defaults: {interval: 60m}
sync:
  - source: SOURCE/alpine
    target: TARGET/versions
    type: repository
    tags: {semverRange: [">=3.12.0 <4"]}
  - source: SOURCE
    target: TARGET
    type: registry
    repos: {allow: ["repo3/.*"], deny: [".*/two"]}
  - source: SOURCE/library/debian
    target: TARGET/denied
    type: repository
    tags: {deny: ['.*-slim', 'latest', '\\d+']}
"""


def test_other_selections_of_regsync(tmp_path: Path, filled: DockerRegistry, empty: DockerRegistry) -> None:
    assert planned(tmp_path, "regsync.yml", REGSYNC_MORE, filled, empty) == {
        *names("versions", "3.12 3.12.0 3.13.5 3.13.0-rc1 v3.14.1"),  # regsync leaves no suffix out
        "repo3/deep/one:1",
        *names("denied", "11.1 bookworm"),
    }


DREGSY = {
    "'1.29.2', '1.29.3', 'latest'": "1.29.2 1.29.3 latest",
    "'semver: >=1.31.0 <1.31.9', 'latest'": "latest 1.31 1.31.0 1.31.1-musl 1.31.1 1.31.1-uclibc 1.31.1-glibc",
    "'semver: >=1.31.0 <1.31.9', 'keep: .+(glibc|musl)'": "1.31.1-musl 1.31.1-glibc",
    r"'regex: 1\.26\.1-(glibc|uclibc|musl)'": "1.26.1-musl 1.26.1-glibc 1.26.1-uclibc",
    "'glibc', 'semver: >=1.33.0 <=1.36.0', 'keep: latest 5'": (
        "1.36 1.36.0 1.36.0-glibc 1.36.0-musl 1.36.0-uclibc glibc"
    ),
    "'regex: !.+(glibc|musl)'": " ".join(one for one in BUSYBOX if not re.fullmatch(r".+(glibc|musl)", one)),
}


@pytest.mark.parametrize("tags", DREGSY)
def test_the_examples_of_dregsy(tags: str, tmp_path: Path, filled: DockerRegistry, empty: DockerRegistry) -> None:
    """The files of its end-to-end tests, and what these expect to be copied."""
    text = f"""
relay: skopeo
tasks:
- name: test
  interval: 60
  verbose: true
  source: {{registry: SOURCE}}
  target: {{registry: TARGET, skip-tls-verify: true}}
  mappings:
  - from: library/busybox
    to: tagsets/busybox
    tags: [{tags}]
"""
    assert planned(tmp_path, "dregsy.yaml", text, filled, empty) == names("tagsets/busybox", DREGSY[tags])


def test_mappings_of_dregsy_by_expressions(tmp_path: Path, filled: DockerRegistry, empty: DockerRegistry) -> None:
    text = """
relay: skopeo
tasks:
- name: test-local
  interval: 60
  source: {registry: SOURCE, skip-tls-verify: true}
  target: {registry: TARGET, skip-tls-verify: true}
  mappings:
  - {from: 'regex:repo3/.*', to: 'regex:repo3/,copy/of/'}
"""
    assert planned(tmp_path, "dregsy.yaml", text, filled, empty) == {"copy/of/deep/one:1", "copy/of/two:x"}


def test_the_example_of_zot(tmp_path: Path, filled: DockerRegistry, empty: DockerRegistry) -> None:
    """Its documents: the expression is searched for, `semver` takes what reads as a version."""
    content = [
        {"prefix": "/repo1/repo", "tags": {"regex": "4.*", "semver": True}},
        {"prefix": "/repo2/repo", "destination": "/repo", "stripPrefix": True},
        {"prefix": "/repo3/**"},
        {"prefix": "/repo4/**", "tags": {"excludeRegex": ".*-(amd64|arm64)$"}},
    ]
    registry = {"urls": ["http://SOURCE"], "onDemand": False, "pollInterval": "6h", "tlsVerify": True}
    asked = {"urls": ["http://demo.example"], "onDemand": True, "tlsVerify": True, "maxRetries": 5}
    sync = {"enable": True, "registries": [{**registry, "content": content}, asked]}
    config = {"distSpecVersion": "1.1.1", "storage": {"rootDirectory": "/tmp/zot"}, "extensions": {"sync": sync}}
    config["http"] = {"address": empty.host.partition(":")[0], "port": empty.host.partition(":")[2]}
    assert planned(tmp_path, "zot.json", json.dumps(config), filled, empty) == {
        *names("repo1/repo", "4.0.0 4.1.0-rc1 4-latest v4.2.0"),
        *names("repo", "1 latest"),
        "repo3/deep/one:1",
        "repo3/two:x",
        *names("repo4/app", "1.0 1.0-armhf"),
        "repo4/more/app:2",
    }


FLUX = r"""
apiVersion: mirror.fluxcd.io/v1beta2
kind: Config
artifacts:
  - {source: SOURCE/flux/cli, destination: TARGET/range, selector: {semver: ">=2.7.0 <3.0.0", limit: 10}}
  - {source: SOURCE/flux/cli, destination: TARGET/one, selector: {semver: 2.x, sortBy: semver}}
  - source: SOURCE/flux/nightly
    destination: TARGET/nightly
    selector: {regex: {pattern: '^.+-[0-9a-f]+-(?P<ts>\d+)$', extract: '$ts'}, sortBy: numerical, limit: 2}
  - source: SOURCE/flux/nightly
    destination: TARGET/first
    selector: {regex: {pattern: '([(]?)(?:-)(\d+)', extract: '${2}'}, sortBy: numerical, limit: 1}
  - {source: SOURCE/flux/nightly, destination: TARGET/name, selector: {sortBy: alphabetical, limit: 2}}
"""


def test_selectors_of_flux_mirror(tmp_path: Path, filled: DockerRegistry, empty: DockerRegistry) -> None:
    assert planned(tmp_path, "mirror.yaml", FLUX, filled, empty) == {
        *names("range", "2.7.0 v2.7.1 2.8.0"),
        "one:2.8.0",
        *names("nightly", "main-0a1b-9 dev-3c4d-10"),
        "first:dev-3c4d-10",  # where the expression matches first
        *names("name", "main-0a1b-9 main-0a1b-8-x"),
    }


SKOPEO = r"""
SOURCE:
    images:
        coreos/etcd: []
        redis:
            - "1.0"
            - "2.0"
    images-by-tag-regex:
        nginx: ^1\.13\.[12]-alpine-perl$
        library/alpine: "3.1"
    tls-verify: false
"""


def test_skopeo_syncs_the_same(tmp_path: Path, filled: DockerRegistry, empty: DockerRegistry) -> None:
    """The example of its manual, and an expression without ends."""
    found = planned(tmp_path, "sync.yml", SKOPEO, filled, empty)
    options = ("--src", "yaml", "--dest", "dir", "--scoped", "--all")
    skopeo("sync", *options, tmp_path / "sync.yml", folder := tmp_path / "tree")
    copied = {
        str(path.parent.relative_to(folder / filled.host)).rpartition("/")[2] for path in folder.rglob("manifest.json")
    }
    assert {one.rpartition("/")[2] for one in found} == copied
    assert len(found) == len(copied) == 9
