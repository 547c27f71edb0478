"""What the package offers, for type checkers: at run time it is imported when it is first used."""

from ocisync.errors import OcisyncError as OcisyncError
from ocisync.library import CopiedImage as CopiedImage
from ocisync.library import Image as Image
from ocisync.library import PlatformImage as PlatformImage
from ocisync.library import copy as copy
from ocisync.library import digest as digest
from ocisync.library import inspect as inspect
from ocisync.library import tags as tags
from ocisync.library import verify as verify

__version__: str
__all__: list[str]
