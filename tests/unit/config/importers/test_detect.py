"""Other tools' configurations become ours, which the loader accepts; the examples have every documented key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ocisync.config.importers.detect import convert_file
from ocisync.config.importers.foreign_patterns import anchor
from ocisync.config.load import parse_config
from ocisync.config.models import Config, RegistryTarget, S3Target, StaticTarget, SyncRule
from ocisync.errors import ConfigError

HERE = Path(__file__).parent
EXAMPLES = {
    "regsync": "regsync.yml",
    "skopeo": "skopeo.yml",
    "dregsy": "dregsy.yaml",
    "zot": "zot.json",
    "flux-mirror": "flux-mirror.yaml",
}


def loaded(text: str, folder: Path) -> Config:
    (folder / "hub-token").write_text("a token\n")
    return parse_config(text, folder=folder, environ={"HUB_LOGIN": "me"})


def imported(name: str, folder: Path) -> tuple[str, Config, dict[str, SyncRule]]:
    text = convert_file(HERE / EXAMPLES[name]).text
    config = loaded(text, folder)
    return text, config, {rule.name: rule for rule in config.sync}


def of_text(folder: Path, text: str, origin: str | None = None) -> str:
    file = folder / "foreign.yml"
    file.write_text(text)
    return convert_file(file, origin).text  # type: ignore[arg-type]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_recognised_and_its_import_is_valid(name: str, tmp_path: Path) -> None:
    text, config, rules = imported(name, tmp_path)
    assert rules
    assert "not known to this import" not in text
    assert text == convert_file(HERE / EXAMPLES[name], name).text  # type: ignore[arg-type]
    assert config.file


def test_regsync(tmp_path: Path) -> None:
    text, config, rules = imported("regsync", tmp_path)
    hub, mirror, old = (config.registries[host] for host in ("docker.io", "mirror.test:5000", "old.test"))
    assert hub.password
    assert (hub.username, hub.password.get_secret_value()) == ("me", "a token")
    assert (mirror.plain_http, mirror.requests_per_second, mirror.concurrency) == (True, 2.5, 4)
    assert (old.insecure_skip_verify, old.username) == (True, "reader")
    assert [str(one) for one in old.mirrors] == ["near.test/old", "far.test"]
    assert config.registries["123456789012.dkr.ecr.eu-west-1.amazonaws.com"].credential_helper == "ecr-login"
    assert config.daemon.concurrent_images == 4
    assert hub.rate_limit
    assert config.defaults.rate_limit
    assert (hub.rate_limit.min, config.defaults.rate_limit.min, config.defaults.rate_limit.retry) == (20, 50, 600)
    target = config.targets["mirror.test-5000"]
    assert isinstance(target, RegistryTarget)
    assert target.url == "http://mirror.test:5000"
    hello, golang, web, registry = (rules[name] for name in ("hello-world", "golang", "web", "old.test"))
    assert (hello.type, str(hello.source), hello.interval) == ("image", "docker.io/library/hello-world:latest", 5400)
    assert (hello.target[0].repository, hello.target[0].tag) == ("base/hello-world", "stable")
    assert hello.backup is None
    assert hello.referrers
    assert (hello.referrers.types, hello.digest_tags) == (("application/vnd.test",), True)
    assert golang.cron
    assert (golang.cron.fields, golang.backup) == ("40 2 * * *", "old-{tag}")
    assert golang.tags.allow == (r"1.2\d", "3.10")
    assert golang.tags.semver
    assert [str(one) for one in golang.platforms] == ["linux/amd64", "linux/arm64"]
    assert web.cron
    assert (str(web.cron.zone), len(web.tag_sets)) == ("Europe/Berlin", 2)
    assert (web.include_external, golang.include_external) == (True, False)
    assert (registry.type, registry.interval) == ("registry", 7200)
    assert (registry.repositories.allow, registry.repositories.deny) == (("team/.*",), (".*-test",))
    for told in ("regcert:", "hostname:", "hooks:", "defaults.userAgent:", "backup: {{$t"):
        assert f"# {told}" in text


def test_skopeo(tmp_path: Path) -> None:
    _, config, rules = imported("skopeo", tmp_path)
    assert config.registries["registry.test:5443"].username == "reader"
    assert config.registries["quay.io"].insecure_skip_verify
    assert rules["all"].tags.allow == ()
    assert rules["some"].tags.allow == (r"7\.0", r"3\.10")
    assert list(rules["some"].digests.values()) == ["sha256:" + "1" * 64]
    assert list(rules["pinned"].digests.values()) == ["sha256:" + "2" * 64]
    assert rules["front"].tags.allow == (r"2\.[0-4]-slim",)
    assert rules["back"].tags.allow == (".*(?:stable).*",)
    assert rules["os"].tags.semver
    assert [str(place) for place in rules["store"].target] == ["mirror/store"]


def test_dregsy(tmp_path: Path) -> None:
    text, config, rules = imported("dregsy", tmp_path)
    assert config.registries["source.test"].username == "me"
    assert config.registries["target.test:5000"].insecure_skip_verify
    assert config.registries["123456789012.dkr.ecr.eu-west-1.amazonaws.com"].ecr
    assert (rules["nightly"].interval, rules["nightly"].tags.allow) == (7200, (r"1\.0\.0", r"1\.0\.1"))
    assert [str(one) for one in rules["nightly-2"].platforms] == ["linux/arm64"]
    assert rules["nightly-3"].target[0].repository == "kept/web"
    assert [len(tags.deny) for tags in rules["nightly-3"].tag_sets] == [0, 1, 0, 1]
    assert rules["nightly-3"].tag_sets[3].deny == (".*-dev",)
    assert rules["nightly-4"].digests == {"digest-3333333333333333": "sha256:" + "3" * 64}
    assert rules["nightly-5"].tags.latest == 3
    assert rules["nightly-6"].tags.deny == (".*beta.*",)
    amazon, batch = rules["amazon"], rules["amazon-2"]
    assert (amazon.type, amazon.enabled, amazon.repositories.allow) == ("registry", False, ("acme/.*",))
    assert str(amazon.places_of("acme/web")[0]) == "target.test-5000/ecr/acme/web"
    assert str(batch.places_of("jobs/batch-7")[0]) == "target.test-5000/done/batch/7"
    assert "# auth: it holds no user and password" in text


def test_zot(tmp_path: Path) -> None:
    text, config, rules = imported("zot", tmp_path)
    assert isinstance(config.targets["local"], StaticTarget)
    assert (str(config.daemon.listen), config.daemon.serve) == ("0.0.0.0:5001", "local")
    assert config.registries["one.test:5000"].retries == 3
    assert config.registries["three.test"].plain_http
    assert [str(one) for one in config.registries["one.test:5000"].mirrors] == ["two.test"]
    assert rules["app"].tags.deny[0] == ".*(?:.*arm.*).*"
    assert str(rules["other"].places[0]) == "local/here"
    assert rules["many"].repositories.allow == ("many(?:/.*)?",)
    assert str(rules["x"].places_of("libs/a/x")[0]) == "local/there/a/x"
    assert (rules["app"].digest_tags, rules["app"].referrers is not None) == (True, True)
    assert (rules["os"].enabled, rules["app"].interval) == (False, 6 * 3600)
    assert (rules["app"].enabled, rules["app"].verify) == (False, None)  # nobody is named whose signatures count
    for told in ("onlySigned:", "onDemand:", "sync.credentialsFile:", "http.auth:"):
        assert f"# {told}" in text


def test_flux_mirror(tmp_path: Path) -> None:
    text, config, rules = imported("flux-mirror", tmp_path)
    cli, controller, nightly, anybody = (rules[one] for one in ("flux-cli", "source-controller", "nightly", "anybody"))
    assert (cli.tags.latest, cli.overwrite, cli.digest_tags) == (10, "never", True)
    assert cli.verify is not None
    assert cli.verify == controller.verify
    assert cli.verify.names == ("signed-1",)
    (signer,) = config.verify["signed-1"].keyless
    assert signer.issuer == "https://token.actions.githubusercontent.com"
    assert signer.identity == "https://github.com/fluxcd/.*"
    assert cli.min_age is not None
    assert (cli.min_age.of, cli.min_age.by) == (3 * 86400, "log")
    assert (controller.tags.latest, controller.overwrite, controller.min_age) == (1, "always", None)
    assert (nightly.tags.latest, nightly.tags.latest_by, nightly.tags.allow) == (5, "number", (r".+-(?P<order>\d+)",))
    assert (anybody.enabled, anybody.verify) == (False, None)
    assert config.registries["registry.test:5000"].chunk_size == 1024 * 1024
    for told in ("charts:", "hosts.credential:", "verify:"):
        assert f"# {told}" in text


def test_zot_on_s3(tmp_path: Path) -> None:
    driver = "{name: s3, bucket: b, region: eu-west-1, regionendpoint: minio.test:9000, secure: false}"
    sync = "{registries: [{urls: ['https://a.test'], pollInterval: 1h, content: [{prefix: x/y}]}]}"
    text = of_text(tmp_path, f"storage: {{storageDriver: {driver}}}\nextensions: {{sync: {sync}}}\n")
    target = loaded(text, tmp_path).targets["local"]
    assert isinstance(target, S3Target)
    assert (target.bucket, target.endpoint, target.path_style) == ("b", "http://minio.test:9000", True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a mapping is expected"),
        ("[]", "a mapping is expected"),
        ("a: [", "not valid YAML"),
        (
            "a: {b: c}",
            "not recognised. Name the tool it is for: --from regsync, dregsy, zot, skopeo, image-sync",
        ),
        ("version: 1\ntargets: {}\nsync: [{source: a, target: b}]", "a configuration of ocisync itself"),
        ("storage: {rootDirectory: /tmp/zot}\nhttp: {port: '8080'}", "this zot mirrors nothing"),
        ("version: 0.1\nstorage: {filesystem: {rootdirectory: /x}}\nhttp: {addr: ':5000'}", "not recognised"),
        ("sync: [{source: UPPER, target: b.test/c}]", "nothing that could be mirrored; sync: UPPER -> b.test/c"),
        ("tasks: [{name: t, source: {registry: ''}, mappings: []}]", "nothing that could be mirrored"),
    ],
)
def test_what_cannot_be_imported_is_told(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        of_text(tmp_path, text)
    assert told in caught.value.message


def test_what_is_odd_in_a_rule_becomes_a_comment(tmp_path: Path) -> None:
    steps = """
        - {source: a.test/x, target: b.test/x, tags: {allow: ['(unclosed']}, schedule: never, interval: 1h}
        - {source: a.test/y, target: b.test/y, platform: amd64, unheard: of}
        - {source: a.test/z, target: b.test/z, tags: {semverRange: ['not a range !']}, interval: 5 minutes}
        - {source: a.test/z, target: 'ocidir:///srv/a layout'}
    """
    text = of_text(tmp_path, f"sync:{steps}")
    config = loaded(text, tmp_path)
    assert [rule.name for rule in config.sync] == ["x", "y", "z"]
    for told in ("tags.allow: the expression", "schedule: 'never'", "platforms: ", "unheard: not known", "semver: "):
        assert f"# {told}" in text
    assert "ocidir:///srv/a layout was left out" in " ".join(text.replace("\n# ", " ").split())


@given(st.text(min_size=1, max_size=40), st.text(max_size=40))
def test_whatever_text_a_rule_holds_the_import_stays_one_document(tag: str, backup: str) -> None:
    from ocisync.config.importers.draft import Draft, DraftEntry

    draft = Draft("test", [backup])
    rule = DraftEntry({"source": "a.test/x", "tags": {"allow": [tag]}, "note": backup}, [tag])
    draft.add_rule(tag, rule)
    draft.registry_entry("[::1]:5000").values["username"] = backup
    try:
        document = yaml.safe_load(draft.render())
    except yaml.reader.ReaderError:
        return  # characters that no YAML file can have, so that none can have been read
    assert list(document) == ["version", "registries", "sync"]
    assert document["sync"][0]["tags"]["allow"] == [tag]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("^a$", "a"), ("a", ".*(?:a).*"), ("^a", ".*(?:^a).*"), ("^a|b$", ".*(?:^a|b$).*"), ("a$", ".*(?:a$).*")],
)
def test_an_expression_that_may_match_anywhere_is_made_to_match_the_whole(pattern: str, expected: str) -> None:
    assert anchor(pattern) == expected


@pytest.mark.parametrize(
    "text", ['{"distSpecVersion": "1.1.1", "storage": {}}', "distspecversion: 1.1.1\nstorage: {}\n"]
)
def test_a_zot_that_mirrors_nothing_is_recognised(text: str, tmp_path: Path) -> None:
    (tmp_path / "zot").write_text(text)
    with pytest.raises(ConfigError, match=r"nothing that could be mirrored; .*there is no extensions\.sync"):
        convert_file(tmp_path / "zot")
