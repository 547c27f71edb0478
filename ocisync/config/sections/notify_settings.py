"""The section `notify`: who is told what."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from ocisync.config.fields import (
    Certificates,
    Items,
    LoginName,
    MailServer,
    Pattern,
    Secret,
    Section,
    SharedSecret,
)
from ocisync.config.parsers import Address

Event = Literal["failure", "recovery", "late", "refused"]
_KEYS: dict[str, tuple[frozenset[str], frozenset[str]]] = {  # type -> keys it needs, and keys it may have
    "webhook": (frozenset({"url"}), frozenset({"secret"})),
    "slack": (frozenset({"url"}), frozenset()),
    "teams": (frozenset({"url"}), frozenset()),
    "apprise": (frozenset({"url"}), frozenset()),
    "email": (frozenset({"server", "sender", "recipients"}), frozenset({"tls", "ca", "username", "password"})),
    "command": (frozenset({"command"}), frozenset()),
}
_COMMON = frozenset({"type", "events", "rules"})


class NotifySettings(Section):
    """A way to people, and what they are told by it."""

    type: Literal["webhook", "slack", "teams", "email", "command", "apprise"] = Field(
        description="How: a POST of JSON, signed if there is a `secret`; an incoming webhook of Slack "
        "(or Mattermost) or of Teams; mail; a command that gets the JSON on standard input; or whatever apprise knows, "
        "with the extra ocisync[notify]."
    )
    events: Items[Event] = Field(
        ("failure", "recovery", "late", "refused"),
        min_length=1,
        description="What they are told: `failure` and `recovery` of a rule or of a file in a drop folder, a rule that "
        "is `late`, an image that was `refused` because nobody trusted signed it.",
    )
    rules: Items[Pattern] = Field(
        (), description="Only of rules whose whole name one of these expressions matches. Not given: all."
    )
    url: Secret | None = Field(
        None, description="Where to, for `webhook`, `slack`, `teams` and `apprise`; it often holds a token."
    )
    secret: SharedSecret | None = Field(
        None,
        description="For `webhook`: signs each body in X-Ocisync-Signature-256, as GitHub does. At least 16 letters.",
    )
    server: MailServer | None = Field(None, description="For `email`: the mail server and its port.")
    tls: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="For `email`: TLS after a plain greeting, from the start, or not at all."
    )
    ca: Certificates | None = Field(
        None, description="For `email`: a PEM file of certificate authorities to trust in place of the system's."
    )
    username: LoginName | None = Field(None, description="For `email`: the user to log in as. Not given: no login.")
    password: Secret | None = Field(None, description="For `email`: the password of `username`.")
    sender: str | None = Field(None, min_length=3, pattern=r"^[^\r\n]+$", description="For `email`: the From address.")
    recipients: Items[str] = Field((), description="For `email`: a list of addresses.")
    command: Items[str] = Field((), description="For `command`: the program and its arguments, without a shell.")

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        needed, others = _KEYS[self.type]
        given = {name for name in self.model_fields_set if getattr(self, name)}
        if missing := needed - given:
            raise ValueError(f"`type: {self.type}` needs `{min(missing)}`. Add it")
        if foreign := given - needed - others - _COMMON:
            raise ValueError(f"`{min(foreign)}` means nothing with `type: {self.type}`. Remove it")
        if bool(self.username) != bool(self.password):
            raise ValueError("`username` and `password` go together. Give both, or neither")
        if self.type in ("webhook", "slack", "teams") and self.url is not None:
            parts = urlsplit(self.url.get_secret_value())
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(
                    "`url` does not begin with http: or https:. Write the whole URL that the receiver shows"
                )
        return self

    @property
    def mail_server(self) -> Address:
        """The mail server, which `type: email` has."""
        return self.server or Address("", 0)
