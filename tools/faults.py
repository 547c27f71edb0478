"""Print how many rows of the table of faults have a test, by the tests' names: `test_fault_NN_<slug>`."""

import re
from pathlib import Path

ROWS = 81


def covered(root: Path) -> set[int]:
    """The rows named by a test function below the folder."""
    named = re.compile(r"^\s*(?:async )?def test_fault_(\d\d)_\w+\(", re.MULTILINE)
    texts = (path.read_text(encoding="utf-8") for path in sorted(root.rglob("test_*.py")))
    return {int(row) for text in texts for row in named.findall(text)} & set(range(1, ROWS + 1))


def main() -> None:
    rows = covered(Path(__file__).parent.parent / "tests")
    missing = [f"{row:02}" for row in range(1, ROWS + 1) if row not in rows]
    rest = f"; none yet: {' '.join(missing)}" if missing else ""
    print(f"faults: {len(rows)} of {ROWS} rows have a test{rest}")


if __name__ == "__main__":
    main()
