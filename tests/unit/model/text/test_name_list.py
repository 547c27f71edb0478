"""Long lists of names in little memory."""

import random

import pytest

from ocisync.model.text.name_list import NameList, SortedNames, merge_names

NAMES = ["a", "", "v1.2", "x" * 128, "a"]


def test_it_is_a_sequence_like_any_other() -> None:
    names = NameList(NAMES)
    assert list(names) == NAMES
    assert names == NAMES
    assert (len(names), names[0], names[-2], names[1:3], names.size) == (5, "a", "x" * 128, ["", "v1.2"], 134)
    assert names == NameList(NAMES)
    assert hash(names) == hash(NameList(NAMES))
    assert names != NameList(["ab"])
    assert NameList(["a", "b"]) != NameList(["ab", ""])
    with pytest.raises(IndexError):
        names[5]
    assert not NameList()


@pytest.mark.parametrize("seed", range(20))
def test_pages_become_one_list_in_order(seed: int) -> None:
    rng = random.Random(seed)
    names = [f"t{rng.randrange(200)}" for _ in range(rng.randrange(300))]
    if seed % 2:
        names.sort()
    cuts = sorted(rng.randrange(len(names) + 1) for _ in range(4))
    parts = [NameList(names[start:end]) for start, end in zip([0, *cuts], [*cuts, len(names)], strict=True)]
    merged = merge_names(parts)
    assert isinstance(merged, SortedNames)
    assert list(merged) == sorted(set(names))
    assert all((f"t{number}" in merged) == (f"t{number}" in names) for number in range(210))
