"""ocisync keeps container-image mirrors fresh.

As a library it has a few coroutines: see `ocisync.library`. They are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocisync.errors import OcisyncError
    from ocisync.library import CopiedImage, Image, PlatformImage, copy, digest, inspect, tags, verify

__version__ = "0.1.0"  # a literal, not importlib.metadata: start-up time counts
__all__ = [
    "CopiedImage",
    "Image",
    "OcisyncError",
    "PlatformImage",
    "__version__",
    "copy",
    "digest",
    "inspect",
    "tags",
    "verify",
]


def __getattr__(name: str) -> object:
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module 'ocisync' has no attribute {name!r}")
    import importlib

    module = "ocisync.errors" if name == "OcisyncError" else "ocisync.library"
    return getattr(importlib.import_module(module), name)
