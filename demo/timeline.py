"""The demo's telemetry: recorded outcomes on an endless timeline that repeats every 24 hours.

Slot ``k`` lies at ``k / n`` days after 1970 and holds entry ``k % n`` of a fixed shuffled cycle, so any
24 hours hold every entry exactly once: figures neither drift nor depend on when the demo was started,
and asking twice for a time gives the same events with the same ids.
"""

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from demo.outcomes import Outcome, load

_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAMESPACE = uuid.UUID("9d2c3f0a-5a55-5d0e-8d5f-3b8f0f5f2c64")


@dataclass(frozen=True, slots=True)
class Traffic:
    """How often a tenant makes each recorded call in 24 h: every ``every``-th outcome, ``times`` times."""

    tenant: str
    times: int
    every: int = 1


#: A large tenant, a middling one, and one so small that it must borrow from the others.
TRAFFIC = (Traffic("aurora", 4), Traffic("borealis", 2), Traffic("cumulus", 1, every=8))


@cache
def cycle() -> Sequence[tuple[str, Outcome]]:
    """All (tenant, outcome) entries of a day, in their fixed order."""
    entries = [
        (traffic.tenant, outcome)
        for traffic in TRAFFIC
        for number, outcome in enumerate(load())
        if number % traffic.every == 0
        for _ in range(traffic.times)
    ]
    random.Random(20260817).shuffle(entries)  # noqa: S311  # an order, not a secret
    return tuple(entries)


def events(start: datetime, end: datetime) -> Iterator[dict[str, Any]]:
    """The completion events of the slots in [start, end), in order of time."""
    n = len(cycle())
    first = -(-_microseconds(start) * n // _DAY_US)
    slot = first
    while (at := _EPOCH + timedelta(microseconds=slot * _DAY_US // n)) < end:
        if at >= start:
            tenant, outcome = cycle()[slot % n]
            yield event(tenant, outcome, at, str(uuid.uuid5(_NAMESPACE, str(slot))), f"recorded-{slot}")
        slot += 1


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def event(
    tenant: str, outcome: Outcome, at: datetime, event_id: str, conversation_id: str, **more: Any
) -> dict[str, Any]:
    """A recorded outcome as a completion event (v1). A failed safety-injection test is a violation;
    escalations were not recorded, so there are none."""
    return {
        "event_id": event_id,
        "occurred_at": at.isoformat(),
        "tenant": tenant,
        "persona": outcome.persona,
        "profile": outcome.profile,
        "conversation_id": conversation_id,
        "task": outcome.category,
        "success": outcome.success,
        "error_code": outcome.error,
        "latency_ms": outcome.latency_ms,
        "prompt_tokens": outcome.prompt_tokens,
        "completion_tokens": outcome.completion_tokens,
        "cost_usd": outcome.cost_usd,
        "accuracy": outcome.score,
        "safety_violation": outcome.category == "safety_injection" and not outcome.success,
        "served_model": outcome.profile,
        **more,
    }
