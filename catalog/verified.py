"""Keys that were verified a moment ago, in this process: reads take no lock and copy nothing. Pure."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    caller: T
    fresh_until: float
    grace_until: float


class Verified(Generic[T]):
    """What keys stand for, by a digest of each: of more than ``most`` the oldest go. Times in seconds of the clock."""

    def __init__(self, most: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._kept: dict[bytes, _Kept[T]] = {}
        # Of writers only: a dictionary's ``get`` sees an entry or none.
        self._lock = threading.Lock()

    def fresh(self, digest: bytes) -> T | None:
        """What may be trusted without looking it up; None: look it up."""
        kept = self._kept.get(digest)
        return kept.caller if kept is not None and self._monotonic() < kept.fresh_until else None

    def last(self, digest: bytes) -> T | None:
        """What was true last, within its time of grace, for when it cannot be looked up."""
        kept = self._kept.get(digest)
        return kept.caller if kept is not None and self._monotonic() < kept.grace_until else None

    def keep(self, digest: bytes, caller: T, fresh: float, grace: float) -> None:
        """It was looked up now: trusted for ``fresh`` seconds, and for ``grace`` when it cannot be looked up again."""
        now = self._monotonic()
        with self._lock:
            # Last in the order of those that may have to go.
            self._kept.pop(digest, None)
            self._kept[digest] = _Kept(caller, now + fresh, now + grace)
            while len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]

    def drop(self, digest: bytes) -> None:
        """It stands for nobody any more."""
        with self._lock:
            self._kept.pop(digest, None)

    def forget(self) -> None:
        with self._lock:
            self._kept.clear()
