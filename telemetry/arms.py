"""The holdout's two arms by day, recomputed from distinct completions and decisions, never incremented.

Which reasons of a decision make an arm is told by the caller. A completion belongs to its decision's arm; without a
known decision to the arm of its conversation, if all of that conversation's decisions agree. As in telemetry.rollups
an event is one (tenant, event_id) within its 5-minute bucket, the last received of several copies counts, and of a
row its newest version: duplicates, late events, repeated and killed runs cannot change a total.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from telemetry.arm_sums import MEASURES, Arm, ArmDay, ArmSums
from telemetry.clickhouse import ClickHouse
from telemetry.rollups import floor, next_version

_DAY = timedelta(days=1)
#: How long before a completion's day its decision is looked for.
LOOKBACK = timedelta(days=2)
#: Late events come within 48 hours, so what is newer may have changed.
RECENT = timedelta(days=3)
#: A recompute reads raw events, so it may take longer than a page's query, in seconds.
_TIMEOUT = 120.0

_PLAIN = ("completions", "successes", "escalations", "safety_violations", "priced", "nanos")
_KEYS = "tenant, persona, conversation_id"

#: Billionths of a US dollar, whole in 64 bits: 18.16 crashes on arrays of decimals once there are very many. Dollars
#: and their fraction apart, because a decimal of 64 bits holds no 100,000 dollars times a billion.
_NANOS = """toInt64(cost_usd) * 1000000000
        + toInt64((cost_usd - toDecimal64(toInt64(cost_usd), 9)) * 1000000000)"""

# 1 control, 2 treated, 3 outside; 0 not known. A conversation stands under the task that it began the day with: it
# was chosen before the arm could matter, and keeps the conversation whole. Texts of (time, task) make the earliest
# one the same in every recompute; a decision's text is behind all of them.
_COMPLETIONS_AND_DECISIONS = f"""
SELECT tenant, persona, conversation_id, ifNull(toString(decision_id), '') AS decision, toUInt8(0) AS known,
    concat(toString(toUInt32(occurred_at)), task) AS began, toUInt64(1) AS r_completions,
    toUInt64(success) AS r_successes, toUInt64(escalated) AS r_escalations,
    toUInt64(safety_violation) AS r_safety_violations, toUInt64(isNotNull(cost_usd)) AS r_priced,
    ifNull({_NANOS}, toInt64(0)) AS r_nanos
FROM (
    SELECT toStartOfFiveMinute(occurred_at) AS five, tenant, persona, task, conversation_id, decision_id, event_id,
        occurred_at, success, escalated, safety_violation, cost_usd
    FROM completions
    WHERE occurred_at >= %(day)s AND occurred_at < %(end)s
    ORDER BY five, tenant, event_id, received_us DESC
    LIMIT 1 BY five, tenant, event_id
)
UNION ALL
SELECT tenant, persona, conversation_id, toString(decision_id) AS decision,
    toUInt8(multiIf(reason IN %(control)s, 1, reason IN %(treated)s, 2, 3)) AS known,
    '~' AS began, toUInt64(0) AS r_completions, toUInt64(0) AS r_successes, toUInt64(0) AS r_escalations,
    toUInt64(0) AS r_safety_violations, toUInt64(0) AS r_priced, toInt64(0) AS r_nanos
FROM selections
WHERE decided_at >= %(since)s AND decided_at < %(end)s
"""

_BY_DECISION = f"""
SELECT {_KEYS}, decision, max(known) AS d_arm, min(began) AS d_began,
    {", ".join(f"sum(r_{name}) AS d_{name}" for name in _PLAIN)}
FROM ({_COMPLETIONS_AND_DECISIONS})
GROUP BY {_KEYS}, decision
"""

_BY_CONVERSATION = f"""
SELECT {_KEYS}, min(d_began) AS began,
    if(minIf(d_arm, d_arm > 0) = maxIf(d_arm, d_arm > 0), maxIf(d_arm, d_arm > 0), toUInt8(0)) AS whole_arm,
    groupArrayIf(d_arm, d_completions > 0) AS arms,
    {", ".join(f"groupArrayIf(d_{name}, d_completions > 0) AS many_{name}" for name in _PLAIN)}
FROM ({_BY_DECISION})
GROUP BY {_KEYS}
"""

_BY_ARM = f"""
SELECT {_KEYS}, began, if(one_arm > 0, one_arm, whole_arm) AS its_arm,
    {", ".join(f"sum(one_{name}) AS c_{name}" for name in _PLAIN)}
FROM ({_BY_CONVERSATION})
ARRAY JOIN arms AS one_arm, {", ".join(f"many_{name} AS one_{name}" for name in _PLAIN)}
GROUP BY {_KEYS}, began, its_arm
"""

_SUMS: Mapping[str, str] = {
    "conversations": "count()",
    **{name: f"sum(c_{name})" for name in _PLAIN if name != "nanos"},
    "cost_usd": "toDecimal128(sum(c_nanos), 9) / 1000000000",
    "completions_squared": "sum(c_completions * c_completions)",
    "successes_squared": "sum(c_successes * c_successes)",
    "escalations_squared": "sum(c_escalations * c_escalations)",
    "safety_violations_squared": "sum(c_safety_violations * c_safety_violations)",
    "completions_successes": "sum(c_completions * c_successes)",
    "completions_escalations": "sum(c_completions * c_escalations)",
    "completions_safety_violations": "sum(c_completions * c_safety_violations)",
    "priced_conversations": "countIf(c_priced > 0)",
    "priced_squared": "sum(c_priced * c_priced)",
    "cost_squared": "sum(toFloat64(c_nanos) / 1e9 * toFloat64(c_nanos) / 1e9)",
    "priced_cost": "sum(toFloat64(c_priced) * toFloat64(c_nanos) / 1e9)",
}

_NOTHING = {
    "cost_usd": "toDecimal128(0, 9)",
    "cost_squared": "toFloat64(0)",
    "priced_cost": "toFloat64(0)",
}

_COLUMNS = f"bucket, tenant, persona, task, arm, {', '.join(MEASURES)}, seen, version"

# What is stored of the day joins in with nothing: a row whose completions moved elsewhere becomes nothing, in the
# same statement that writes where they went.
_RECOMPUTE = f"""
INSERT INTO arms_24h ({_COLUMNS})
SELECT toDateTime(%(day)s, 'UTC') AS bucket, tenant, persona, task, arm,
    {", ".join(f"sum(n_{name})" for name in MEASURES)}, %(seen)s, toUInt64(%(version)s)
FROM (
    SELECT tenant, persona, substring(began, 11) AS task,
        multiIf(its_arm = 1, 'control', its_arm = 2, 'treated', its_arm = 3, 'outside', 'undecided') AS arm,
        {", ".join(f"{_SUMS[name]} AS n_{name}" for name in MEASURES)}
    FROM ({_BY_ARM})
    GROUP BY tenant, persona, task, arm
    UNION ALL
    SELECT tenant, persona, task, arm,
        {", ".join(f"{_NOTHING.get(name, 'toUInt64(0)')} AS n_{name}" for name in MEASURES)}
    FROM arms_24h FINAL
    WHERE bucket = %(day)s AND version < %(version)s AND conversations > 0
)
GROUP BY tenant, persona, task, arm
"""


def update_arms(
    clickhouse: ClickHouse,
    first: datetime,
    now: datetime,
    *,
    control: Collection[str],
    treated: Collection[str],
    renew: Callable[[], None] = lambda: None,
) -> list[datetime]:
    """Recompute the days since ``first`` up to now of which raw events or decisions have changed, newest first;
    returns them. ``control`` and ``treated`` are the reasons that make the arms. Raises ClickHouseError.

    Days without completions are passed over: their raw events may be gone, and their sums stay. Days with very many of
    them rest for a while after each recompute (``rest_of``).
    """
    first, end = floor(first, _DAY), floor(now, _DAY) + _DAY
    marks = _marks(clickhouse, first, end)
    known = _seen(clickhouse, first, end)
    changed = [day for day in sorted(marks, reverse=True) if _is_due(marks[day], known.get(day), now)]
    for day in changed:
        parameters = {
            "day": day,
            "end": day + _DAY,
            "since": day - LOOKBACK,
            "control": tuple(sorted(control)),
            "treated": tuple(sorted(treated)),
            "seen": marks[day].text,
            "version": next_version(now),
        }
        clickhouse.execute(_RECOMPUTE, parameters, timeout=_TIMEOUT)
        renew()
    return changed


@dataclass(frozen=True, slots=True)
class _Mark:
    """A text that changes when a day's completions do, or the decisions looked at; ``rows`` are those completions."""

    text: str
    rows: int


def rest_of(rows: int) -> timedelta:
    """How long a day with so many completions is left alone after it was summed up: a million took 6 to 16 s, so it is
    not done again for 15 minutes; up to 100,000 never wait."""
    return timedelta(milliseconds=max(rows - 100_000, 0))


def _is_due(mark: _Mark, last: tuple[str, int] | None, now: datetime) -> bool:
    if last is None:
        return True
    text, version = last
    # Versions are microseconds of the time of the recompute, or a little later where the clock went back.
    rested = timedelta(microseconds=now.timestamp() * 1_000_000 - version)
    rest = rest_of(mark.rows)
    return text != mark.text and (not rest or rested >= rest)


def _marks(clickhouse: ClickHouse, first: datetime, end: datetime) -> dict[datetime, _Mark]:
    """By day with completions. They are read before the completions themselves: what comes in between makes it another
    text next time. They are quick to read, so that a ClickHouse that never answers holds the worker for a usual query's
    time and not for a recompute's."""
    completions = clickhouse.query(
        """
        SELECT toStartOfDay(occurred_at) AS day, count() AS n, max(received_us) AS newest FROM completions
        WHERE occurred_at >= %(first)s AND occurred_at < %(end)s GROUP BY day
        """,
        {"first": first, "end": end},
    )
    decisions = {
        row["day"]: f"{row['n']}@{row['newest']}"
        for row in clickhouse.query(
            """
            SELECT toStartOfDay(decided_at) AS day, count() AS n, max(decided_us) AS newest FROM selections
            WHERE decided_at >= %(first)s AND decided_at < %(end)s GROUP BY day
            """,
            {"first": first - LOOKBACK, "end": end},
        )
    }
    looked_at = [_DAY * back for back in range(LOOKBACK.days + 1)]
    return {
        row["day"]: _Mark(
            " ".join(
                [
                    f"{row['n']}@{row['newest']}",
                    *(decisions.get(row["day"] - back, "0") for back in looked_at),
                ]
            ),
            row["n"],
        )
        for row in completions
    }


def _seen(clickhouse: ClickHouse, first: datetime, end: datetime) -> dict[datetime, tuple[str, int]]:
    """By day that was summed up, the text then and the version."""
    rows = clickhouse.query(
        """
        SELECT bucket, argMax(seen, version) AS last_seen, max(version) AS last_version FROM arms_24h
        WHERE bucket >= %(first)s AND bucket < %(end)s GROUP BY bucket
        """,
        {"first": first, "end": end},
    )
    return {row["bucket"]: (row["last_seen"], row["last_version"]) for row in rows}


class TooManyRows(ValueError):
    """More rows than a request may read."""


def read_arms(
    clickhouse: ClickHouse,
    start: datetime,
    end: datetime,
    *,
    tenants: Collection[str] | None = None,
    personas: Collection[str] | None = None,
    most: int,
    timeout: float | None = None,
) -> Sequence[ArmDay]:
    """The days of [start, end), of these tenants and personas (None: all), in order. One query on the daily table
    alone. Raises TooManyRows above ``most`` rows, and ClickHouseError."""
    conditions, parameters = "", {"start": start, "end": end, "most": most + 1}
    for column, names in (("tenant", tenants), ("persona", personas)):
        if names is not None:
            if not names:
                return []
            conditions += f" AND {column} IN %({column}s)s"
            parameters[f"{column}s"] = tuple(sorted(names))
    rows = clickhouse.query(
        f"""
        SELECT bucket, tenant, persona, task, arm, {", ".join(MEASURES)} FROM arms_24h FINAL
        WHERE bucket >= %(start)s AND bucket < %(end)s AND conversations > 0{conditions}
        ORDER BY bucket, tenant, persona, task, arm LIMIT %(most)s
        """,
        parameters,
        timeout=timeout,
    )
    if len(rows) > most:
        raise TooManyRows(f"more than {most:,} rows")
    return [
        ArmDay(
            row["bucket"],
            row["tenant"],
            row["persona"],
            row["task"],
            Arm(row["arm"]),
            ArmSums(**{name: row[name] for name in MEASURES}),
        )
        for row in rows
    ]
