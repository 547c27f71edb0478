"""What clients are told about a mirror, read back by the formats' own parsers."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml

from ocisync.config.client_mirrors import Client, find_mirror, render
from ocisync.config.load import parse_config
from ocisync.errors import ConfigError

URL = "https://mirror.example"


def files_of(client: Client, *rules: str, url: str = URL) -> tuple[dict[str, str], list[str]]:
    text = "version: 1\ntargets: {m: {type: static, path: r}, o: {type: static, path: o}}\nsync:\n"
    text += "".join(f"- {{name: r{number}, {rule}}}\n" for number, rule in enumerate(rules))
    files, left_out = render(client, find_mirror(parse_config(text, folder=Path("/")), "m", url))
    return {file.path: file.text for file in files}, left_out


SAME = "source: docker.io/library/alpine, target: m"
PREFIXED = "source: ghcr.io/org/app, target: m/hub/org/app"
RENAMED = "source: ghcr.io/org/app, target: m/mine"
WHOLE = "source: quay.io, type: registry, target: 'm/quay/{repository}'"
BELOW = "source: quay.io/org, type: registry, target: m"


@pytest.mark.parametrize(
    ("rule", "host", "server", "place"),
    [
        (SAME, "docker.io", "https://registry-1.docker.io", URL),
        (PREFIXED, "ghcr.io", "https://ghcr.io", f"{URL}/v2/hub"),
        (WHOLE, "quay.io", "https://quay.io", f"{URL}/v2/quay"),
        (BELOW, "quay.io", "https://quay.io", URL),
    ],
)
def test_containerd(rule: str, host: str, server: str, place: str) -> None:
    files, left_out = files_of("containerd", rule)
    document = tomllib.loads(files[f"/etc/containerd/certs.d/{host}/hosts.toml"])
    assert document["server"] == server
    ((found, settings),) = document["host"].items()
    assert (found, settings["capabilities"]) == (place, ["pull", "resolve"])
    assert settings.get("override_path", False) is ("/v2/" in place)
    assert (len(files), left_out) == (1, [])


def test_containerd_asks_several_prefixes_in_turn() -> None:
    files, _ = files_of("containerd", PREFIXED, "source: ghcr.io/org/web, target: m", url=f"{URL}/base")
    hosts = tomllib.loads(files["/etc/containerd/certs.d/ghcr.io/hosts.toml"])["host"]
    assert list(hosts) == [f"{URL}/v2/base/hub", f"{URL}/v2/base"]


def test_what_containerd_cannot_be_told() -> None:
    files, left_out = files_of("containerd", RENAMED)
    assert files == {}
    assert left_out == [
        "ghcr.io/org/app: containerd wants it under its own name at the mirror, after a prefix, not as mine"
    ]


@pytest.mark.parametrize(
    ("rule", "source", "place"),
    [
        (SAME, "docker.io/library/alpine", "mirror.example/library/alpine"),
        (RENAMED, "ghcr.io/org/app", "mirror.example/mine"),
        (WHOLE, "quay.io", "mirror.example/quay"),
        (BELOW, "quay.io/org", "mirror.example/org"),
    ],
)
def test_podman_and_openshift(rule: str, source: str, place: str) -> None:
    (text,) = files_of("podman", rule)[0].values()
    (registry,) = tomllib.loads(text)["registry"]
    assert registry == {"prefix": source, "location": source, "mirror": [{"location": place}]}
    (text,) = files_of("podman", rule, url="http://mirror.example")[0].values()
    assert tomllib.loads(text)["registry"][0]["mirror"] == [{"location": place, "insecure": True}]
    (text,) = files_of("openshift", rule)[0].values()
    assert "&id" not in text
    digests, tags = yaml.safe_load_all(text)
    assert (digests["apiVersion"], digests["kind"]) == ("config.openshift.io/v1", "ImageDigestMirrorSet")
    assert digests["spec"] == {"imageDigestMirrors": [{"source": source, "mirrors": [place]}]}
    assert (tags["kind"], tags["spec"]) == (
        "ImageTagMirrorSet",
        {"imageTagMirrors": digests["spec"]["imageDigestMirrors"]},
    )


@pytest.mark.parametrize(
    ("rule", "host", "rewrite"),
    [
        (SAME, "docker.io", None),
        (RENAMED, "ghcr.io", {"^org/app$": "mine"}),
        (WHOLE, "quay.io", {"^(.*)$": "quay/$1"}),
        ("source: quay.io/org, type: registry, target: 'm/q/{repository}'", "quay.io", {"^org/(.*)$": "q/org/$1"}),
    ],
)
def test_k3s(rule: str, host: str, rewrite: dict[str, str] | None) -> None:
    (text,) = files_of("k3s", rule)[0].values()
    expected = {"endpoint": [URL]} | ({"rewrite": rewrite} if rewrite else {})
    assert yaml.safe_load(text) == {"mirrors": {host: expected}}


def test_docker_mirrors_docker_hub_under_its_own_names_only() -> None:
    files, left_out = files_of("docker", SAME, PREFIXED, url="http://mirror.example:8080")
    (text,) = files.values()
    assert json.loads(text) == {
        "registry-mirrors": ["http://mirror.example:8080"],
        "insecure-registries": ["mirror.example:8080"],
    }
    assert left_out == ["ghcr.io/org/app: docker mirrors Docker Hub only"]
    assert files_of("docker", "source: docker.io/library/alpine, target: m/alpine")[0] == {}


@pytest.mark.parametrize(
    "rule",
    [
        "source: a.io/x, target: 'm/x:{tag}-y'",
        "source: a.io/x, target: m, rename: {tags: {a: b}}",
        "source: a.io, type: registry, target: 'm/{name}'",
        "source: a.io/x, type: registry, target: m, rename: {strip_prefix: x/}",
    ],
)
def test_names_that_no_client_can_be_told(rule: str) -> None:
    files, left_out = files_of("podman", rule, SAME)
    assert tomllib.loads("".join(files.values()))["registry"][0]["prefix"] == "docker.io/library/alpine"
    assert len(left_out) == 1


def test_other_targets_and_rules_that_are_off_do_not_count() -> None:
    files, _ = files_of("podman", SAME, "source: a.io/x, target: o", "source: b.io/x, target: m, enabled: false")
    assert len(tomllib.loads("".join(files.values()))["registry"]) == 1


def test_the_address_of_a_registry_stands_in_the_configuration() -> None:
    target = "{type: registry, url: 'https://r.example/team'}"
    text = f"version: 1\ntargets: {{m: {target}}}\nsync: [{{source: a.io/x, target: m}}]\n"
    config = parse_config(text, folder=Path("/"))
    (file,), _ = render("podman", find_mirror(config, "m"))
    assert tomllib.loads(file.text)["registry"][0]["mirror"] == [{"location": "r.example/team/x"}]
    with pytest.raises(ConfigError, match="no target is named n; known are m"):
        find_mirror(config, "n")
    static = parse_config("version: 1\ntargets: {m: {type: static, path: r}}\n", folder=Path("/"))
    with pytest.raises(ConfigError, match="give it as --url"):
        find_mirror(static, "m")
