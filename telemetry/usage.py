"""Completions and tokens over a window: sums without the histograms, so that very many scopes are read at once."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from telemetry.clickhouse import ClickHouse
from telemetry.metrics import Key, Span, parts_of

#: More tenants than this are sorted out here: a statement is only so long.
_MOST_NAMED = 500


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums over distinct completion events. ``cached_tokens`` are part of the prompt's; those that nobody reported
    count as none."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


def read_completions(
    clickhouse: ClickHouse, span: Span, tenants: frozenset[str] | None = None
) -> dict[tuple[str, str], int]:
    """Completions of each scope (tenant, persona) in the span, over all profiles and tasks, from roll-ups; a scope that
    is left out had none. ``tenants``: only these (None: all). One query. Raises ClickHouseError."""
    rows = _read(clickhouse, span, "tenant, persona", "sum(requests) AS n", tenants, None)
    return {(row["tenant"], row["persona"]): row["n"] for row in rows}


def read_usage(
    clickhouse: ClickHouse, span: Span, profiles: Collection[str], tenants: frozenset[str] | None = None
) -> dict[Key, Usage]:
    """Tokens of these profiles (at least one) in each scope of these tenants (None: all) in the span, from roll-ups.
    One query. Raises ClickHouseError."""
    return _usage(_read(clickhouse, span, "tenant, persona, profile", _SUMS, tenants, profiles))


def read_shared_usage(clickhouse: ClickHouse, span: Span, profiles: Collection[str]) -> dict[Key, Usage]:
    """Tokens of these profiles (at least one) per persona over all tenants; otherwise as ``read_usage``."""
    return _usage(_read(clickhouse, span, "persona, profile", _SUMS, None, profiles))


_SUMS = (
    "sum(requests) AS n, sum(prompt_tokens) AS prompt, sum(completion_tokens) AS completion, "
    "sum(cached_tokens) AS cached"
)


def _read(
    clickhouse: ClickHouse,
    span: Span,
    columns: str,
    sums: str,
    tenants: frozenset[str] | None,
    profiles: Collection[str] | None,
) -> list[dict[str, Any]]:
    parts, parameters = parts_of(span, columns)
    condition = ""
    if profiles is not None:
        condition += " AND profile IN %(profiles)s"
        parameters["profiles"] = tuple(sorted(profiles))
    if tenants is not None and not tenants:
        return []
    if tenants is not None and len(tenants) <= _MOST_NAMED:
        condition += " AND tenant IN %(tenants)s"
        parameters["tenants"] = tuple(sorted(tenants))
    union = " UNION ALL ".join(parts).replace("{conditions}", condition)
    rows = clickhouse.query(
        f"""
        SELECT {columns}, {sums}
        FROM ({union}) GROUP BY {columns}
        """,
        parameters,
    )
    return [row for row in rows if tenants is None or row["tenant"] in tenants]


def _usage(rows: list[dict[str, Any]]) -> dict[Key, Usage]:
    return {
        Key(row.get("tenant"), row["persona"], row["profile"]): Usage(
            row["n"], row["prompt"], row["completion"], row["cached"]
        )
        for row in rows
    }
