"""The configuration's models. Every value is checked, frozen and in its unit: seconds, bytes, absolute paths.

`ocisync.config.load` is the way in: it names rules that have no name and checks what concerns several sections.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PrivateAttr

from ocisync.config.diagnostics import Problem
from ocisync.config.fields import Items, Label, RegistryKey, Section, TargetReference
from ocisync.config.sections.archive_limits import ArchiveLimits
from ocisync.config.sections.bundle_settings import BundleRule
from ocisync.config.sections.daemon_settings import Daemon, WebhookSettings
from ocisync.config.sections.engine_settings import Engine, LocalEngine, PostgresEngine
from ocisync.config.sections.maintenance_options import Keep
from ocisync.config.sections.notify_settings import NotifySettings
from ocisync.config.sections.registries import Ecr, Proxy, RateLimit, Registry, RegistryDefaults
from ocisync.config.sections.rule_settings import DropRuleSettings, SyncRule
from ocisync.config.sections.selection import NameRules, Rename, TagRules
from ocisync.config.sections.targets import (
    LayoutFolderTarget,
    RegistryTarget,
    S3Target,
    StaticTarget,
    Target,
    TargetName,
)
from ocisync.config.sections.verify_policies import VerifyPolicy

__all__ = [
    "ArchiveLimits",
    "BundleRule",
    "Config",
    "Daemon",
    "DropRuleSettings",
    "Ecr",
    "Keep",
    "LayoutFolderTarget",
    "NameRules",
    "NotifySettings",
    "PostgresEngine",
    "Proxy",
    "RateLimit",
    "Registry",
    "RegistryDefaults",
    "RegistryTarget",
    "Rename",
    "S3Target",
    "StaticTarget",
    "SyncRule",
    "TagRules",
    "Target",
    "TargetReference",
    "VerifyPolicy",
    "WebhookSettings",
]


class Config(Section):
    """The whole file. Keys at the top that begin with `x-` are free, for anchors."""

    version: Literal[1] = Field(description="The version of this format: 1.")
    registries: dict[RegistryKey, Registry] = Field(
        default_factory=dict,
        description="Credentials, trust and limits, by host (`host` or `host:port`) or by a path of one (`host/path`): "
        "the longest one that matches a repository is used.",
    )
    defaults: RegistryDefaults = Field(
        RegistryDefaults(), description="Limits and trust of all registries, unless one says otherwise."
    )
    targets: dict[TargetName, Target] = Field(default_factory=dict, description="Where images can go, by name.")
    verify: dict[Label, VerifyPolicy] = Field(
        default_factory=dict, description="Who may have signed images: policies, by the names that rules use."
    )
    drop: Items[DropRuleSettings] = Field((), description="Folders to watch for image archives.")
    sync: Items[SyncRule] = Field((), description="Repositories to mirror from registries.")
    bundle: Items[BundleRule] = Field((), description="Bundles to write for sites without a network.")
    webhooks: dict[Label, WebhookSettings] = Field(
        default_factory=dict, description="Registries that report pushes, each to /v1/webhooks/NAME."
    )
    notify: dict[Label, NotifySettings] = Field(
        default_factory=dict, description="Who is told of failures, recoveries and delays, by name."
    )
    archives: ArchiveLimits = Field(ArchiveLimits(), description="How much archives and layers may hold.")
    daemon: Daemon = Field(
        default_factory=lambda: Daemon.model_validate({}), description="How the process itself runs."
    )

    engine: Engine = Field(LocalEngine(), description="Whether one daemon does all the work, or several share it.")

    _file: str = PrivateAttr("")
    _warnings: tuple[Problem, ...] = PrivateAttr(())
    _secrets: tuple[str, ...] = PrivateAttr(())

    @property
    def file(self) -> str:
        """The file it was loaded from, as it was named."""
        return self._file

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but unwise, each with its file, line and key; the loader's caller logs them."""
        return tuple(warning.format(self._file) for warning in self._warnings)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret that was resolved, for the logs to mask."""
        return self._secrets

    @property
    def rules(self) -> tuple[DropRuleSettings | SyncRule | BundleRule, ...]:
        """All rules, drop folders first."""
        return (*self.drop, *self.sync, *self.bundle)

    @property
    def dsn(self) -> str:
        """How to reach the state in PostgreSQL; empty: it is in `daemon.state`.

        Raises:
            MissingSecret: it is a secret that is not known here.
        """
        return self.engine.dsn.get_secret_value() if isinstance(self.engine, PostgresEngine) else ""

    @property
    def temporary_path(self) -> Path:
        """Where unfinished work goes."""
        return self.daemon.temporary or self.daemon.state / "tmp"
