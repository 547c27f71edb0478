"""The command line: how it is entered, and how its commands enter the event loop.

`app` parses arguments, each command runs one function of `commands`, the rest of this room is display.

Exit status: 0 all good, 1 something failed, 2 bad usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import functools
import gc
import resource
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ocisync.errors import ConfigError, InvalidName, OcisyncError

_T = TypeVar("_T")
_GARBAGE = 5000  # new objects between two looks; the default, 700, costs a busy event loop dearly
_FILES = 16_384  # open files that are enough for any configuration


def main() -> None:
    """Run the command line and exit."""
    gc.disable()  # what is imported stays: collecting meanwhile is a fifth of the start; `run_async` turns it on
    from ocisync.cli.app import app

    try:
        app(prog_name="ocisync")
    except OcisyncError as exc:
        sys.exit(_print_error(exc))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        gc.freeze()  # what is left goes with the process; to look through it first takes a tenth of the start


def run_async(main: Callable[..., Awaitable[_T]], *arguments: object) -> _T:
    """Run to the end on asyncio, with uvloop where the platform has it.

    Raises:
        OcisyncError: the first of a group of errors, when all of them are ours.
    """
    import anyio

    fast = sys.platform != "win32"
    _collect_less_often()
    _raise_file_limit()
    try:
        return anyio.run(functools.partial(main, *arguments), backend_options={"use_uvloop": fast})
    except BaseExceptionGroup as group:
        ours, others = group.split(OcisyncError)
        if ours is None or others is not None:
            raise
        raise _first_of(ours) from group


def _raise_file_limit() -> None:
    """Many connections and files are open at a time; the soft limit is often lower than need be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, _FILES) if hard != resource.RLIM_INFINITY else _FILES
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _collect_less_often() -> None:
    """What is imported by now stays, and need not be looked at again and again."""
    gc.freeze()
    gc.set_threshold(_GARBAGE, 20, 20)
    gc.enable()


def _first_of(error: BaseException) -> BaseException:
    """The first error inside groups of groups."""
    return _first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _print_error(error: OcisyncError) -> int:
    from ocisync.logs import redact

    print(f"ocisync: {redact(error.message)} [{error.code}]", file=sys.stderr)
    return 2 if isinstance(error, ConfigError | InvalidName) else 1
