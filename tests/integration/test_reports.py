"""What `once --json` and `status --json` tell of each image."""

import json
from pathlib import Path
from typing import Any

from tests.integration.mainjob import Directory, write_config
from tests.servers.command import Finished, run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Reply
from tests.servers.images import image_of, make_image, noise, push, tar

NAME = "team/web"


def told(done: Finished) -> Any:
    return json.loads(done.stdout)


def test_partial_failure_is_exit_1_and_a_list_with_what_each_image_cost(
    tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    big = image_of([tar({"big": noise(300_000, "big")})])
    for tag, image in (("big", big), ("small", make_image("small")), ("broken", make_image("broken"))):
        push(registry.client, NAME, tag, image)
    registry_proxy.on("HEAD|GET", "/manifests/broken", Reply(403))
    rule = {"name": "web", "source": f"{registry_proxy.host}/{NAME}", "target": "out"}
    quiet = {"name": "later", "source": f"{registry.host}/{NAME}", "target": "out/x", "schedule": "@daily"}
    file = write_config(tmp_path, {"out": Directory(tmp_path / "mirror").settings}, sync=[rule, quiet])

    registry_proxy.requests.clear()
    first = told(run_ocisync("once", "web", "--json", "-c", file).expect(1))
    images = {tag["tag"]: tag for job in first["jobs"] for tag in job["tags"]}
    assert [(one["what"], one["code"]) for one in first["failed"]] == [(f"out/{NAME}:broken", "auth.denied")]
    assert {name: image["verdict"] for name, image in images.items()} == {
        "big": "copied",
        "small": "copied",
        "broken": "failed",
    }
    assert images["broken"]["failure"]["code"] == "auth.denied"
    assert images["big"]["bytes"] > 290_000 > images["small"]["bytes"] > 0
    assert all(image["requests"] >= 1 and image["seconds"] > 0 for image in images.values())
    (job,) = first["jobs"]
    assert job["requests"] == len(registry_proxy.requests)
    assert sum(image["requests"] for image in images.values()) <= job["requests"]
    assert sum(image["bytes"] for image in images.values()) == job["traffic"]["bytes"]

    registry_proxy.rules.clear()
    second = told(run_ocisync("once", "web", "--json", "-c", file).expect(0))
    assert (second["ok"], second["failed"]) == (True, [])
    assert {tag["tag"]: tag["requests"] for tag in second["jobs"][0]["tags"] if tag["verdict"] == "unchanged"} == {
        "big": 1,
        "small": 1,
    }


def test_status_tells_the_last_look_at_each_image_lag_and_next_run(
    tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    for tag in ("1", "2"):
        push(registry.client, NAME, tag, make_image(tag))
    rule = {"name": "web", "source": f"{registry_proxy.host}/{NAME}", "target": "out"}
    nightly = {"name": "nightly", "source": f"{registry.host}/{NAME}", "target": "out/x", "schedule": "@daily"}
    file = write_config(tmp_path, {"out": Directory(tmp_path / "mirror").settings}, sync=[rule, nightly])
    before = told(run_ocisync("status", "--json", "-c", file).expect(0))
    assert (before["web"]["lag"], before["web"]["images"]) == (None, [])
    assert before["nightly"]["next_due"] % 86400 == 0

    run_ocisync("once", "web", "-c", file).expect(0)
    registry_proxy.on("HEAD|GET", "/manifests/2", Reply(403))
    run_ocisync("once", "web", "-c", file).expect(1)
    found = told(run_ocisync("status", "--json", "-c", file).expect(0))["web"]
    assert 0 <= found["lag"] < 600
    one, two = found["images"]
    assert (one["image"], one["verdict"], one["failure"]) == (f"out/{NAME}:1", "unchanged", None)
    assert (two["image"], two["verdict"], two["failure"]["code"]) == (f"out/{NAME}:2", "failed", "auth.denied")

    text = run_ocisync("status", "-c", file).expect(0).stdout
    assert "LAG" in text.splitlines()[0]
    assert f"out/{NAME}:2: " in text
    assert "[auth.denied]" in text
    assert f"out/{NAME}:1:" not in text
