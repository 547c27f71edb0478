"""How inventories are signed and checked; `wiring` and the commands make both of keys."""

from __future__ import annotations

from collections.abc import Callable

Signer = Callable[[bytes], bytes]
"""A sigstore bundle (JSON) over bytes."""

Check = Callable[[bytes, bytes], None]
"""Takes a sigstore bundle and the bytes that it is about; raises an OcisyncError where no trusted key signed them."""
