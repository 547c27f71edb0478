"""A hook of hatchling: manual pages and completion in the wheel, where `tools/package wheel` has made them.

They are made from the commands, and so need ocisync's own dependencies, which a build elsewhere does not have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class SharedFiles(BuildHookInterface):  # type: ignore[type-arg]
    """Puts everything in build/share where an installation has its `share`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files, by where they go."""
        folder = Path(self.root) / "build/share"
        if self.target_name == "wheel" and version == "standard":
            files = (file for file in sorted(folder.rglob("*")) if file.is_file())
            build_data["shared_data"] = {str(file): f"share/{file.relative_to(folder)}" for file in files}
