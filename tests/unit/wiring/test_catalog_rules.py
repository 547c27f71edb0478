"""What follows a push to a registry that is mirrored as a whole."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from anyio import to_thread

from ocisync.wiring.catalog_rules import follow_repository
from ocisync.wiring.session import open_session
from tests.unit.config.support import with_targets

RULES = """
sync:
  - {name: all, type: registry, source: r.test, target: "local/{repository}", repositories: {deny: ["tmp/.*"]}}
  - {name: team, type: registry, source: r.test/team, target: [inner, "local/t/{repository}"]}
  - {name: one, source: r.test/team/web, target: local/one}
  - {name: "off", type: registry, source: r.test, target: "inner/off/{repository}", enabled: false}
"""


@pytest.mark.parametrize(
    ("host", "repository", "expected"),
    [
        ("r.test", "team/web", ["all local/team/web", "team inner/team/web", "team local/t/team/web"]),
        ("r.test", "other", ["all local/other"]),
        ("r.test", "tmp/x", []),
        ("r.test", "../../etc", []),
        ("r.test", "UPPER", []),
        ("else.test", "team/web", []),
    ],
)
async def test_only_what_a_rule_would_mirror_is_followed(
    host: str, repository: str, expected: list[str], tmp_path: Path
) -> None:
    config = await to_thread.run_sync(partial(with_targets, RULES, folder=tmp_path))
    async with open_session(config) as session:
        jobs = follow_repository(host, repository, session, {"all", "team", "one"})
    assert [f"{job.rule} {job.lock_name}" for job in jobs] == expected
