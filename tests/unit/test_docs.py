"""What documents promise, compared with what the code and its tests say."""

import re
from pathlib import Path

from tests.integration import test_distribution_spec as clauses

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"\| .+ \| `(?P<test>[a-z0-9_]+)` \| (?P<can>yes|\*\*no\*\*)(?:: .+)? \|\Z")


def test_every_clause_of_the_specification_has_its_test_and_says_what_plain_s3_can() -> None:
    lines = (DOCS / "distribution-spec.md").read_text().splitlines()
    told = {found["test"]: found["can"] == "yes" for line in lines if (found := ROW.match(line))}
    tests = {name.removeprefix("test_"): test for name, test in vars(clauses).items() if name.startswith("test_")}
    assert told == {name: not hasattr(test, "is_not_by_plain_s3") for name, test in tests.items()}
    assert len(told) == sum("| `" in line for line in lines)
