"""Options of other tools, one by one: what the import makes of each, and what it says of those that it leaves out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocisync.config.importers.detect import ForeignImport, convert_file
from ocisync.config.load import parse_config
from ocisync.config.models import LayoutFolderTarget, RegistryTarget, SyncRule
from ocisync.errors import ConfigError
from ocisync.sync.select import select_tags
from ocisync.wiring.jobs import sync_jobs


def convert(folder: Path, text: str, name: str = "foreign.yml") -> ForeignImport:
    (folder / name).write_text(text)
    return convert_file(folder / name)


def rules_of(found: ForeignImport, folder: Path) -> list[SyncRule]:
    return list(parse_config(found.text, folder=folder, environ={"NAME": "me", "WORD": "pass"}).sync)


def selected(found: ForeignImport, folder: Path, *listed: str) -> dict[str, str]:
    """Tags at the target -> tags of the source, of the first rule."""
    config = parse_config(found.text, folder=folder)
    return select_tags(sync_jobs(config.sync[0], config)[0].tags, listed)


def dregsy(tags: str = "", more: str = "") -> str:
    mapping = f"{{from: a/x{tags and f', tags: {tags}'}{more}, platform: all}}"
    places = "source: {registry: s.test}, target: {registry: d.test}"
    return f"tasks: [{{name: t, interval: 60, {places}, mappings: [{mapping}]}}]\n"


TAGS = ("1.0", "1.1-slim", "2.0", "ab", "ac", "bb", "latest")


@pytest.mark.parametrize(
    ("tags", "brought"),
    [
        ("", list(TAGS)),
        ("['1.0', latest]", ["1.0", "latest"]),
        ("['regex: a.']", ["ab", "ac"]),
        ("['regex: a|b']", ["ab", "ac", "bb"]),  # ^a|b$ in dregsy: begins with a, or ends with b
        ("['regex: !.*[0-9].*']", ["1.1-slim", "ab", "ac", "bb", "latest"][1:]),
        ("['regex: a.', latest]", ["ab", "ac", "latest"]),
        ("['keep: a.']", ["ab", "ac"]),  # of all tags
        ("['keep: !a.', 'keep: !1.*']", ["2.0", "bb", "latest"]),
        ("[ab, '1.0', 'keep: [0-9].*']", ["1.0", "ab"]),  # named tags stay
        ("[ab, 'regex: [12].*', 'keep: 1.*']", ["1.0", "1.1-slim", "ab"]),
        ("['regex: .b', 'keep: a.']", ["ab"]),
    ],
)
def test_dregsys_tags_select_what_dregsy_copies(tags: str, brought: list[str], tmp_path: Path) -> None:
    found = convert(tmp_path, dregsy(tags))
    assert found.left_out == ()
    assert sorted(selected(found, tmp_path, *TAGS)) == sorted(brought)


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ("['regex: (a', latest]", "rule t: tags: the expression '(a' cannot be compiled"),
        ("['1.0', 'regex: a', 'keep: latest 2']", "rule t: keep: latest 2 holds for all items together in dregsy"),
    ],
)
def test_what_dregsy_selects_otherwise_is_told(tags: str, told: str, tmp_path: Path) -> None:
    found = convert(tmp_path, dregsy(tags))
    assert told in " ".join(found.left_out)


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("", "d.test/a/x"),
        (", to: b/y", "d.test/b/y"),
        (", to: 'regex:^/a/,/c/'", "d.test/c/x"),  # the path begins with a slash
        (", to: 'regex:(.)/x,b/$1'", "d.test/b/a"),
        (", to: 'regex:[ax],z'", "d.test/z/z"),  # every match
    ],
)
def test_dregsys_targets(target: str, place: str, tmp_path: Path) -> None:
    (rule,) = rules_of(convert(tmp_path, dregsy(more=target)), tmp_path)
    assert str(rule.places[0]) == place


def regsync(step: str, defaults: str = "") -> str:
    top = f"defaults: {defaults}\n" if defaults else ""
    return f"version: 1\n{top}sync: [{{source: a.test/x, target: b.test/y, type: repository, {step}}}]\n"


def test_a_step_with_an_interval_or_a_schedule_takes_neither_of_the_defaults_as_in_regsync(tmp_path: Path) -> None:
    found = convert(tmp_path, regsync("interval: 5m", '{schedule: "1 2 * * *"}'))
    (rule,) = rules_of(found, tmp_path)
    assert (rule.schedule, rule.interval, found.left_out) == (None, 300, ())
    (rule,) = rules_of(convert(tmp_path, regsync("backup: ''", '{schedule: "1 2 * * *", interval: 5m}')), tmp_path)
    assert rule.schedule == "1 2 * * *"
    (rule,) = rules_of(convert(tmp_path, regsync('schedule: "1 2 * * *"', "{interval: 5m}")), tmp_path)
    assert rule.schedule == "1 2 * * *"
    (rule,) = rules_of(convert(tmp_path, regsync("backup: ''", "{interval: 5m}")), tmp_path)
    assert rule.interval == 300


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("hooks: {pre: {type: exec}}", "rule x: hooks: has no equivalent"),
        ("unheard: of", "rule x: unheard: not known to this import"),
        ("backup: '{{.Ref.Registry}}/b'", "rule x: backup: {{.Ref.Registry}}/b has no equivalent"),
        ("targetTag: '{{now}}'", "rule x: targetTag: {{now}} has no equivalent"),
        ("interval: often", "rule x: interval: often is not a duration"),
        ("tags: {allow: ['(a']}", "rule x: tags.allow: the expression '(a' cannot be compiled"),
    ],
)
def test_what_is_left_out_of_a_step_is_told(step: str, told: str, tmp_path: Path) -> None:
    found = convert(tmp_path, regsync(step))
    assert told in " ".join(found.left_out)
    assert rules_of(found, tmp_path)


def test_regsyncs_tag_at_the_target(tmp_path: Path) -> None:
    found = convert(tmp_path, regsync("targetTag: '{{ .Ref.Tag }}-mirror'"))
    assert selected(found, tmp_path, "1") == {"1-mirror": "1"}


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (
            "{source: 'ocidir:///srv/x', target: a.test/x, type: registry}",
            "/srv/x is a layout, which holds one repository",
        ),
        ("{source: a.test/x, target: 'ocidir:///srv/X y', type: repository}", "'X y'"),
        ("{source: a.test/x, target: '{{env \"T\"}}/x', type: repository}", "is a template; write the name"),
    ],
)
def test_a_step_that_cannot_be_a_rule_is_left_out(step: str, told: str, tmp_path: Path) -> None:
    found = convert(tmp_path, f"sync: [{{source: a.test/y, target: b.test/y, type: repository}}, {step}]\n")
    assert [rule.name for rule in rules_of(found, tmp_path)] == ["y"]
    assert told in " ".join(found.left_out)


@pytest.mark.parametrize(
    ("step", "target", "repository"),
    [
        ("{source: a.test/x, target: 'ocidir:///srv/out/x', type: repository}", "/srv/out", "x"),
        ("{source: 'a.test/x:1', target: 'ocidir:///srv/out/y:2', type: image}", "/srv/out", "y"),
        ("{source: a.test/x, target: 'ocidir://out', type: repository}", ".", "out"),
    ],
)
def test_regsyncs_layouts_as_targets(step: str, target: str, repository: str, tmp_path: Path) -> None:
    found = convert(tmp_path, f"sync: [{step}]\n")
    config = parse_config(found.text, folder=tmp_path)
    (rule,) = config.sync
    (place,) = rule.places
    settings = config.targets[place.target]
    assert isinstance(settings, LayoutFolderTarget)
    assert settings.path == (tmp_path if target == "." else Path(target))
    assert (place.repository, found.left_out) == (repository, ())


def test_regsyncs_layouts_as_sources(tmp_path: Path) -> None:
    steps = (
        "{source: 'ocidir:///srv/x', target: b.test/x, type: repository}, "
        "{source: 'ocidir://in:3', target: b.test/y, type: image, ratelimit: {min: 5}}"
    )
    found = convert(tmp_path, f"sync: [{steps}]\n")
    assert found.left_out == ()
    whole, one = rules_of(found, tmp_path)
    assert (str(whole.source), whole.source.tag) == ("oci:/srv/x", "")
    assert (str(one.source), one.source.tag) == (f"oci:{tmp_path}/in", "3")


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_a_file_inside_a_manifest_of_kubernetes(kind: str, tmp_path: Path) -> None:
    import base64

    inner = regsync("interval: 1h")
    text = inner if kind == "ConfigMap" else base64.b64encode(inner.encode()).decode()
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "regsync"}, "data": {"regsync.yml": text}}
    found = convert(tmp_path, json.dumps(document))
    assert [str(rule.source) for rule in rules_of(found, tmp_path)] == ["a.test/x"]
    with pytest.raises(ConfigError, match="with 2 files"):
        convert(tmp_path, json.dumps({**document, "data": {"a": text, "b": text}}))


def zot(registry: str, more: str = "") -> str:
    return f"{{extensions: {{sync: {{{more}registries: [{{urls: ['https://a.test'], {registry}}}]}}}}}}\n"


def test_zots_credentials_come_from_their_file(tmp_path: Path) -> None:
    (tmp_path / "logins.json").write_text('{"a.test": {"username": "me", "password": "word"}}')
    content = "pollInterval: 1h, content: [{prefix: x/y}]"
    found = convert(tmp_path, zot(content, "credentialsFile: logins.json, "))
    login = parse_config(found.text, folder=tmp_path).registries["a.test"]
    assert (login.username, found.left_out) == ("me", ())
    missing = convert(tmp_path, zot(content, "credentialsFile: /no/logins.json, "))
    assert "sync.credentialsFile: /no/logins.json cannot be read here" in missing.left_out[0]


def test_zots_on_demand_is_told_as_what_it_is(tmp_path: Path) -> None:
    found = convert(tmp_path, zot("onDemand: true, content: [{prefix: x/y}]"))
    assert [rule.enabled for rule in rules_of(found, tmp_path)] == [False]
    assert "rule y: zot brought these only when somebody asked" in " ".join(found.left_out)
    with pytest.raises(ConfigError, match="only asked on demand and lists no content"):
        convert(tmp_path, zot("onDemand: true"))


def test_two_names_that_skopeo_would_write_over_each_other_get_places_of_their_own(tmp_path: Path) -> None:
    found = convert(tmp_path, "{a.test: {images: {x/app: ['1'], y/app: ['1']}}}")
    assert [str(rule.places[0]) for rule in rules_of(found, tmp_path)] == ["mirror/app", "mirror/a.test/y/app"]
    assert "without --scoped skopeo would write it over another image" in found.left_out[0]


def test_a_rule_that_config_check_would_refuse_is_left_out(tmp_path: Path) -> None:
    steps = (
        "{source: a.test/x, target: c.test/x, type: repository}, {source: b.test/y, target: c.test/x, type: repository}"
    )
    found = convert(tmp_path, f"sync: [{steps}]\n")
    assert [rule.name for rule in rules_of(found, tmp_path)] == ["x"]
    assert "rule y was left out: sync[0] writes every tag of c.test/x too" in found.left_out[0]


IMAGE_SYNCER = {
    "auth": {
        "quay.io": {"username": "${NAME}", "password": "$WORD"},
        "quay.io/a": {"username": "team", "password": "word"},
        "plain.test:5000": {"username": "u", "password": "p", "insecure": True},
    },
    "images": {
        "quay.io/coreos/kube-rbac-proxy": "plain.test:5000/ruohe/kube-rbac-proxy",
        "quay.io/a/b:1,2,3": "plain.test:5000/x/b",
        "quay.io/a/c:1": ["plain.test:5000/x/c:one", "d.test/x/c"],
        "quay.io/a/d:/^v[0-9]+$/": "plain.test:5000/x/d",
        "quay.io/a/e@sha256:" + "a" * 64: "plain.test:5000/x/e",
        "quay.io/a/f": "",
    },
}


def test_image_syncer(tmp_path: Path) -> None:
    found = convert(tmp_path, json.dumps(IMAGE_SYNCER), "images.json")
    config = parse_config(found.text, folder=tmp_path, environ={"NAME": "me", "WORD": "pass"})
    quay, plain = config.registries["quay.io"], config.registries["plain.test:5000"]
    assert quay.password
    assert config.registries["quay.io/a"].username == "team"
    assert (quay.username, quay.password.get_secret_value(), plain.plain_http) == ("me", "pass", True)
    target = config.targets["plain.test-5000"]
    assert isinstance(target, RegistryTarget)
    assert target.url == "http://plain.test:5000"
    tags = ("1", "2", "3", "4", "v1", "xv1")
    brought = {
        f"{rule.source} -> {job.target.target}/{job.target.repository}": select_tags(job.tags, tags)
        for rule in config.sync
        for job in sync_jobs(rule, config)
    }
    assert brought["quay.io/coreos/kube-rbac-proxy -> plain.test-5000/ruohe/kube-rbac-proxy"] == {t: t for t in tags}
    assert brought["quay.io/a/b -> plain.test-5000/x/b"] == {"1": "1", "2": "2", "3": "3"}
    assert brought["quay.io/a/c:1 -> plain.test-5000/x/c"] == {"one": "1"}
    assert brought["quay.io/a/c:1 -> d.test/x/c"] == {"1": "1"}
    assert brought["quay.io/a/d -> plain.test-5000/x/d"] == {"v1": "v1"}
    assert len(brought) == 6
    assert found.left_out == (
        "quay.io/a/f was left out: image-syncer sends it to --registry and --namespace; name its target",
    )
    alone = convert(tmp_path, json.dumps(IMAGE_SYNCER["images"]), "alone.json")
    assert len(rules_of(alone, tmp_path)) == 6


def test_the_file_of_oc_image_mirror(tmp_path: Path) -> None:
    lines = """
        # a comment
        a.test/x/one:1=b.test/y/one:uno   # and another
        a.test/x/two:2 b.test/y/two c.test/y/two:zwei
        a.test/x/three:v1.* b.test/y/three
        a.test/x/four@sha256:%s=b.test/y/four:v4
        a.test/x/five:1=file://five
        a.test/x/six=b.test/y/six
    """
    found = convert(tmp_path, lines % ("b" * 64))
    config = parse_config(found.text, folder=tmp_path)
    brought = {
        f"{rule.source.repository} -> {rule.places[0].target}/{rule.places[0].repository}": select_tags(
            sync_jobs(rule, config)[0].tags, ("v1.0", "v1x", "v2")
        )
        for rule in config.sync
    }
    assert brought == {
        "x/one -> b.test/y/one": {"uno": "1"},
        "x/two -> b.test/y/two": {"2": "2"},
        "x/two -> c.test/y/two": {"zwei": "2"},
        "x/three -> b.test/y/three": {"v1.0": "v1.0"},
        "x/four -> b.test/y/four": {"v4": "sha256:" + "b" * 64},
    }
    assert [one.partition(" was left out")[0] for one in found.left_out] == [
        "a.test/x/five:1 -> file://five",
        "a.test/x/six -> b.test/y/six",
    ]


REGSYNC_STEPS = """version: 1
defaults: {interval: 1h}
sync:
  - {source: alpine, target: 'mirror.test:5000/hub/{{ .Sync.Source }}', type: repository, tags: {allow: ['3']}}
  - {source: gcr.io/team/app, target: 'mirror.test:5000/gcr/{{ index (split .Sync.Source "gcr.io/") 1 }}'}
  - {source: 'busybox:latest', target: 'mirror.test:5000/bb:latest', type: repository, tags: {allow: [latest]}}
  - {source: old.test, target: mirror.test:5000/old, type: registry}
"""


def test_regsyncs_templates_and_places_are_its_own(tmp_path: Path) -> None:
    file = tmp_path / "regsync.yml"
    file.write_text(REGSYNC_STEPS)
    found = convert_file(file)
    assert found.left_out == ()
    hub, gcr, busybox, whole = parse_config(found.text, folder=tmp_path).sync
    assert [str(rule.target[0]) for rule in (hub, gcr, busybox)] == [
        "mirror.test-5000/hub/alpine", "mirror.test-5000/gcr/team/app", "mirror.test-5000/bb",
    ]  # fmt: skip
    assert (str(busybox.source), busybox.tags.allow) == ("docker.io/library/busybox", ("latest",))
    assert whole.places_of("a/b")[0].repository == "old/a/b"


def test_of_several_manifests_the_one_with_a_configuration_is_taken(tmp_path: Path) -> None:
    inner = "\n".join(f"    {line}" for line in REGSYNC_STEPS.splitlines())
    config = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: r}}\ndata:\n  regsync.yml: |\n{inner}\n"
    file = tmp_path / "manifests.yaml"
    file.write_text(f"# a comment\n---\n{config}---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: r}}\n")
    assert len(parse_config(convert_file(file).text, folder=tmp_path).sync) == 4


def test_one_image_by_its_digest_may_be_named_twice(tmp_path: Path) -> None:
    digest = "sha256:" + "a1" * 32
    file = tmp_path / "images.yaml"
    file.write_text(f"a.test/app: b.test/app\na.test/app@{digest}: b.test/app\na.test/app:/a+/: b.test/app\n")
    found = convert_file(file, "image-syncer")
    assert not [one for one in found.left_out if "writes digest-" in one]
    assert len(parse_config(found.text, folder=tmp_path).sync) >= 2


ODD = "a\u202eb\u2066c\x85d\u200ee"


def test_no_text_of_the_other_file_steers_a_terminal(tmp_path: Path) -> None:
    document = {
        "version": 1,
        ODD: ODD,
        "creds": [{"registry": "r.test", "user": ODD, "pass": "p", ODD: ODD}],
        "sync": [
            {"source": "r.test/a", "target": "t.test/a", "type": "repository", "tags": {"allow": [ODD]}, ODD: ODD},
            {"source": f"r.test/a:{ODD}", "target": "t.test/a", "type": "image"},
        ],
    }
    found = convert(tmp_path, json.dumps(document), "regsync.yml")
    assert found.text.replace("\n", "").isprintable()
    config = parse_config(found.text, folder=tmp_path)
    assert config.registries["r.test"].username == ODD
    assert ODD in config.sync[0].tags.allow
