"""What the daemon tells its service manager, by sd_notify(3)'s protocol; silent where nobody listens."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

import anyio
import structlog

from ocisync.logs import clean

_SHORTEST_PING = 0.05  # seconds

log = structlog.get_logger(__name__)


class Notifier:
    """Datagrams to systemd's socket. A message that cannot be sent is no reason to stop."""

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_period = watchdog  # seconds within which systemd wants a sign of life, or None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        """What NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID ask for."""
        return cls(environ.get("NOTIFY_SOCKET", ""), _watchdog_period(environ))

    def ready(self, status: str = "") -> None:
        """The daemon works, or works again after `reloading`."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """A line that `systemctl status` shows."""
        self._send(*_status(text))

    def reloading(self) -> None:
        """The configuration is read again; `ready` ends it (Type=notify-reload)."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> None:
        """The daemon drains and ends."""
        self._send("STOPPING=1", *_status(status))

    async def keep_alive(self, is_alive: Callable[[], bool] = lambda: True) -> None:
        """Ping the watchdog at half its period, until cancelled, while `is_alive` says that work goes on.

        It runs on the event loop, so a loop that is blocked is silent by itself. Returns at once without a watchdog.
        """
        while self.watchdog_period is not None and self._address:
            if is_alive():
                self._send("WATCHDOG=1")
            else:
                log.error("watchdog.withheld", reason="no sign of work; systemd will restart the daemon")
            await anyio.sleep(max(_SHORTEST_PING, self.watchdog_period / 2))

    def _send(self, *lines: str) -> None:
        if not self._address or not lines:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.connect(self._address)
                sender.send("\n".join(lines).encode(errors="backslashreplace"))
        except OSError as exc:
            log.debug("notify.failed", error=str(exc))


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(clean(text).split())}",) if text else ()


def _watchdog_period(environ: Mapping[str, str]) -> float | None:
    period, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not period.isdecimal() or int(period) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(period) / 1_000_000
