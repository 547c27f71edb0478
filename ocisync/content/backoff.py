"""How long to wait before something that failed is tried again. Pure.

Every part of ocisync that tries again waits by this one rule: registries and buckets, writers that lost a race, rules
and dropped inputs. They differ in their figures only. A ceiling doubles with each failure in a row, up to a cap, and a
random part of the ceiling is waited ("full jitter"): many that failed together must not come back together.
"""

from __future__ import annotations

from dataclasses import dataclass

_MOST_DOUBLINGS = 30  # a float would overflow at 1024; by then every cap has been reached


@dataclass(frozen=True, slots=True)
class Backoff:
    """The figures of one kind of retry, all in seconds."""

    first: float  # the ceiling after the first failure
    longest: float  # no ceiling is higher
    shortest: float = 0.0  # no wait is shorter, whatever chance says

    def ceiling(self, failures: int) -> float:
        """The longest wait after so many failures in a row, the first being 1."""
        return min(self.longest, self.first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))

    def wait(self, failures: int, chance: float) -> float:
        """The wait after so many failures in a row; `chance` is a random number from 0 to 1."""
        return max(self.shortest, self.ceiling(failures) * chance)
