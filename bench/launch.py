"""Runs a command and tells what it used: `python -I -S launch.py RESULT COMMAND…`.

A process begins with the peak of memory of the one that starts it, so that is this small one and not the benchmark.
"""

import json
import os
import sys
import time


def main() -> None:
    """Start, wait, and write the result as JSON."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.execvp(sys.argv[2], sys.argv[2:])
    _, status, used = os.wait4(child, 0)
    result = {
        "wall": time.monotonic() - began,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss * 1024,
        "code": os.waitstatus_to_exitcode(status),
    }
    with open(sys.argv[1], "w", encoding="utf-8") as file:  # noqa: PTH123 (pathlib costs memory)
        json.dump(result, file)


if __name__ == "__main__":
    main()
