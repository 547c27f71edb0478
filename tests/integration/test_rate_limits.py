"""A simulated Docker Hub: its budget is never exceeded, what it refuses is waited for, and a pass ends by itself."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
import yaml

from ocisync.errors import RateLimited
from ocisync.stores.registry.options import RateLimitOptions
from tests.integration.mainjob import write_config
from tests.integration.registries import QUICK, manifest_desc, read, repository_at
from tests.servers.command import Finished, run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.hub import Hub, hub
from tests.servers.images import Json, make_image, multi_platform, push

TAGS = 10


@pytest.fixture
def front(registry: DockerRegistry) -> Iterator[Hub]:
    for number in range(TAGS):
        push(registry.client, "app", f"v{number}", make_image(f"image {number}", layers=1))
    with hub(registry.url) as running:
        yield running


def configured(folder: Path, front: Hub, **limits: object) -> Path:
    rule = {"source": f"{front.host}/app", "target": "out", "recheck": "1ms"}
    registries: Json = {front.host: {"rate_limit": limits}} if limits else {}
    targets = {"out": {"type": "static", "path": str(folder / "out")}}
    return write_config(folder, targets, sync=[rule], registries=registries)


def passed(config: Path) -> Finished:
    return run_ocisync("once", "--json", "-c", config, timeout=110).expect()


def verdicts(done: Finished) -> list[str]:
    return [tag["verdict"] for job in json.loads(done.stdout)["jobs"] for tag in job["tags"]]


def test_a_pass_pauses_above_its_minimum_and_goes_on_when_the_budget_renews(front: Hub, tmp_path: Path) -> None:
    front.limit, front.floor = 6, 2
    config = configured(tmp_path, front, min=2, retry="50ms")
    done = passed(config)
    assert verdicts(done) == ["copied"] * TAGS
    assert (front.pulls, front.refusals, front.least) == (TAGS, [], 2)
    said = f"{front.host}: 2 of 6 pulls are left, and 2 are kept; waits until they renew, and looks every 0.05 s"
    assert said in done.stderr


def test_without_a_setting_docker_hubs_own_limit_is_never_exceeded(front: Hub, tmp_path: Path) -> None:
    front.limit = 7
    front.spend(3)
    config = configured(tmp_path, front)
    config.write_text(config.read_text().replace("version: 1", "version: 1\ndefaults: {rate_limit: {retry: 100ms}}"))
    assert verdicts(passed(config)) == ["copied"] * TAGS
    assert (front.pulls, front.refusals, front.least) == (TAGS, [], 0)


def test_whoever_waits_for_a_budget_keeps_no_place_from_others(
    registry: DockerRegistry, front: Hub, tmp_path: Path
) -> None:
    push(registry.client, "free", "v0", make_image("free", layers=1))
    front.limit, front.looks = 3, 2
    config = configured(tmp_path, front, min=0, retry="4s")
    document = yaml.safe_load(config.read_text())
    document["sync"].append({"source": f"{registry.url.removeprefix('http://')}/free", "target": "out"})
    document.setdefault("daemon", {})["concurrent_rules"] = 1
    config.write_text(yaml.safe_dump(document))
    done = json.loads(passed(config).stdout)
    assert [len(job["tags"]) for job in done["jobs"]] == [1, TAGS], "the rule that came first ends last"
    assert (front.pulls, front.refusals) == (TAGS, [])


def test_unchanged_tags_cost_heads_only_even_when_they_are_looked_at_again_in_full(front: Hub, tmp_path: Path) -> None:
    config = configured(tmp_path, front)
    passed(config)
    front.asked.clear()
    assert verdicts(passed(config)) == ["unchanged"] * TAGS
    assert front.asked_for("GET") == 0
    assert front.asked_for("HEAD") == TAGS


def test_a_refusal_holds_all_pulls_back_as_long_as_it_says_and_the_pass_ends_by_itself(
    front: Hub, tmp_path: Path
) -> None:
    front.tells, front.limit, front.retry_after = False, 4, 2
    assert verdicts(passed(configured(tmp_path, front))) == ["copied"] * TAGS
    assert front.pulls == TAGS
    assert 2 <= len(front.refusals) <= 2 * 6, "what was under way was refused too, nothing else"


async def test_pulls_at_the_same_time_do_not_overdraw(registry: DockerRegistry, front: Hub) -> None:
    front.limit, front.floor = 5, 1
    options = replace(QUICK, concurrency=8, rate_limit=RateLimitOptions(kept=1, retry=0.05))
    image = make_image("image 0", layers=1)
    async with repository_at(front.host, options, "app") as repository, anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(read, repository, manifest_desc(image))
    assert (front.pulls, front.refusals, front.least) == (20, [], 1)


async def test_others_who_pull_meanwhile_are_noticed(front: Hub) -> None:
    front.limit, front.floor = 5, 3
    desc = manifest_desc(make_image("image 0", layers=1))
    options = replace(QUICK, rate_limit=RateLimitOptions(kept=3, retry=0.05))
    async with repository_at(front.host, options, "app") as repository:
        await read(repository, desc)
        front.spend(2)
        await repository.resolve("v1")
        await read(repository, desc)
    assert (front.least, front.refusals) == (2, []), "2 by others, not by us"
    assert front.left == 4


async def test_keeping_more_than_there_is_says_so(front: Hub) -> None:
    front.limit = 100
    options = replace(QUICK, rate_limit=RateLimitOptions(kept=100))
    async with repository_at(front.host, options, "app") as repository:
        await repository.resolve("v1")
        with pytest.raises(RateLimited, match=r"gives 100 pulls .* keeps 100 of them; lower it") as caught:
            await read(repository, manifest_desc(make_image("image 1", layers=1)))
    assert not caught.value.retryable


def test_an_index_and_its_platforms_are_a_pull_each(front: Hub, registry: DockerRegistry, tmp_path: Path) -> None:
    index = multi_platform("app")
    push(registry.client, "multi", "v1", index)
    source = f"docker://{front.host}/multi:v1"
    run_ocisync("copy", source, f"oci:{tmp_path}/out:v1").expect()
    assert front.pulls == 1 + len(index.children)


def test_a_plan_forecasts_the_pulls_of_a_pass_and_costs_none(
    front: Hub, registry: DockerRegistry, tmp_path: Path
) -> None:
    front.limit = TAGS + 2
    push(registry.client, "app", "multi", multi_platform("app"))
    config = configured(tmp_path, front, min=5)
    told = json.loads(run_ocisync("plan", "--json", "-c", config).expect().stdout)["pulls"][front.host]
    assert (front.pulls, told["least"]) == (0, TAGS + 1)
    assert told["allowance"] == {"remaining": TAGS + 2, "limit": TAGS + 2, "window": 21600.0, "kept": 5}
    shown = run_ocisync("plan", "-c", config).expect().stdout
    needed = f"{front.host}: {told['least']} to {told['most']} pulls are needed"
    assert f"{needed}; {TAGS + 2} of {TAGS + 2} are left, 5 of them kept for others; the pass will wait" in shown
    front.limit = 1000
    passed(config)
    assert told["least"] <= front.pulls <= told["most"]


def test_a_forecast_reads_the_longest_entry_that_fits(front: Hub, tmp_path: Path) -> None:
    front.limit = TAGS + 2
    file = configured(tmp_path, front, min=5)
    settings = yaml.safe_load(file.read_text())
    (entry,) = settings["registries"].values()
    settings["registries"] = {front.host: {}, f"{front.host}/app": entry, f"{front.host}/ap": {"rate_limit": {}}}
    file.write_text(yaml.safe_dump(settings))
    told = json.loads(run_ocisync("plan", "--json", "-c", file).expect().stdout)["pulls"]
    assert list(told) == [f"{front.host}/app"]
    assert told[f"{front.host}/app"]["allowance"]["kept"] == 5
