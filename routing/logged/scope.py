"""The scope and the span of time that are read. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """Times (UTC) from ``start`` to before ``end``, in whole seconds: completions are kept by the second."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, start: datetime, end: datetime) -> "Span":
        """Aware datetimes, cut to whole seconds. Raises ValueError when there is nothing between them."""
        first, last = (at.astimezone(UTC).replace(microsecond=0) for at in (start, end))
        if first >= last:
            raise ValueError("the range is empty: its start must be at least a second before its end")
        return cls(first, last)

    def days(self) -> Iterator["Span"]:
        """The parts of it that lie in one day (UTC), which is one partition, in order."""
        start = self.start
        while start < self.end:
            midnight = start.replace(hour=0, minute=0, second=0) + _DAY
            yield Span(start, min(midnight, self.end))
            start = midnight

    @property
    def count_of_days(self) -> int:
        """How many ``days`` gives."""
        last = self.end - _SECOND
        return (last.date() - self.start.date()).days + 1

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M:%S} to {self.end:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class Scope:
    """Slugs. Everything that is read is of this tenant."""

    tenant: str
    persona: str

    def __str__(self) -> str:
        return f"{self.tenant} x {self.persona}"
