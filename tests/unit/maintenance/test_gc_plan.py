"""Plans of collections, as text and back."""

import pytest

from ocisync.content.object_store import ObjectKind
from ocisync.errors import ConfigError
from ocisync.maintenance.gc_plan import Garbage, Totals, end_line, head_line, object_line, read_objects, read_totals
from ocisync.model.digest import Digest

DOOMED = [
    Garbage(name, kind, Digest("sha256:" + f"{number:064x}"), number, 1.5)
    for number, (name, kind) in enumerate(
        (("a", ObjectKind.MANIFEST), ("a", ObjectKind.BLOB), ("a/b", ObjectKind.BLOB))
    )
]


def test_a_plan_reads_back() -> None:
    totals = Totals(2, 10, 3, 3, ["c: cannot be read"])
    lines = [head_line("out", 60.0, 5.0), *map(object_line, DOOMED), end_line(totals)]
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    assert read_totals(lines[0], lines[-1], "out") == totals
    assert list(read_objects(lines)) == [("a", DOOMED[:2]), ("a/b", DOOMED[2:])]


@pytest.mark.parametrize(
    "line",
    [
        '{"repository":"a","kind":"tag","digest":"latest","size":1,"modified":1}',
        '{"repository":"a","kind":"tags list","digest":"sha256:' + "0" * 64 + '","size":1,"modified":1}',
        '{"repository":"a","kind":"blob","digest":"sha256:../../x","size":1,"modified":1}',
        '{"repository":"a","kind":"blob","digest":"sha256:' + "0" * 64 + '","size":"1","modified":1}',
        '{"digest": cut',
    ],
)
def test_a_line_that_names_anything_but_content_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="not a line of a plan"):
        list(read_objects([line]))


@pytest.mark.parametrize(
    ("objects", "doomed", "limit", "refused"),
    [(100, 50, 0.5, False), (100, 51, 0.5, True), (20, 20, 0.1, False), (21, 21, 0.1, True), (100, 100, 1.0, False)],
)
def test_the_limit(objects: int, doomed: int, limit: float, refused: bool) -> None:
    assert (Totals(1, objects, doomed).refusal(limit) is not None) is refused
