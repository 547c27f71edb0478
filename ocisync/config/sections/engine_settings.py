"""The section `engine`: whether one daemon does all the work, or several share it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ocisync.config.fields import Items, Label, Secret, Section


class LocalEngine(Section):
    """One daemon, with its state in a folder of its own."""

    type: Literal["local"] = Field("local", description="One daemon, with its state in `daemon.state`.")


class PostgresEngine(Section):
    """Any number of daemons that share the work through PostgreSQL."""

    type: Literal["postgres"] = Field(description="Any number of daemons share the work and the state in PostgreSQL.")
    dsn: Secret = Field(
        description="The connection string, as in postgresql://USER:PASSWORD@HOST/DATABASE. Best from a file."
    )
    role: Literal["all", "worker"] = Field(
        "all", description="`worker`: only the work, health and metrics; no status page, no webhooks, no registry."
    )
    labels: Items[Label] = Field((), description="This daemon watches the drop folders with one of these labels.")
    slots: int = Field(8, ge=1, le=256, description="Most rules and repositories that this daemon works on at a time.")


Engine = Annotated[LocalEngine | PostgresEngine, Field(discriminator="type")]
