"""The command line: how it is entered, and how its commands enter the event loop.

`app` assembles it; a module per subject has the arguments and the display of its commands. A module is imported, and a
command's options are read, when that command is called: a start pays for one command, not for all of them.

Exit status: 0 all good, 1 something failed, 2 bad usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import gc
import io
import os
import resource
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from importlib import import_module
from typing import Any, TypeVar

from ocisync.errors import ConfigError, InvalidName, OcisyncError

_T = TypeVar("_T")
_GARBAGE = 5000  # new objects between two looks; the default, 700, costs a busy event loop dearly
_FILES = 16_384  # open files that are enough for any configuration


def main() -> None:
    """Run the command line and exit; whatever happens, no traceback is printed."""
    gc.disable()  # what is imported stays: collecting meanwhile is a fifth of the start; `run_async` turns it on
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would look through all that is installed for some
    sys.stdout = sys.stdout or _open_nothing()
    sys.stderr = sys.stderr or _open_nothing()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack characters that we print
    try:
        status = _run()
        sys.stdout.flush()
    except OSError as exc:
        status = _give_up_printing(exc)
    finally:
        gc.freeze()  # what is left goes with the process; to look through it first takes a tenth of the start
    sys.exit(status)


def run_async(main: Callable[..., Awaitable[_T]], *arguments: object) -> _T:
    """Run to the end on asyncio, with uvloop where the platform has it.

    Raises:
        OcisyncError: the first of a group of errors, when all of them are ours.
    """
    import anyio

    results: list[_T] = []

    async def keep_result() -> None:  # asyncio writes out a result at the end, to no use: a long report takes a while
        results.append(await main(*arguments))

    fast = sys.platform != "win32"
    _collect_less_often()
    _raise_file_limit()
    try:
        anyio.run(keep_result, backend_options={"use_uvloop": fast})
        return results[0]
    except BaseExceptionGroup as group:
        ours, others = group.split(OcisyncError)
        if ours is None or others is not None:
            raise
        raise _first_of(ours) from group


class LazyCommands(MutableMapping[str, Any]):
    """The commands of a group by name, each made when it is first asked for."""

    def __init__(self, makers: dict[str, Callable[[], Any]]) -> None:
        self._makers = makers
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._makers[name] = lambda: command
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._makers[name]
        self._made.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def make_command(name: str, place: str, heading: str | None = None) -> Any:
    """The command whose function a place names, as `module:function` below this package."""
    import typer

    from ocisync.cli.display.help import Command

    module, _, function = place.partition(":")
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name, cls=Command, rich_help_panel=heading)(
        getattr(import_module(f"ocisync.cli.{module}"), function)
    )
    return typer.main.get_command(single)


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


def _open_nothing() -> io.TextIOWrapper:
    """A stream in place of one that whoever started us had closed."""
    return io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8")


def _run() -> int:
    from ocisync.cli.app import UsageError, app
    from ocisync.cli.display.output import OutputFailed, warn

    if "_OCISYNC_COMPLETE" in os.environ:  # a shell's script asks for completions
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
    try:
        status: object = app(prog_name="ocisync", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except OcisyncError as exc:
        is_usage = isinstance(exc, ConfigError | InvalidName)  # several problems of a file have a line each
        message = exc.message if is_usage else exc.message.replace("\n", "\\n")  # it may quote what others wrote
        warn(f"ocisync: {message} [{exc.code}]")
        return 2 if is_usage else 1
    except UsageError as exc:
        text = io.StringIO()
        exc.show(text)  # type: ignore[attr-defined]
        warn(text.getvalue().replace("Value error, ", "").rstrip("\n"))  # a word of the library, not for users
        return 2
    except OutputFailed as exc:
        return _give_up_printing(exc.cause)
    except (KeyboardInterrupt, EOFError):
        return 130
    except Exception as exc:  # noqa: BLE001 (the edge of the process)
        return _report_defect(exc)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        return 130


def _report_defect(error: Exception) -> int:
    """Say that something failed which nobody foresaw; the traceback is in the log at the level `debug`."""
    import structlog

    from ocisync.cli.display.output import warn

    if structlog.is_configured():
        structlog.get_logger().debug("command.crashed", exc_info=error)
    is_machine = isinstance(error, OSError | MemoryError)  # the machine's trouble, such as no free descriptor
    advice = "" if is_machine else ": this is a bug in ocisync, please report it"
    warn(f"ocisync: {type(error).__name__}: {error}{advice} [internal]")
    return 1


def _give_up_printing(error: OSError) -> int:
    """End: nobody reads what is printed, or it cannot be written. Only the latter is worth a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes standard output once more at its end
    if not isinstance(error, BrokenPipeError):
        from ocisync.cli.display.output import warn

        warn(f"ocisync: the output cannot be written: {error.strerror} [output]")
    return 1
