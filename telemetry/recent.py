"""Calls of the last minutes, straight from the raw events, and of the day before them, from roll-ups: what sentinels
compare. A roll-up is of five minutes, which is too coarse for what must be seen within one."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from telemetry.clickhouse import ClickHouse
from telemetry.metrics import Span, parts_of


@dataclass(frozen=True, slots=True)
class Used:
    """Sums of calls: how many, their tokens (``cached`` are part of ``prompt``) and their cost in US dollars."""

    calls: int
    prompt: int
    cached: int
    completion: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class RecentCalls:
    """Distinct calls of one profile and cell from ``at`` (UTC) to the next edge. ``squares``: of completion tokens;
    ``priced``: those of known cost, reported or derived; ``billed``: those whose cost was reported."""

    profile: str
    tenant: str
    persona: str
    task: str
    at: datetime
    requests: int
    conversations: int
    failures: int
    failed: int
    other: int
    othered: int
    completion_tokens: int
    squares: float
    priced: Used
    billed: Used


def _used(name: str, condition: str) -> str:
    return f"""
        countIf({condition}) AS {name}_calls,
        sumIf(toUInt64(prompt_tokens), {condition}) AS {name}_prompt,
        sumIf(toUInt64(ifNull(cached_tokens, 0)), {condition}) AS {name}_cached,
        sumIf(toUInt64(completion_tokens), {condition}) AS {name}_completion,
        sumIf(ifNull(cost_usd, toDecimal64(0, 9)), {condition}) AS {name}_cost"""


_RECENT = f"""
SELECT profile, tenant, persona, task, {{part}} AS part,
    count() AS requests,
    uniqExact(conversation_id) AS conversations,
    countIf(success = 0) AS failures,
    uniqExactIf(conversation_id, success = 0) AS failed,
    sum(served_other) AS other,
    uniqExactIf(conversation_id, served_other = 1) AS othered,
    sum(toUInt64(completion_tokens)) AS tokens,
    sum(toFloat64(completion_tokens) * toFloat64(completion_tokens)) AS squares,
    {_used("priced", "isNotNull(cost_usd)")},
    {_used("billed", "isNotNull(cost_usd) AND ifNull(cost_source, '') = 'reported'")}
FROM (
    SELECT profile, tenant, persona, task, event_id, occurred_at, conversation_id, success, served_other,
        prompt_tokens, completion_tokens, cached_tokens, cost_usd, cost_source
    FROM completions
    WHERE occurred_at >= %(since)s AND occurred_at <= %(until)s
    ORDER BY tenant, event_id, received_us DESC
    LIMIT 1 BY tenant, event_id
)
{{condition}}
GROUP BY profile, tenant, persona, task, part
"""


def read_recent(
    clickhouse: ClickHouse,
    since: datetime,
    until: datetime,
    edges: Collection[datetime] = (),
    profiles: Collection[str] | None = None,
) -> list[RecentCalls]:
    """Of calls that occurred from ``since`` to ``until``, in parts that begin at ``since`` and at each of the ``edges``
    between; all of them in whole seconds. ``profiles``: only these (at least one). Raises ClickHouseError."""
    begins = [since, *sorted({edge for edge in edges if since < edge <= until})]
    condition = "" if profiles is None else "WHERE profile IN %(profiles)s"
    parameters: dict[str, Any] = {"since": since, "until": until}
    parameters |= {f"edge{number}": edge for number, edge in enumerate(begins[1:], 1)}
    if profiles is not None:
        parameters["profiles"] = tuple(sorted(profiles))
    part = " + ".join(["0", *(f"(occurred_at >= %(edge{number})s)" for number in range(1, len(begins)))])
    statement = _RECENT.replace("{part}", part).replace("{condition}", condition)
    return [_calls(row, begins[row["part"]]) for row in clickhouse.query(statement, parameters)]


def _calls(row: dict[str, Any], at: datetime) -> RecentCalls:
    def used(name: str) -> Used:
        fields = ("calls", "prompt", "cached", "completion", "cost")
        return Used(*(row[f"{name}_{field}"] for field in fields))

    return RecentCalls(
        profile=row["profile"],
        tenant=row["tenant"],
        persona=row["persona"],
        task=row["task"],
        at=at,
        requests=row["requests"],
        conversations=row["conversations"],
        failures=row["failures"],
        failed=row["failed"],
        other=row["other"],
        othered=row["othered"],
        completion_tokens=row["tokens"],
        squares=row["squares"],
        priced=used("priced"),
        billed=used("billed"),
    )


@dataclass(frozen=True, slots=True)
class UsualCalls:
    """Sums of one profile and cell over a span. ``priced`` of ``used.calls`` have a known cost; ``used`` is of all."""

    profile: str
    tenant: str
    persona: str
    task: str
    successes: int
    other: int
    priced: int
    used: Used


def read_usual(clickhouse: ClickHouse, end: datetime, length: timedelta) -> list[UsualCalls]:
    """Of the ``length`` before ``end``, both to whole 5-minute buckets. Raises ClickHouseError."""
    parts, parameters = parts_of(Span(end - length, end), "profile, tenant, persona, task")
    rows = clickhouse.query(
        f"""
        SELECT profile, tenant, persona, task, sum(requests) AS n_requests, sum(successes) AS n_successes,
            sum(served_other) AS n_other, sum(priced) AS n_priced, sum(prompt_tokens) AS n_prompt,
            sum(cached_tokens) AS n_cached, sum(completion_tokens) AS n_completion, sum(cost_usd) AS n_cost
        FROM ({" UNION ALL ".join(parts).replace("{conditions}", "")})
        GROUP BY profile, tenant, persona, task
        """,
        parameters,
    )
    return [
        UsualCalls(
            row["profile"],
            row["tenant"],
            row["persona"],
            row["task"],
            row["n_successes"],
            row["n_other"],
            row["n_priced"],
            Used(row["n_requests"], row["n_prompt"], row["n_cached"], row["n_completion"], row["n_cost"]),
        )
        for row in rows
    ]
