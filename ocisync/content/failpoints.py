"""Named points at which a test can kill the process, to show that every half-way state is harmless.

`OCISYNC_KILL_AT=name` kills at the first time a point is reached, `name@N` at the N-th. Without the variable nothing
happens.
"""

from __future__ import annotations

import os
import signal
from itertools import count

_NAME, _, _NTH = os.environ.get("OCISYNC_KILL_AT", "").partition("@")
_TIMES = count(1)
_LAST = int(_NTH) if _NTH.isdigit() else 1


def failpoint(name: str) -> None:
    """Mark a point of a publication; the process ends here by SIGKILL when a test asked for it."""
    if _NAME and name == _NAME and next(_TIMES) >= _LAST:
        os.kill(os.getpid(), signal.SIGKILL)
