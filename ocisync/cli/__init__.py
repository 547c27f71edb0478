"""The command line. `app` parses arguments, each command calls one function, the rest here is display.

Exit status: 0 all good, 1 something failed, 2 bad usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import gc
import sys

from ocisync.errors import ConfigError, InvalidName, OcisyncError


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


def _print_error(error: OcisyncError) -> int:
    from ocisync.logs import redact

    print(f"ocisync: {redact(error.message)} [{error.code}]", file=sys.stderr)
    return 2 if isinstance(error, ConfigError | InvalidName) else 1
