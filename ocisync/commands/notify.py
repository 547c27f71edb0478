"""`notify test`: one message on each channel, tried once."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence

from ocisync.config.models import Config
from ocisync.errors import ConfigError, OcisyncError
from ocisync.logs import register_secrets
from ocisync.notify.events import TEST, Notice
from ocisync.sync.reports import Failure, describe_failure
from ocisync.wiring.notify_channels import subscriptions


async def send_test(config: Config, only: Sequence[str]) -> Mapping[str, Failure | None]:
    """What became of a test message on each channel; None: it was taken.

    Raises:
        ConfigError: there is no channel, or none of that name.
    """
    register_secrets(config.secrets)
    if not config.notify:
        raise ConfigError("there is nobody to tell: the configuration has no `notify`")
    for name in only:
        if name not in config.notify:
            raise ConfigError(f"`notify` has no {name[:80]!r}; known are {', '.join(sorted(config.notify))}")
    text = "Somebody ran `ocisync notify test`. Nothing is wrong."
    notice = Notice(TEST, "test", "test", "A test message", text, time.time())
    results: dict[str, Failure | None] = {}
    for one in subscriptions(config):
        if only and one.name not in only:
            continue
        try:
            await one.channel.send([notice], socket.gethostname())
            results[one.name] = None
        except OcisyncError as exc:
            results[one.name] = describe_failure(exc)
    return results
