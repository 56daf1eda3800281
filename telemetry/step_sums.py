"""Both arms of one step of a rollout, by conversation: what was randomised is what is counted.

A conversation belongs to the step that its first decision lies in, and to the arm that this decision makes (which
reasons make which is told by the caller). It is told by the share of its completions that succeeded, violated safety,
escalated or were slow. As in telemetry.rollups an event is one (tenant, event_id) within its 5-minute bucket, and the
last received of several copies counts.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from telemetry.clickhouse import ClickHouse

#: How long before the step a conversation's first decision is looked for.
LOOKBACK = timedelta(days=2)
#: A conversation counts once its first decision is this old: those whose answers come fast must not stand for all.
SETTLING = timedelta(minutes=2)
MEASURES = ("success", "safety_violations", "escalations", "slow")

_FIVE_MINUTES_US = 300_000_000

_ROWS = """
SELECT conversation_id, '' AS by_persona, toUInt64(0) AS us, toUInt8(0) AS decided, toUInt8(0) AS arm,
    toUInt64(1) AS n, toUInt64(success) AS r_success, toUInt64(safety_violation) AS r_safety_violations,
    toUInt64(escalated) AS r_escalations,
    toUInt64(latency_ms > transform(persona, %(whose)s, %(limits)s, toUInt64(4294967295))) AS r_slow,
    toUInt32(occurred_at) AS seen
FROM (
    SELECT toStartOfFiveMinute(occurred_at) AS five, event_id, persona, conversation_id, occurred_at, success,
        safety_violation, escalated, latency_ms
    FROM completions
    WHERE occurred_at >= %(since)s AND occurred_at < %(until)s AND tenant = %(tenant)s AND persona IN %(personas)s
    ORDER BY five, event_id, received_us DESC
    LIMIT 1 BY five, event_id
)
UNION ALL
SELECT conversation_id, persona AS by_persona, decided_us AS us, toUInt8(1) AS decided,
    toUInt8(multiIf(reason IN %(control)s, 1, reason IN %(treated)s, 2, 3)) AS arm,
    toUInt64(0) AS n, toUInt64(0) AS r_success, toUInt64(0) AS r_safety_violations, toUInt64(0) AS r_escalations,
    toUInt64(0) AS r_slow, toUInt32(0) AS seen
FROM selections
WHERE decided_at >= %(before)s AND decided_at < %(until)s AND tenant = %(tenant)s AND persona IN %(personas)s
"""

_CONVERSATIONS = f"""
SELECT conversation_id, minIf(us, decided = 1) AS first_us, argMinIf(by_persona, us, decided = 1) AS first_persona,
    argMinIf(arm, us, decided = 1) AS first_arm, sum(decided) AS decisions, sum(n) AS completions,
    {", ".join(f"sum(r_{name}) / sum(n) AS x_{name}" for name in MEASURES)}, max(seen) AS newest
FROM ({_ROWS})
GROUP BY conversation_id
HAVING decisions > 0 AND completions > 0
"""

# Where the metrics were too old to steer by, the treated were given the default, too. That cannot be seen of the
# control, so whole five minutes of a persona are left out of both.
_BLIND = f"""
SELECT persona, intDiv(decided_us, {_FIVE_MINUTES_US}) AS five FROM selections
WHERE decided_at >= %(since)s AND decided_at < %(until)s AND tenant = %(tenant)s AND persona IN %(personas)s
    AND reason IN %(blind)s
GROUP BY persona, five
"""

_ARMS = f"""
SELECT first_arm AS arm, count() AS conversations, max(newest) AS newest_at,
    {", ".join(f"sum(x_{name}) AS s_{name}, sum(x_{name} * x_{name}) AS q_{name}" for name in MEASURES)}
FROM ({_CONVERSATIONS})
WHERE first_us >= %(first_us)s AND first_us < %(settled_us)s AND first_arm < 3
    AND (first_persona, intDiv(first_us, {_FIVE_MINUTES_US})) NOT IN ({_BLIND})
GROUP BY first_arm
"""


@dataclass(frozen=True, slots=True)
class Reasons:
    """Reasons of decisions that make the arms. ``blind``: those that say that nothing was steered by."""

    control: Collection[str]
    treated: Collection[str]
    blind: Collection[str]


@dataclass(frozen=True, slots=True)
class ConversationSums:
    """One arm: its conversations, and per measure the sums of their shares (each 0 to 1) and of the squares."""

    conversations: int
    sums: Mapping[str, float]
    squares: Mapping[str, float]


_NOTHING = ConversationSums(0, dict.fromkeys(MEASURES, 0.0), dict.fromkeys(MEASURES, 0.0))


@dataclass(frozen=True, slots=True)
class StepSums:
    """``newest``: when the last completion of a counted conversation came (UTC); None: there is none."""

    treated: ConversationSums
    control: ConversationSums
    newest: datetime | None


def read_step(
    clickhouse: ClickHouse,
    tenant: str,
    limits: Mapping[str, int],
    since: datetime,
    until: datetime,
    reasons: Reasons,
    timeout: float | None = None,
) -> StepSums:
    """Of conversations that began in [since, until - SETTLING), in one query. ``limits``: of each persona that counts,
    the latency in ms above which a completion is slow. Raises ClickHouseError."""
    personas = sorted(limits)
    if not personas or until - SETTLING <= since:
        return StepSums(_NOTHING, _NOTHING, None)
    rows = clickhouse.query(
        _ARMS,
        {
            "tenant": tenant,
            "personas": tuple(personas),
            "whose": personas,
            "limits": [limits[persona] for persona in personas],
            # Bound datetimes lose fractions.
            "since": since.replace(microsecond=0),
            "before": since.replace(microsecond=0) - LOOKBACK,
            "until": until.replace(microsecond=0) + timedelta(seconds=1),
            "first_us": _us(since),
            "settled_us": _us(until - SETTLING),
            "control": tuple(sorted(reasons.control)),
            "treated": tuple(sorted(reasons.treated)),
            "blind": tuple(sorted(reasons.blind)),
        },
        timeout=timeout,
    )
    found = {row["arm"]: row for row in rows}
    newest = max((row["newest_at"] for row in rows), default=None)
    return StepSums(
        treated=_sums(found.get(2)),
        control=_sums(found.get(1)),
        newest=None if newest is None else datetime.fromtimestamp(newest, since.tzinfo),
    )


def _us(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond


def _sums(row: Mapping[str, object] | None) -> ConversationSums:
    if row is None:
        return _NOTHING
    told: Mapping[str, float] = row  # type: ignore[assignment]  # every column is a number
    return ConversationSums(
        conversations=int(told["conversations"]),
        sums={name: float(told[f"s_{name}"]) for name in MEASURES},
        squares={name: float(told[f"q_{name}"]) for name in MEASURES},
    )
