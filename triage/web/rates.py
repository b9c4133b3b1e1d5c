"""Token buckets per key, in this process: a brake, not an account book (assurance 6.1)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_KEYS_MAX = 10_000  # an attacker's made-up keys may not fill the memory


@dataclass(frozen=True)
class Limit:
    per_second: float
    burst: int


SIGN_IN_ACCOUNT = Limit(5 / 60, 5)
SIGN_IN_ADDRESS = Limit(20 / 60, 20)
API = Limit(20, 200)  # per token or session; the burst lets a page open


class Rates:
    """`seconds` runs evenly whatever the wall clock does (P17): time.monotonic, or a test's own."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._buckets: OrderedDict[tuple[Limit, str], tuple[float, float]] = OrderedDict()

    def wait_seconds(self, limit: Limit, key: str) -> float:
        """0.0 when this call may pass (and is counted), else the seconds until one may."""
        now = self._seconds()
        with self._lock:
            left, at = self._buckets.pop((limit, key), (float(limit.burst), now))
            left = min(float(limit.burst), left + (now - at) * limit.per_second)
            passes = left >= 1
            self._buckets[limit, key] = (left - 1 if passes else left, now)
            if len(self._buckets) > _KEYS_MAX:
                self._buckets.popitem(last=False)
        return 0.0 if passes else (1 - left) / limit.per_second
