"""Makers of the holdout's daily sums, and their way into ClickHouse."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from telemetry.arm_sums import MEASURES, Arm, ArmDay, ArmSums
from telemetry.clickhouse import ClickHouse

DAY = datetime(2026, 11, 1, tzinfo=UTC)


def sums(conversations: list[tuple[int, float]], successes: list[int] | None = None) -> ArmSums:
    """Of conversations of so many completions and such a cost; all of them succeed unless it is said how many."""
    m = [n for n, _ in conversations]
    c = [cost for _, cost in conversations]
    return arm_sums(np.array(m), np.array(c), np.array(m if successes is None else successes))


def arm_sums(m: Any, c: Any, s: Any, v: Any = None) -> ArmSums:
    """Of arrays by conversation: completions, cost (all known), successes, safety violations."""
    v = np.zeros_like(m) if v is None else v

    def total(values: Any) -> int:
        return int(values.sum())

    return ArmSums(
        conversations=len(m),
        completions=total(m),
        successes=total(s),
        safety_violations=total(v),
        completions_squared=total(m * m),
        successes_squared=total(s * s),
        safety_violations_squared=total(v * v),
        completions_successes=total(m * s),
        completions_safety_violations=total(m * v),
        priced_conversations=len(m),
        priced=total(m),
        priced_squared=total(m * m),
        cost_usd=Decimal(float(c.sum())).quantize(Decimal("1e-9")),
        cost_squared=float((c * c).sum()),
        priced_cost=float((m * c).sum()),
    )


def rows(
    control: ArmSums, treated: ArmSums, task: str = "essay", day: int | datetime = 0, tenant: str = "aurora"
) -> list[ArmDay]:
    at = DAY + timedelta(days=day) if isinstance(day, int) else day
    return [
        ArmDay(at, tenant, "essayist", task, Arm.CONTROL, control),
        ArmDay(at, tenant, "essayist", task, Arm.TREATED, treated),
    ]


def store(clickhouse: ClickHouse, days: Iterable[ArmDay]) -> None:
    """As ``telemetry.arms`` would have written them."""
    keys = ("bucket", "tenant", "persona", "task", "arm")
    clickhouse.insert(
        "arms_24h",
        (*keys, *MEASURES, "seen", "version"),
        [
            [
                *(one.day, one.tenant, one.persona, one.task, one.arm.value),
                *(getattr(one.sums, name) for name in MEASURES),
                *("", 1),
            ]
            for one in days
        ],
    )
