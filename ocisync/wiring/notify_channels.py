"""The configuration's ways to people, opened."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import SecretStr

from ocisync.config.models import Config, NotifySettings
from ocisync.notify.channels import AppriseChannel, Channel, CommandChannel, MailChannel, WebhookChannel
from ocisync.notify.notice_sender import Subscription


def subscriptions(config: Config) -> Sequence[Subscription]:
    """Every entry of `notify`."""
    return [
        Subscription(name, _open(settings), frozenset(settings.events), settings.rules)
        for name, settings in config.notify.items()
    ]


def _open(settings: NotifySettings) -> Channel:
    url = _reveal(settings.url)
    match settings.type:
        case "email":
            server = settings.mail_server
            return MailChannel(
                server.host,
                server.port,
                settings.sender or "",
                settings.recipients,
                settings.tls,
                settings.username or "",
                _reveal(settings.password),
                settings.ca,
            )
        case "command":
            return CommandChannel(settings.command)
        case "apprise":
            return AppriseChannel(url)
        case _:
            return WebhookChannel(url, settings.type, _reveal(settings.secret))


def _reveal(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
