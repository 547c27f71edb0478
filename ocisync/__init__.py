"""ocisync keeps container-image mirrors fresh.

As a library it has a few coroutines: see `ocisync.library`. They are imported when they are first used.
"""

from __future__ import annotations

# The types are in `__init__.pyi`: an import here, even one for type checkers only, would make all that asks for the
# version depend on the whole library.
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
