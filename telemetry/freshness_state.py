"""What an age means. Pure: no Django, no I/O."""

from datetime import datetime, timedelta
from enum import StrEnum

FRESH_WITHIN = timedelta(minutes=5)
#: Older metrics never steer a decision.
STALE_AFTER = timedelta(minutes=15)


class Freshness(StrEnum):
    """How far metrics can be trusted."""

    FRESH = "fresh"
    DEGRADED = "degraded"
    STALE = "stale"
    BLIND = "blind"


def state(as_of: datetime | None, at: datetime) -> Freshness:
    """fresh up to 5 minutes, degraded up to 15, stale beyond, blind when there never was an event. A time
    slightly ahead of ours (clocks differ) is fresh."""
    if as_of is None:
        return Freshness.BLIND
    age = at - as_of
    if age <= FRESH_WITHIN:
        return Freshness.FRESH
    return Freshness.DEGRADED if age <= STALE_AFTER else Freshness.STALE
