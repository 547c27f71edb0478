"""What documents promise, compared with what the code and its tests say."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.integration import test_distribution_spec as clauses

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ROW = re.compile(r"\| .+ \| `(?P<test>[a-z0-9_]+)` \| (?P<can>yes|\*\*no\*\*)(?:: .+)? \|\Z")
LINK = re.compile(r"\]\((?!https?://|mailto:)(?P<path>[^)#\s]*)(?:#(?P<part>[^)\s]+))?\)")
PLACE = re.compile(
    r"`(?P<path>(?:ocisync|tests|tools|bench|config|deploy)/[A-Za-z0-9_./-]*)(?::(?P<name>[A-Za-z_.]+))?`"
)
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])


def test_every_clause_of_the_specification_has_its_test_and_says_what_plain_s3_can() -> None:
    lines = (DOCS / "distribution-spec.md").read_text().splitlines()
    told = {found["test"]: found["can"] == "yes" for line in lines if (found := ROW.match(line))}
    tests = {name.removeprefix("test_"): test for name, test in vars(clauses).items() if name.startswith("test_")}
    assert told == {name: not hasattr(test, "is_not_by_plain_s3") for name, test in tests.items()}
    assert len(told) == sum("| `" in line for line in lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for found in LINK.finditer(page.read_text()):
        place = (page.parent / found["path"]) if found["path"] else page
        if not place.exists() or (found["part"] and place.suffix == ".md" and found["part"] not in anchors(place)):
            broken.append(found[0])
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_functions_that_pages_name_are_there(page: Path) -> None:
    missing = []
    for found in PLACE.finditer(page.read_text()):
        place = ROOT / found["path"]
        if not place.exists() or (found["name"] and found["name"] not in definitions(place)):
            missing.append(found[0])
    assert missing == []


def test_the_walk_through_the_code_has_at_most_ten_steps_that_each_name_a_function() -> None:
    _, _, walk = (DOCS / "architecture.md").read_text().partition("\n## One image")
    steps = re.findall(r"(?m)^\d+\. .*(?:\n   .*)*", walk.partition("\n## ")[0])
    assert 1 <= len(steps) <= 10
    assert all(any(found["name"] for found in PLACE.finditer(step)) for step in steps)


@cache
def anchors(page: Path) -> frozenset[str]:
    """The places in a page that a link can lead to, as GitHub names them."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@cache
def definitions(module: Path) -> frozenset[str]:
    """Functions, classes and methods of a module, these as `Class.method`."""
    return frozenset(_defined(ast.parse(module.read_text()).body))


def _defined(body: list[ast.stmt], before: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield before + node.name
        if isinstance(node, ast.ClassDef):
            yield from _defined(node.body, f"{node.name}.")
