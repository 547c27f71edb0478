"""docs/troubleshooting.md tells what ocisync says: every mistake on the page is made again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.troubleshooting.mistakes import SECTIONS, Mistake
from tests.troubleshooting.page import PAGE, Surroundings, answers, make, surroundings

MISTAKES = [mistake for mistakes in SECTIONS.values() for mistake in mistakes]


@pytest.fixture(scope="module")
def around() -> Iterator[Surroundings]:
    """Servers for all mistakes."""
    with surroundings() as found:
        yield found


def test_the_page_has_every_mistake_once() -> None:
    titles = re.findall(r"(?m)^### (.+)$", PAGE.read_text())
    assert titles == [mistake.title for mistake in MISTAKES], "run: python -m tests.troubleshooting.page"
    assert len(titles) >= 40


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_the_answer_is_the_one_on_the_page(mistake: Mistake, around: Surroundings, tmp_path: Path) -> None:
    try:
        said = make(mistake, around, tmp_path)
    except OSError as exc:
        pytest.skip(str(exc))
    assert said == answers()[mistake.title], "run: python -m tests.troubleshooting.page"
    assert mistake.code == 0 or re.search(r"\[[a-z0-9]+\.?[a-z0-9_.]*\]", said), "an error has a code"
