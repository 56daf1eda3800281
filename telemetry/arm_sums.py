"""What is kept of one arm: sums over its completions, and by conversation their squares and products. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter
from typing import Any


class Arm(StrEnum):
    """Where a completion stands in the comparison of the holdout."""

    CONTROL = "control"
    TREATED = "treated"
    #: Decided before the holdout was looked at, so that both arms would have been given the same.
    OUTSIDE = "outside"
    #: No decision is known for it.
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class ArmSums:
    """Sums over the distinct completions of one arm.

    ``*_squared`` are sums over conversations of the square of the conversation's own sum, and ``completions_*`` and
    ``priced_cost`` sums of products of two such sums: all that the variance of a ratio needs when conversations, not
    completions, are independent. ``priced`` counts completions whose cost is known, ``cost_usd`` is their cost in US
    dollars, and ``priced_conversations`` have at least one of them. They add up over days, tasks and scopes.
    """

    conversations: int = 0
    completions: int = 0
    successes: int = 0
    escalations: int = 0
    safety_violations: int = 0
    completions_squared: int = 0
    successes_squared: int = 0
    escalations_squared: int = 0
    safety_violations_squared: int = 0
    completions_successes: int = 0
    completions_escalations: int = 0
    completions_safety_violations: int = 0
    priced_conversations: int = 0
    priced: int = 0
    priced_squared: int = 0
    cost_usd: Decimal = Decimal(0)
    cost_squared: float = 0.0
    priced_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class ArmDay:
    """One arm of one task in one scope on one day (its start, UTC)."""

    day: datetime
    tenant: str
    persona: str
    task: str
    arm: Arm
    sums: ArmSums


#: In the order of the dataclass, which is that of the table.
MEASURES = tuple(field.name for field in fields(ArmSums))


_values = attrgetter(*MEASURES)


def add(parts: Iterable[ArmSums]) -> ArmSums:
    """The sums of all parts together; no parts: nothing of anything."""
    parts = list(parts)
    if len(parts) < 2:
        return parts[0] if parts else ArmSums()
    # Ledgers add up tens of thousands of these.
    totals: Any = map(sum, zip(*map(_values, parts), strict=True))
    return ArmSums(*totals)
