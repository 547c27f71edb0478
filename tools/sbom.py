"""Print an SBOM of an installation by requirements.lock: CycloneDX 1.6 as JSON, the same for the same lock.

`make sbom` writes it. A component has a package's name, version, purl and the hashes of its files, as pip checks them.
"""

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
_PACKAGE = re.compile(
    r"(?m)^(?P<name>[a-z0-9.-]+)(?:\[[^]]*\])?==(?P<version>[^ \\;\n]+)(?P<rest>(?:[^\n]*\\\n)*[^\n]*)"
)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_ONLY_TO_BUILD = frozenset({"hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers"})


def make_sbom(lock: str, version: str) -> dict[str, object]:
    """The document for a lock's text; what is only needed to build is marked as excluded."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{found['name']}@{found['version']}",
            "name": found["name"],
            "version": found["version"],
            "purl": f"pkg:pypi/{found['name']}@{found['version']}",
            "scope": "excluded" if found["name"] in _ONLY_TO_BUILD else "required",
            "hashes": [{"alg": "SHA-256", "content": one} for one in sorted(_HASH.findall(found["rest"]))],
        }
        for found in _PACKAGE.finditer(lock)
    ]
    root = {"type": "application", "bom-ref": "ocisync", "name": "ocisync", "version": version}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root | {"licenses": [{"license": {"id": "Apache-2.0"}}]}},
        "components": components,
    }


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    print(json.dumps(make_sbom((ROOT / "requirements.lock").read_text(), project["version"]), indent=2))


if __name__ == "__main__":
    main()
