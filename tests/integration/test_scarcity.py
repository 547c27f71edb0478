"""Too little of something the system gives: what was published stays whole, and the next pass ends the work."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from tests.servers import images
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import docker_registry


def test_fault_56_too_few_file_descriptors_end_some_tags_and_the_next_pass_the_rest(tmp_path: Path) -> None:
    with docker_registry(tmp_path / "source") as source:
        digests = {
            f"v{number}": images.push(source.client, "lib/app", f"v{number}", images.multi_platform(f"image {number}"))
            for number in range(12)
        }
        config = tmp_path / "ocisync.yaml"
        config.write_text(
            "version: 1\n"
            "targets: {local: {type: static, path: ./registry}}\n"
            f'sync: [{{source: "{source.host}/lib/app", target: local}}]\n'
        )
        starved = subprocess.run(
            [sys.executable, "-m", "ocisync", "once", "-c", config],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            preexec_fn=_starve,
        )
        assert starved.returncode == 1
        assert "Traceback" not in starved.stderr
        assert "too many open files: raise the limit" in starved.stderr.lower()
        run_ocisync("once", "-c", config).expect(0)
    tags = tmp_path / "registry/v2/lib/app/manifests"
    assert {tag: images.digest_of((tags / tag).read_bytes()) for tag in digests} == digests
    assert all((tags / digest).is_file() for digest in digests.values())


def _starve() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
