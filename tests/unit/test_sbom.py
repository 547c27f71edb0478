"""What an installation consists of, as it is told to others."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3])


def test_the_sbom_lists_what_the_lock_installs_with_its_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    done = subprocess.run([sys.executable, ROOT / "tools" / "sbom.py"], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    listed = {f"{one['name']}=={one['version']}" for one in document["components"]}
    pinned = re.findall(r"(?m)^([\w.-]+)(?:\[[^]]*\])?(==[^ \\\n;]+)", lock)
    assert listed == {f"{name}{version}" for name, version in pinned}
    assert sum(len(one["hashes"]) for one in document["components"]) == lock.count("--hash=sha256:")
    assert all(one["hashes"] and one["purl"].startswith("pkg:pypi/") for one in document["components"])
    versions = {
        one["name"]: tuple(int(part) for part in one["version"].split(".")[:3]) for one in document["components"]
    }
    floors = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for name, floor in (re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in floors):  # type: ignore[union-attr]
        assert versions[name] >= numbers(floor), name


def test_the_base_of_the_image_can_be_pinned_by_its_digest() -> None:
    bases = re.findall(r"(?m)^FROM (\S+)", (ROOT / "Dockerfile").read_text())
    assert set(bases) == {"${BASE}"}
