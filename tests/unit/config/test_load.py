"""Loading: what a good file means, and every error of a bad one at once."""

from __future__ import annotations

import codecs
import pickle
import re
from pathlib import Path

import pytest

from ocisync.config.load import MAX_FILE, load_config
from ocisync.config.models import (
    Config,
    DropRuleSettings,
    RegistryTarget,
    S3Target,
    StaticTarget,
    SyncRule,
    TargetReference,
)
from ocisync.config.validation_context import MAX_SECRET
from ocisync.errors import ConfigError, Handling
from ocisync.model.image_name import ImageName
from ocisync.model.platform import Platform
from ocisync.wiring.store_options import settings_for
from tests.unit.config.support import errors, errors_with_targets, load, with_targets

ISSUE = """\
version: 1
registries:
  docker.io: {username: me, password: {env: HUB_TOKEN}, requests_per_second: 5, concurrency: 3}
targets:
  local:  {type: static, path: ./registry}
  mirror: {type: s3, bucket: registry, endpoint: http://127.0.0.1:8333, region: us-east-1, path_style: true}
  inner:  {type: registry, url: https://harbor.example.com}
drop:
  - {name: builds, path: ./drop, target: local}
sync:
  - {name: alpine, source: docker.io/library/alpine, target: mirror/library/alpine, interval: 60m,
     tags: {allow: ["3\\\\..*"]}}
daemon: {listen: "127.0.0.1:8080", state: ./state, drain: 30s}
"""


def test_the_documented_example_means_what_it_says() -> None:
    config = load(ISSUE, environ={"HUB_TOKEN": "tops3cret"})
    docker = settings_for(config, "docker.io")
    assert docker.password is not None
    assert (docker.username, docker.password.get_secret_value()) == ("me", "tops3cret")
    assert (docker.requests_per_second, docker.concurrency) == (5, 3)
    assert config.targets["local"] == StaticTarget(type="static", path=Path("/srv/conf/registry"))
    mirror, inner = config.targets["mirror"], config.targets["inner"]
    assert isinstance(mirror, S3Target)
    assert (mirror.bucket, mirror.path_style, mirror.part_size) == ("registry", True, 5 << 20)
    assert isinstance(inner, RegistryTarget)
    assert inner.url == "https://harbor.example.com"
    assert config.drop == (
        DropRuleSettings(name="builds", path=Path("/srv/conf/drop"), target=(TargetReference("local"),)),
    )
    (alpine,) = config.sync
    assert alpine.source == ImageName("docker.io", "library/alpine")
    assert alpine.target == alpine.places == (TargetReference("mirror", "library/alpine"),)
    assert (alpine.tags.allow, alpine.interval, alpine.recheck) == (("3\\..*",), 3600, 86400)
    assert (str(config.daemon.listen), config.daemon.drain) == ("127.0.0.1:8080", 30)
    assert config.temporary_path == Path("/srv/conf/state/tmp")
    assert config.warnings == ()


def test_values_are_frozen_and_secrets_hidden() -> None:
    config = load(ISSUE, environ={"HUB_TOKEN": "tops3cret"})
    assert "tops3cret" not in repr(config) + str(config) + config.model_dump_json() + repr(config.model_dump())
    assert config.secrets == ("tops3cret",)
    with pytest.raises(ValueError, match="frozen"):
        config.sync[0].interval = 1.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(config.sync[0])) == config.sync[0]


def test_several_targets_and_the_name_from_the_source() -> None:
    config = with_targets("""
        sync: [{source: alpine, target: [local, inner/mirror/alp]}]
        drop: [{path: /data/in, target: local/team, platforms: [linux/amd64, linux/arm64/v8]}]
    """)
    assert config.sync[0].places == (TargetReference("local", "library/alpine"), TargetReference("inner", "mirror/alp"))
    assert config.drop[0].target == (TargetReference("local", "team"),)
    assert config.drop[0].platforms == (Platform("linux", "amd64"), Platform("linux", "arm64", "v8"))
    assert config.drop[0].failed_path == Path("/data/in/failed")


def test_names_are_derived_and_unique() -> None:
    text = """
        drop: [{path: ./alpine, target: local}]
        sync:
          - {source: "alpine:3", target: local}
          - {source: ghcr.io/org/alpine, target: local}
          - {name: alpine-2, source: quay.io/x/alpine, target: local}
          - {source: localhost:5000/b__c, target: local}
    """
    names = [rule.name for rule in with_targets(text).rules]
    assert names == ["alpine", "alpine-3", "alpine-4", "alpine-2", "b__c"]
    assert names == [rule.name for rule in with_targets(text).rules]


def test_defaults_fill_what_a_registry_leaves_open() -> None:
    config = load("""
        version: 1
        defaults: {concurrency: 9, idle_timeout: 2m}
        registries: {index.docker.io: {concurrency: 2}}
    """)
    hub, other = settings_for(config, "docker.io"), settings_for(config, "quay.io")
    assert (hub.concurrency, hub.idle_timeout, hub.retries) == (2, 120, 5)
    assert (other.concurrency, other.idle_timeout) == (9, 120)


def test_empty_sections_and_free_keys_are_fine() -> None:
    config = load("""
        x-limits: &limits {concurrency: 2}
        version: 1
        sync:   # nothing yet
        registries: {quay.io: {<<: *limits, retries: 1}}
    """)
    assert (config.sync, config.registries["quay.io"].concurrency) == ((), 2)


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a secret of\ntwo lines\n\n")
    config = load("version: 1\ndaemon: {token: {file: token}}", folder=tmp_path)
    assert config.daemon.token is not None
    assert config.daemon.token.get_secret_value() == "a secret of\ntwo lines"


def test_a_secrets_file_is_small_text(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * (MAX_SECRET + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").write_bytes(b"\n")
    told = [
        errors(f"version: 1\ndaemon: {{token: {{file: {name}}}}}", folder=tmp_path)
        for name in ("big", "binary", "empty")
    ]
    assert [("larger than" in one[0], "not UTF-8" in one[0], "is empty" in one[0]) for one in told] == [
        (True, False, False), (False, True, False), (False, False, True),
    ]  # fmt: skip


def test_what_is_unwise_is_warned_about() -> None:
    config = load("""
        version: 1
        registries:
          ghcr.io:
            username: me
            password: in-the-open
            insecure_skip_verify: true
            headers: {X-Key: abc-def}
    """)
    assert [line.partition(". ")[0] for line in config.warnings] == [
        "c.yaml:6: registries[ghcr.io].password: a secret stands in the file as plain text",
        "c.yaml:7: registries[ghcr.io].insecure_skip_verify: certificates are not checked",
        "c.yaml:2: no rule is enabled, so there is nothing to do",
    ]
    assert config.secrets == ("in-the-open", "abc-def")


def test_fault_63_every_mistake_is_told_at_once_with_its_line_and_key() -> None:
    assert errors_with_targets("""\
        sync:
          - source: docker.io/library/alpine
            target: locl
            intervall: 60m
            tags: {alow: ["3.*"], deny: ["3("]}
          - {source: Alpine, target: local, interval: 60}
        drop: {path: ./x}
        daemon: {drain: soon, serve: inner}
        """) == [
        'c.yaml:5: sync[0].target: no target is named "locl": did you mean "local"?',
        'c.yaml:6: sync[0].intervall: unknown key "intervall": did you mean "interval"?',
        'c.yaml:7: sync[0].tags.alow: unknown key "alow": did you mean "allow"?',
        (
            "c.yaml:7: sync[0].tags.deny[0]: the expression '3(' cannot be compiled: "
            "missing ), unterminated subpattern at position 1. Correct it"
        ),
        "c.yaml:8: sync[1].interval: 60 has no unit. Write 60s for seconds or 60m for minutes",
        (
            "c.yaml:8: sync[1].source: 'library/Alpine' is not a repository name: use lower-case letters, digits "
            "and single . _ - inside components that are separated by /, at most 255 characters"
        ),
        "c.yaml:9: drop: expected a list, found a mapping. Write `- item` lines under it, or [item, item]",
        "c.yaml:10: daemon.drain: 'soon' is not a duration. Write a number with a unit: 10s, 60m, 24h, 7d or 1h30m",
        'c.yaml:10: daemon.serve: "inner" is a registry, which serves itself. Name a target of type static or s3',
    ]


LINES = [
    ("engine: {dsn: x}", "engine: the engine needs a type. Add `type: postgres`, or `type: local`"),
    ("engine: {type: postgress, dsn: x}", 'engine: unknown type "postgress": did you mean "postgres"?'),
    ("registrys: {}", 'registrys: unknown key "registrys": did you mean "registries"?'),
    ("creds: {}", 'creds: unknown key "creds": did you mean "registries"?'),
    (
        "sync: [{source: a, target: local, allow: [x]}]",
        'sync[0].allow: unknown key "allow": it belongs under `tags:`. Move it',
    ),
    (
        "sync: [{source: a, target: local, period: 1m}]",
        'sync[0].period: unknown key "period": did you mean "interval"?',
    ),
    ("sync: [{target: local}]", "sync[0].source: the required key is missing. Add it: the repository to copy from"),
    ("sync: [{source: docker://a/b, target: local}]", "sync[0].source: a source has no scheme. Write 'a/b'"),
    (
        "sync: [{source: 'a:1', target: local, tags: {deny: [x]}}]",
        "sync[0].tags: the source names the one tag 1 already",
    ),
    (
        "sync: [{source: a, target: local, tags: {allow: [3.10]}}]",
        'in quotes, found a number. Put it in quotes: "3.10"',
    ),
    ("sync: [{source: a, target: local, tags: {allow: 3}}]", "sync[0].tags.allow: expected a list, found a number"),
    ("sync: [{source: a, target: []}]", "sync[0].target: the list is empty. Name at least one target"),
    ("sync: [{source: a, target: [local, local]}]", "sync[0].target: 'local' appears twice. Remove one"),
    ("sync: [{source: a, target: 'local/b:1'}]", "all tags would become one. Write {tag} where a tag's name goes"),
    ("drop: [{path: d, target: 'local/b:1'}]", "a target takes no tag or digest. Write target/repository"),
    ("sync: [{source: a, target: local, interval: 0s}]", "sync[0].interval: 0s is out of range. Write at least 100ms"),
    ("sync: [{source: a, target: local, enabled: yes}]", "sync[0].enabled: expected true or false, found text"),
    ("sync: [{name: a b, source: a, target: local}]", "sync[0].name: 'a b' cannot be a name. Use letters, digits"),
    ("sync: [{name: x, source: a, target: local}, {name: x, source: b, target: local}]", 'sync[0] is named "x" too'),
    (
        "sync: [{source: 'a@sha256:" + 64 * "0" + "', target: local}]",
        "a digest never moves. For one image write",
    ),
    (
        "drop: [{path: d, target: local, layout: '{name}/{tag}'}]",
        "drop[0].layout: it needs {name}, {tag}, {os} and {arch}",
    ),
    (
        "drop: [{path: d, target: local, layout: '{nam}'}]",
        'drop[0].layout: unknown placeholder {nam}: did you mean "name"?',
    ),
    (
        r"drop: [{path: d, target: local, layout: '{name}\{tag}\{os}.{arch}'}]",
        "drop[0].layout: folders are separated by slashes",
    ),
    (
        "drop: [{path: d, target: local, layout: '{name}/{tag}/{os}.{arch}.tar.gz'}]",
        "drop[0].layout: it is a name without the archive's suffix, which is any. Leave out .tar.gz",
    ),
    (
        "drop: [{path: d, target: local, layout: '../{name}/{tag}/{os}.{arch}'}]",
        "drop[0].layout: it is not usable. Write a relative path",
    ),
    ("drop: [{path: d, target: local, platforms: [linux]}]", "drop[0].platforms[0]: 'linux' is not a platform"),
    (
        "drop: [{path: d, target: local, done: moved}]",
        'drop[0].done: expected "keep", "move" or "delete", found "moved"',
    ),
    (
        "drop: [{path: d, target: local}, {path: ./d, target: local}]",
        "drop[1].path: /srv/conf/d overlaps with the drop folder",
    ),
    ("drop: [{path: registry/d, target: local}]", "overlaps with the static registry local (/srv/conf/registry)"),
    ("drop: [{path: ., target: local}]", "drop[0].path: /srv/conf overlaps with the static registry local"),
    ("drop: [{path: d, target: local, failed_folder: registry/f}]", "lies in the static registry local"),
    ("drop: [{path: d, target: local, compression: zstd, format: docker}]", "docker's media types know no zstd"),
    ("drop: [{path: d, target: local, level: 13}]", "drop[0].level: 13 is out of range for gzip. Write 1 to 12"),
    (
        "drop: [{path: d, target: local, compression: none, level: 1}]",
        "there is no level without compression. Remove it",
    ),
    ("daemon: {serve: lokal}", 'daemon.serve: no target is named "lokal": did you mean "local"?'),
    ("daemon: {state: registry/state}", "daemon.state: /srv/conf/registry/state lies in the static registry local"),
    ("daemon: {listen: 8080}", "daemon.listen: expected an address such as 127.0.0.1:8080, found a number"),
    ("daemon: {token: {env: NOPE}}", "daemon.token: the environment variable NOPE is not set. Set it where"),
    ("daemon: {token: {file: nope}}", "daemon.token: cannot read the secret's file /srv/conf/nope: No such file"),
    ("daemon: {token: {env: A, file: b}}", "daemon.token: expected a secret, found a mapping. Write {env: VARIABLE}"),
    ("registries: {ghcr.io: {username: me}}", "registries[ghcr.io].username: a username needs a password"),
    ("registries: {ghcr.io: {password: secret}}", "registries[ghcr.io].password: a password needs a username"),
    ("registries: {'https://ghcr.io': {}}", "'https://ghcr.io' is not a registry's host: expected host or host:port"),
    (
        "registries: {docker.io: {}, index.docker.io: {}}",
        "registries[index.docker.io]: it is the same registry as docker.io",
    ),
    ("registries: {ghcr.io: {ca: no.pem}}", "registries[ghcr.io].ca: there is no file /srv/conf/no.pem. Create it"),
    (
        "registries: {ghcr.io: {ca: /etc/passwd}}",
        "ghcr.io].ca: /etc/passwd holds no certificate that can be",
    ),
    (
        "registries: {ghcr.io: {client_cert: /etc/passwd}}",
        "].client_cert: /etc/passwd holds no certificate",
    ),
    (
        "registries: {g.io: {username: a, password: '${HUB}'}}",
        "password: it looks like the variable HUB, and",
    ),
    ("registries: {g.io: {username: a, password: '${HUB:-x}'}}", "used as the secret itself. Write {env: HUB}"),
    ("registries: {g.io: {username: a, password: $HUB_TOKEN}}", "Write {env: HUB_TOKEN}"),
    ("registries: {g.io: {username: a, password: '{{ .Env.HUB }}'}}", "Write {env: HUB}"),
    ("registries: {g.io: {username: a, password: '{{env \"HUB\"}}'}}", "Write {env: HUB}"),
    ("daemon: {token: '${TOKEN}'}", "daemon.token: it looks like the variable TOKEN"),
    (
        "sync: [{source: a.io/a, target: local, tags: {allow: ['*-slim']}}]",
        "'*-slim' is a glob, not an expression. Write '.*-slim'",
    ),
    ("registries: {ghcr.io: {headers: {Host: a}}}", "headers.Host: ocisync sets Host itself. Remove it"),
    ("registries: {ghcr.io: {identity_token: t, credential_helper: h}}", "different ways to log in. Keep one"),
    ("registries: {ghcr.io: {concurrency: 0}}", "registries[ghcr.io].concurrency: 0 is out of range. Write at least 1"),
    (
        "registries: {ghcr.io: {concurrency: 1.5}}",
        "concurrency: expected a whole number, found a number. Write digits only",
    ),
    ("registries: {ghcr.io: }", "registries[ghcr.io]: expected a mapping, found nothing"),
    ("registries: {r.io: {client_key: /etc/passwd}}", "registries[r.io].client_key: a key needs its certificate"),
    ("registries: {r.io: {ecr: {}, username: me, password: p}}", "username and ecr are different ways"),
    (
        "registries: {r.io: {ecr: {regio: x}}}",
        'registries[r.io].ecr.regio: unknown key "regio": did you mean "region"?',
    ),
    ("registries: {r.io: {ecr: {access_key_id: k}}}", "registries[r.io].ecr.access_key_id: it needs secret_access_key"),
    ("registries: {r.io: {mirrors: ['https://m.io']}}", "mirrors[0]: a mirror has no scheme. Write 'm.io'"),
    ("registries: {r.io: {mirrors: [m.io/Path]}}", "mirrors[0]: 'Path' is not a repository name"),
    ("registries: {r.io: {mirrors: [m.io, r.io]}}", "mirrors[1]: a registry is no mirror of itself. Remove it"),
    ("registries: {r.io: {mirrors: [m.io, m.io/]}}", "mirrors[1]: m.io stands here twice. Remove one"),
    (
        "registries: {r.io: {proxy: 3128}}",
        "proxy: expected a URL, `direct` or a mapping, found a number. Write",
    ),
    ("defaults: {proxy: proxy.corp}", "defaults.proxy.url: not a URL of a service. Write https://host"),
    ("defaults: {proxy: 'http://p:3128/x'}", "defaults.proxy.url: a proxy has no path. Write http://host:port"),
    ("defaults: {proxy: {url: direct, username: me}}", "defaults.proxy.username: it needs password. Add `password`"),
    ("defaults: {proxy: {url: direct, usrname: a}}", 'unknown key "usrname": did you mean "username"?'),
]


@pytest.mark.parametrize(("text", "told"), LINES)
def test_each_mistake_has_one_line(text: str, told: str) -> None:
    (line,) = errors_with_targets(text)
    assert line.startswith("c.yaml:3: ")
    assert told in line
    assert re.search(r"[.?:] ?[A-Z`{]|\?$|: use |: expected ", line), "says what to do"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("{path: x}", "a target needs a type. Add `type: static`"),
        ("{type: S3}", 'unknown type "S3": did you mean "s3"?'),
        ("{type: static, path: x, bucket: y}", 'targets.t.bucket: unknown key "bucket". Known here: '),
        (
            "{type: static, path: x, keep: {}}",
            "targets.t.keep: it would remove every tag. Add newest, newer_than or tags",
        ),
        ("{type: s3, bucket: b, part_size: 1MiB}", "targets.t.part_size: 1MiB is out of range. Write at least 5MiB"),
        ("{type: s3, bucket: b, s3ForcePathStyle: true}", 'did you mean "path_style"?'),
        ("{type: s3, bucket: b, prefix: a//b}", "targets.t.prefix: 'a//b' is not a folder in a bucket"),
        ("{type: s3, bucket: b, access_key_id: k}", "targets.t.access_key_id: it needs secret_access_key"),
        ("{type: s3, bucket: b, session_token: k}", "targets.t.session_token: it needs access_key_id"),
        ("{type: registry, url: harbor.example.com}", "targets.t.url: not a URL of a service. Write https://host"),
    ],
)
def test_mistakes_in_targets(target: str, told: str) -> None:
    (line,) = errors(f"version: 1\ntargets: {{t: {target}}}")
    assert line.startswith("c.yaml:2: ")
    assert told in line


@pytest.mark.parametrize(
    "text",
    [
        "registries: {ghcr.io: {username: me, password: 8675309123}}",
        "registries: {ghcr.io: {username: me, password: [8675309123]}}",
        "registries: {ghcr.io: {username: me, password: {8675309123: env}}}",
        "registries: {ghcr.io: 8675309123}",
        "registries: {ghcr.io: [me, 8675309123]}",
        "registries: {ghcr.io: {headers: {X-Key: 8675309123}}}",
        "daemon: {token: 8675309123}",
        "targets: {t: {type: registry, url: 'https://me:8675309123@h'}}",
        "targets: {t: {type: s3, bucket: b, endpoint: 'https://me:8675309123@h'}}",
        "registries: {ghcr.io: {username: me, password: '8675309123', wrong: 1}}",
    ],
)
def test_fault_64_no_error_repeats_a_secret(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"version: 1\n{text}")
    chain = [
        caught.value,
        caught.value.__cause__,
        caught.value.__context__ if not caught.value.__suppress_context__ else None,
    ]
    assert "8675309123" not in "".join(f"{one!r} {one} {vars(one) if one else ''}" for one in chain)


def test_static_registries_do_not_share_a_folder() -> None:
    (line,) = errors("version: 1\ntargets: {a: {type: static, path: r}, b: {type: static, path: ./r/}}")
    assert "targets.b.path: /srv/conf/r overlaps with the static registry a" in line


def test_folders_are_compared_behind_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    text = "version: 1\ntargets: {a: {type: static, path: real}}\ndrop: [{path: link, target: a}]"
    (line,) = errors(text, folder=tmp_path)
    assert line.startswith("c.yaml:3: drop[0].path: ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "c.yaml:1: the configuration is empty. `ocisync init` writes one to start from"),
        ("# nothing\n", "c.yaml:1: the configuration is empty. `ocisync init` writes one to start from"),
        ("- a\n", "c.yaml:1: expected a mapping at the top. Begin with `version: 1`, and see `ocisync init`"),
        ("sync: []", "c.yaml:1: version: the required key is missing. Begin the file with `version: 1`"),
        ("version: 2", "c.yaml:1: version: expected 1, the only version of this format so far. Write `version: 1`"),
        ('version: "1"', "c.yaml:1: version: expected 1, the only version of this format so far. Write `version: 1`"),
        ("version: 1\nversion: 1", "c.yaml:2: version: the key appears twice, first on line 1. Remove one"),
    ],
)
def test_the_top_of_the_file(text: str, told: str) -> None:
    assert errors(text) == [told]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (codecs.BOM_UTF16_LE + "version: 1".encode("utf-16-le"), ":1: the file is UTF-16. Save it as UTF-8"),
        (b"version: 1\nx: \xff\n", ":2: not UTF-8 text (byte 14). Save the file as UTF-8"),
        (b" " * (MAX_FILE + 1), f": larger than {MAX_FILE} bytes. Is it the right file?"),
    ],
)
def test_bytes_that_are_no_configuration(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.message == f"{path}{told}"
    assert caught.value.handling is Handling.EXIT


def test_a_bom_is_accepted_and_paths_start_at_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(codecs.BOM_UTF8 + b"version: 1\ndaemon: {state: ../s, temporary: /t/./x}\n")
    config = load_config(path)
    assert config.daemon.state == tmp_path.parent / "s"
    assert config.temporary_path == Path("/t/x")
    assert config.file == str(path)


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`ocisync init` writes one to start from") as caught:
        load_config(tmp_path / "ocisync.yaml")
    assert caught.value.code == "config.missing"
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_rules_keep_their_kind() -> None:
    config = with_targets("drop: [{path: d, target: local}]\nsync: [{source: a, target: local}]")
    assert [type(rule) for rule in config.rules] == [DropRuleSettings, SyncRule]
    assert isinstance(config, Config)


def test_a_schedule_with_its_zone_stands_in_place_of_an_interval() -> None:
    rule = with_targets("sync: [{source: alpine, target: local, schedule: '@daily', time_zone: Europe/Berlin}]").sync[0]
    assert rule.cron is not None
    assert (rule.cron.fields, str(rule.cron.zone)) == ("0 0 * * *", "Europe/Berlin")
    assert with_targets("sync: [{source: alpine, target: local}]").sync[0].cron is None


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("schedule: '0 3 * * *', interval: 1h", "interval: `schedule` says when the rule runs. Remove `interval`"),
        ("schedule: '0 3 * * *', jitter: 0.2", "jitter: `schedule` says when the rule runs. Remove `jitter`"),
        ("time_zone: UTC", "time_zone: it only matters to a `schedule`. Add one, or remove it"),
        ("schedule: hourly", "schedule: 'hourly' is not a cron expression"),
        ("schedule: '0 3 * * *', time_zone: Berlin", "time_zone: 'Berlin' is not a time zone that this system knows"),
        ("cron: '0 3 * * *'", 'cron: unknown key "cron": did you mean "schedule"?'),
    ],
)
def test_schedules_that_are_refused(rule: str, told: str) -> None:
    (error,) = errors_with_targets(f"sync: [{{source: alpine, target: local, {rule}}}]")
    assert error.startswith(f"c.yaml:3: sync[0].{told}")


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("v*", "v.*"),
        ("1.2-*", r"1\.2-.*"),
        ("nightly*", "nightly.*"),
        (r"v\d*", ""),
        ("v.*", ""),
        ("3.*", ""),  # "3 and anything" as an expression too
        ("(rc)*", ""),
        ("latest", ""),
    ],
)
def test_a_glob_that_compiles_is_warned_about(pattern: str, meant: str) -> None:
    rule = f"{{source: a.io/a, target: t, tag_sets: [{{allow: ['{pattern}']}}]}}"
    text = f"version: 1\ntargets: {{t: {{type: static, path: r}}}}\nsync: [{rule}]\n"
    config = load(text)
    told = "".join(config.warnings)
    assert ("looks like a glob" in told) is bool(meant)
    assert f"Write {meant!r}" in told or not meant
