"""The capacity tables as Markdown, from costs. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from bench.capacity.model import (
    EVENTS_PER_DAY,
    SCOPES,
    SELECTIONS_PER_SECOND,
    STORES,
    Need,
    Scoring,
    Step,
    events,
    scoring,
    selections,
)

#: What is there to lift a full part, of engines and settings that exist. docs/scaling.md says which are wired here.
LIFTS = {
    "PostgreSQL": "several PostgreSQLs: tenants divided over deployments",
    "PostgreSQL's disk": "a shorter SELECTION_KEEP_DAYS; tenants divided over deployments",
    "publisher": "tenants divided over deployments, each with a publisher",
    "drain": "async inserts or ClickHouse's Kafka engine in place of the spool; tenants divided over deployments",
    "ClickHouse": "more shards",
}
_SELECTION_LIMITS = ("PostgreSQL", "PostgreSQL's disk", "publisher")
_EVENT_LIMITS = ("PostgreSQL", "drain")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def tables(costs: Mapping[str, float]) -> str:
    """All three, with their headings."""
    return "\n\n".join(
        (
            "**Selections**, cores each part needs:",
            _selections(costs),
            "**Events**, cores each part needs, one ClickHouse server:",
            _events(costs),
            "**Scoring**, once a minute, 10 profiles:",
            _scoring(costs),
        )
    )


def _selections(costs: Mapping[str, float]) -> str:
    header = (
        "per second",
        "web, durable",
        "web, write-behind",
        "web + workers, local evaluation",
        "PostgreSQL",
        "publisher",
        "ClickHouse",
        "kept per day: PostgreSQL, ClickHouse",
        "first bottleneck",
        "what lifts it",
        "deployments then",
    )
    return _markdown(header, (_selection_row(costs, rate) for rate in SELECTIONS_PER_SECOND))


def _selection_row(costs: Mapping[str, float], rate: float) -> Sequence[str]:
    step, local = selections(costs, rate), selections(costs, rate, "local")
    return (
        f"{rate:,.0f}",
        _cores(step, "web"),
        _cores(selections(costs, rate, "write_behind"), "web")
        if STORES["write_behind"] in costs
        else "not measured",
        f"{_cores(local, 'web')} + {_cores(local, 'workers')}",
        *(_cores(step, part) for part in ("PostgreSQL", "publisher", "ClickHouse")),
        f"{_bytes(step.bytes_per_day['PostgreSQL'])}, {_bytes(step.bytes_per_day['ClickHouse'])}",
        *_full(step),
        f"{step.deployments(_SELECTION_LIMITS):,}",
    )


def _events(costs: Mapping[str, float]) -> str:
    header = (
        "per day",
        "per second",
        "web",
        "PostgreSQL",
        "drain",
        "ClickHouse, every 5 s",
        "ClickHouse, every 60 s",
        "kept per day",
        "first bottleneck",
        "what lifts it",
        "deployments then",
    )
    return _markdown(header, (_event_row(costs, per_day) for per_day in EVENTS_PER_DAY))


def _event_row(costs: Mapping[str, float], per_day: float) -> Sequence[str]:
    step, seldom = events(costs, per_day), events(costs, per_day, every_seconds=60)
    return (
        f"{per_day:,.0f}",
        f"{step.rate:,.0f}",
        *(_cores(step, part) for part in ("web", "PostgreSQL", "drain", "ClickHouse")),
        _cores(seldom, "ClickHouse"),
        _bytes(step.bytes_per_day["ClickHouse"]),
        *_full(step),
        f"{step.deployments(_EVENT_LIMITS):,}",
    )


def _scoring(costs: Mapping[str, float]) -> str:
    header = (
        "scopes",
        "cores",
        "SCORING_PARTITIONS for 30 s",
        "then put together in",
        "snapshot",
        "deployments then",
    )
    return _markdown(header, (_scoring_row(scoring(costs, scopes)) for scopes in SCOPES))


def _scoring_row(one: Scoring) -> Sequence[str]:
    return (
        f"{one.scopes:,}",
        _number(one.cores),
        f"{one.partitions:,}",
        f"{_number(one.assembly_seconds)} s",
        _bytes(one.snapshot_bytes),
        f"{one.deployments:,}",
    )


def _full(step: Step) -> tuple[str, str]:
    need: Need | None = step.bottleneck
    if need is None:
        return "none", ""
    return f"{need.part} ({need.use:,.1f} of what it can use)", LIFTS[need.part]


def _cores(step: Step, part: str) -> str:
    return _number(next(need.amount for need in step.needs if need.part == part))


def _number(value: float) -> str:
    """Two digits: the costs are no better known."""
    if value < 0.01:
        return "< 0.01"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _bytes(value: float) -> str:
    unit = 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{_number(value)} {_UNITS[unit]}"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
