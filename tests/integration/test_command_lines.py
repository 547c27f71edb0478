"""Any command line ends with 0, 1 or 2, without a traceback, and steers no terminal; `make prove` tries 10,000."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.command_lines import is_unfinished, make_folder, random_line, run_lines, run_process
from tests.forked import Ended

STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def faults(ended: Ended) -> list[str]:
    """What is wrong with how a command line ended."""
    said = ended.stderr + ended.stdout
    found = {
        "status": ended.code not in (0, 1, 2) and not is_unfinished(ended),
        "traceback": "Traceback" in said,
        "defect": "[internal]" in ended.stderr,
        "steers": STEERS.search(ended.stderr) is not None,
        "secret": "hunter22" in said,
        "silence": ended.code == 2 and not ended.stderr.strip(),
    }
    return [what for what, holds in found.items() if holds]


def prove_lines(count: int, seed: int, folder: Path) -> None:
    rng = random.Random(seed)
    ends = list(run_lines((random_line(rng) for _ in range(count)), folder))
    assert len(ends) == count
    assert_right(ends)


def assert_right(ends: list[Ended]) -> None:
    wrong = [f"{found} {end.arguments!r}: {end.code}: {end.stderr[-800:]}" for end in ends if (found := faults(end))]
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.timeout(900)  # seconds; many commands one after the other, on a machine that has much else to do
def test_two_hundred_random_command_lines(tmp_path: Path) -> None:
    prove_lines(200, 1, tmp_path)


@pytest.mark.prove
@pytest.mark.timeout(3600)  # seconds; a thousand commands each
@pytest.mark.parametrize("seed", range(2, 12))
def test_ten_thousand_random_command_lines(seed: int, tmp_path: Path) -> None:
    prove_lines(1_000, seed, tmp_path)


@pytest.mark.prove
@pytest.mark.timeout(1800)  # seconds; two hundred starts, on a machine that has much else to do
def test_a_share_of_them_as_processes_of_their_own(tmp_path: Path) -> None:
    """With nothing imported before, and surrogates in arguments and environment as a terminal would give them."""
    rng = random.Random(12)
    lines = [random_line(rng) for _ in range(200)]
    work = make_folder(tmp_path)
    ends = [run_process(line, work) for line in lines if "\0" not in "".join(line)]
    assert_right(ends)
