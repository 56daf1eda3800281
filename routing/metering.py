"""The regret meter's figures: told as JSON values, and measured for all standing overrides in turn."""

import logging
import time
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import F

from overrides import selectors
from overrides.models import Override
from routing.bundle import current_bundle
from routing.meter import Meter, Surroundings, meter, read_entries
from routing.models import OverrideMeter
from routing.preview import money
from routing.regret import Given, Measured, Verdict, add_up, is_enough
from telemetry.clickhouse import ClickHouse, ClickHouseTimeout

log = logging.getLogger(__name__)

#: Scopes shown; the sums are of all.
MOST_SCOPES = 50
#: Overrides measured between two looks at the lease and the clock.
_BLOCK = 25


def regret(
    override: Override, clickhouse: ClickHouse, now: datetime, tenants: frozenset[str] | None
) -> dict[str, Any]:
    """What an override has cost or saved in the scopes of these tenants (None: all), as JSON values. Raises
    ClickHouseError."""
    around = Surroundings.of(current_bundle(), clickhouse, now)
    measured = meter(override, read_entries([override.pk]).get(override.pk, ()), around, tenants)
    return tell(measured, now)


def measure_standing(
    clickhouse: ClickHouse,
    now: datetime,
    most: int = 300,
    budget_seconds: float = 60.0,
    monotonic: Callable[[], float] = time.monotonic,
    renew: Callable[[], None] = lambda: None,
) -> int:
    """Measure up to ``most`` standing overrides, those that were not measured for the longest first, and store it.
    Returns how many. ``renew`` is called between blocks. Raises ClickHouseError: what was measured before stays.

    One that takes too long to read is stored as not known, so that it does not keep the others waiting.
    """
    started = monotonic()
    rows = selectors.standing(now).order_by(F("meter__measured_at").asc(nulls_first=True), "id")
    overrides = list(rows[:most])
    if not overrides:
        return 0
    around = Surroundings.of(current_bundle(), clickhouse, now)
    entries = read_entries([override.pk for override in overrides])
    done = 0
    for first in range(0, len(overrides), _BLOCK):
        block: list[OverrideMeter] = []
        try:
            for override in overrides[first : first + _BLOCK]:
                if monotonic() - started >= budget_seconds:
                    return done + len(block)
                figures = _measured(override, entries.get(override.pk, []), around)
                block.append(OverrideMeter(override=override, measured_at=now, figures=figures))
        finally:
            _store(block)
        done += len(block)
        renew()
    return done


def _measured(override: Override, entries: list[dict[str, Any]], around: Surroundings) -> dict[str, Any]:
    try:
        return tell(meter(override, entries, around, None), around.now)
    except ClickHouseTimeout as error:
        log.warning("meter of override %s: %s", override.pk, error)
        return {
            "override": override.pk,
            "kind": override.kind,
            "profile": override.profile.slug,
            "measured_at": around.now.isoformat(),
            "verdict": Verdict.NOT_ENOUGH_DATA.value,
            "regret_usd": None,
            "problem": "Its metrics could not be read in time.",
        }


def _store(block: list[OverrideMeter]) -> None:
    OverrideMeter.objects.bulk_create(
        block, update_conflicts=True, unique_fields=["override"], update_fields=["measured_at", "figures"]
    )


def tell(measured: Meter, now: datetime) -> dict[str, Any]:
    """The figures as JSON values: money as text, times as ISO 8601 UTC, unknown as null; docs/overrides.md explains
    them."""
    total = add_up(measured.scopes)
    ordered = sorted(measured.scopes, key=lambda s: (-s.given.totals.requests, s.key.tenant, s.key.persona))
    verdicts = [scope.verdict for scope in measured.scopes]
    override, span = measured.override, measured.span
    return {
        "override": override.id,
        "kind": override.kind,
        "profile": override.profile,
        "since": measured.since.isoformat(),
        "until": measured.until.isoformat() if measured.until else None,
        "measured_from": span.start.isoformat() if span else None,
        "measured_to": min(span.end, now).isoformat() if span else None,
        "measured_at": now.isoformat(),
        "verdict": total.verdict.value,
        "regret_usd": _usd(total.regret_usd),
        "regret_interval": None,
        "estimate": "point",
        "n": total.n,
        "difference": {
            "success_rate": total.success_difference,
            "latency_p95_ms": total.latency_difference,
        },
        "scopes_measured": sum(scope.is_measured for scope in measured.scopes),
        "scopes_not_enough_data": verdicts.count(Verdict.NOT_ENOUGH_DATA),
        "scopes_same_choice": verdicts.count(Verdict.SAME_CHOICE),
        "scopes_shadowed": measured.shadowed,
        "scopes": [_scope(scope, measured) for scope in ordered[:MOST_SCOPES]],
        "more": max(len(ordered) - MOST_SCOPES, 0),
        "problem": None,
    }


def _usd(amount: Decimal | None) -> str | None:
    """To a billionth of a dollar, as exact as prices are."""
    return None if amount is None else money(round(amount, 9).normalize())


def _scope(scope: Measured, measured: Meter) -> dict[str, Any]:
    key = scope.key
    enough = measured.min_samples.get(key.persona, 1)
    return {
        "tenant": key.tenant,
        "persona": key.persona,
        "task": key.task,
        "verdict": scope.verdict.value,
        "regret_usd": _usd(scope.regret_usd),
        "min_samples": enough,
        "given": _given(scope.given, enough),
        "instead": {**_given(scope.instead, enough), "reason": measured.reasons[key]},
        "difference": {
            "cost_per_completion": money(scope.cost_difference),
            "success_rate": scope.success_difference,
            "latency_p95_ms": scope.latency_difference,
        },
    }


def _given(given: Given, enough: int) -> dict[str, Any]:
    """Counts always; figures only of enough samples."""
    totals = given.totals
    known = is_enough(totals, enough)
    return {
        "profile": given.profile,
        "source": given.source.value if given.source and known else None,
        "n": totals.requests,
        "priced": totals.priced,
        "cost_per_completion": money(totals.cost_per_completion) if known else None,
        "success_rate": totals.success_rate if known else None,
        "latency_p95_ms": totals.latency_p95_ms if known else None,
    }
