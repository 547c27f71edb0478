"""What is shipped with the code: samples, template, JSON Schema and the documentation are current."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from ocisync.config.load import load_config, parse_config
from ocisync.config.models import (
    ArchiveLimits,
    Config,
    Daemon,
    DropRuleSettings,
    NameRules,
    Registry,
    RegistryDefaults,
    RegistryTarget,
    Rename,
    S3Target,
    StaticTarget,
    SyncRule,
    TagRules,
    WebhookSettings,
)
from ocisync.config.schema import json_schema, schema_text
from ocisync.config.template import Place, read_template, read_unit
from ocisync.wiring.store_options import settings_for

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = sorted((ROOT / "config").glob("*.yaml"))
ENVIRONMENT = {"HUB_TOKEN": "a", "S3_ACCESS_KEY_ID": "b", "S3_SECRET_ACCESS_KEY": "c"}
MODELS: tuple[type[BaseModel], ...] = (
    ArchiveLimits, Config, Daemon, DropRuleSettings, NameRules, Registry, RegistryDefaults, RegistryTarget, Rename,
    S3Target, StaticTarget, SyncRule, TagRules, WebhookSettings,
)  # fmt: skip


def test_the_samples_are_there() -> None:
    assert [path.stem for path in SAMPLES] == [
        "build-farm",
        "bundles-inside",
        "bundles-outside",
        "container",
        "mirror-to-s3",
        "ocisync",
        "signed-only",
    ]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_loads_without_a_warning(path: Path) -> None:
    config = load_config(path, environ=ENVIRONMENT)
    assert config.rules
    assert config.warnings == ()


def test_the_starter_loads_as_it_is(tmp_path: Path) -> None:
    config = parse_config(read_template(), folder=tmp_path, environ={})
    assert config.warnings == ()
    assert [rule.name for rule in config.drop] == ["builds"]
    assert config.daemon.serve == "local"
    assert config.daemon.listen.is_loopback


@pytest.mark.parametrize("place", get_args(Place))
def test_a_starter_for_each_place_loads_without_a_warning(place: Place, tmp_path: Path) -> None:
    text = read_template(place)
    config = parse_config(text, folder=tmp_path, environ={})
    assert config.warnings == ()
    assert config.rules
    assert config.daemon.serve in config.targets
    is_open = place in ("container", "kubernetes")  # a container's network is its own
    assert config.daemon.listen.is_loopback != is_open
    active = [uncommented(line) for line in text[text.index("version:") :].splitlines()]
    parse_config("\n".join(active), folder=tmp_path, environ=ENVIRONMENT, needs_secrets=False)


def test_starters_are_what_packages_and_samples_have() -> None:
    assert read_template("systemd") == (ROOT / "deploy/package/ocisync.yaml").read_text()
    assert read_template("container") == (ROOT / "config/container.yaml").read_text().partition("#\n")[2]
    unit = (ROOT / "deploy/ocisync.service").read_text()
    assert read_unit("/opt/ocisync/bin/ocisync", "/etc/ocisync/ocisync.yaml") == unit
    assert "ExecStart=/usr/bin/o run -c /srv/o.yaml" in read_unit("/usr/bin/o", "/srv/o.yaml")


def test_the_starters_commented_parts_load_too(tmp_path: Path) -> None:
    active = [uncommented(line) for line in read_template().splitlines()]
    config = parse_config("\n".join(active), folder=tmp_path, environ=ENVIRONMENT)
    assert set(config.targets) == {"local", "mirror"}
    assert [rule.name for rule in config.sync] == ["alpine"]
    assert settings_for(config, "docker.io").username == "me"


def uncommented(line: str) -> str:
    """A commented YAML line without its mark; sentences stay comments."""
    bare = line.lstrip()
    is_yaml = bare.startswith("# ") and (":" in bare or bare.startswith("#       ")) and not bare[2:3].isupper()
    return line.replace("# ", "", 1) if is_yaml and "yaml-language-server" not in line else line


def test_the_committed_schema_is_current() -> None:
    path = ROOT / "config" / "ocisync.schema.json"
    assert path.read_text(encoding="utf-8") == schema_text(), "run `ocisync config schema > config/ocisync.schema.json`"


def test_every_field_is_described_in_the_schema() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    bare = [f"{name}.{key}" for name, key, field in properties(schema) if not field.get("description")]
    assert bare == []
    assert json.loads(schema_text()) == schema


def properties(schema: dict[str, object]) -> Iterator[tuple[str, str, dict[str, object]]]:
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    for name, model in [("Config", schema), *definitions.items()]:
        for key, field in model["properties"].items():
            yield name, key, field


def test_defaults_in_the_schema_are_written_as_in_the_file() -> None:
    found = {f"{name}.{key}": field.get("default") for name, key, field in properties(json_schema())}
    assert found["DropRuleSettings.settle"] == "10s"
    assert found["DropRuleSettings.keep_failed"] == "30d"
    assert found["S3Target.part_size"] == "5MiB"
    assert found["Daemon.listen"] == "127.0.0.1:8080"
    assert found["SyncRule.jitter"] == 0.1


def test_the_documentation_has_every_key_with_its_default() -> None:
    rows = [
        line for line in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8").splitlines() if "|" in line
    ]
    defaults = {(name, key): field.get("default") for name, key, field in properties(json_schema())}
    for model in MODELS:
        for key in model.model_fields:
            default = defaults.get((model.__name__, key))
            about = [row for row in rows if row.startswith(f"| `{key}` |")]
            if model in (TagRules, NameRules, Rename):
                assert any(f"`{key}`" in row for row in rows)
                continue
            assert about, f"{model.__name__}.{key} is not in docs/configuration.md"
            shown = f"| `{str(default).lower() if isinstance(default, bool) else default}` |"
            assert default is None or any(shown in row for row in about), f"{model.__name__}.{key}: {default}"


def test_the_package_itself_imports_no_pydantic() -> None:
    code = "import sys, ocisync.config, ocisync.config.template, ocisync.logs; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
