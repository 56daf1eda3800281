"""The preview of a change: what each scope that it touches gets now and would get then, how much traffic that is, and
what would be below the SLA. Bounded queries, whatever the number of scopes."""

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from overrides.previewing import Proposal
from routing.bundle import current_bundle
from routing.comparing import Change, Key, Shares, Side, compare, keys_of, named_tasks, tasks_of
from routing.engine import Bundle
from routing.gates import Verdict
from routing.proposed import NotKnownYet, parts_of, proposed
from routing.scoring import Scorecard, gate_to_dict
from routing.traffic import Traffic, read_traffic
from telemetry.clickhouse import ClickHouseError, get_clickhouse

log = logging.getLogger(__name__)

#: Scopes shown; the counts are of all.
MOST = 50
_UNREAD = "What this would make of the profiles does not follow from their scorecards, and metrics cannot be read now."


def preview(proposal: Proposal, tenants: frozenset[str] | None, now: datetime) -> dict[str, Any]:
    """JSON values, of the scopes that a caller of these tenants (None: all) may see; docs/overrides.md explains them.

    Raises ValidationError for a persona's values, ValueError for values that no persona has.
    """
    bundle = current_bundle()
    try:
        after = proposed(bundle, proposal, get_clickhouse())
    except ClickHouseError as error:
        log.warning("preview: %s", error)
        return _unknown(bundle, _UNREAD)
    except NotKnownYet as name:
        return _unknown(bundle, f"The policy that this process decides by does not know {name} yet.")
    tasks = named_tasks((bundle.standing, after.standing))
    seen = (slug for slug in bundle.tenants if tenants is None or slug in tenants)
    keys = keys_of(parts_of(bundle, after, proposal), seen, bundle.personas, tasks)
    felt = [change for change in compare(bundle, after, keys, now) if change.is_felt]
    apart = any(tasks_of(tasks, change.key.tenant, change.key.persona) or change.key.task for change in felt)
    traffic = read_traffic(now, tenants, tasks if apart else None)
    return _answer(bundle, len(keys), felt, traffic)


def _unknown(bundle: Bundle, why: str) -> dict[str, Any]:
    return {
        **_answer(bundle, 0, [], None),
        "scopes_checked": None,
        "scopes_changed": None,
        "profiles_changed": None,
        "breaches": None,
        "problems": None,
        "conversations_per_hour": None,
        "share_of_traffic": None,
        "unknown": why,
    }


def _answer(bundle: Bundle, checked: int, felt: list[Change], traffic: Traffic | None) -> dict[str, Any]:
    rates = {change.key: traffic.per_hour(change.key) for change in felt} if traffic else {}
    ordered = sorted(felt, key=lambda change: _by_traffic(change.key, rates))
    touched = sum(rates.values())
    return {
        "bundle_version": bundle.version,
        "scopes_checked": checked,
        "scopes_changed": len(felt),
        "profiles_changed": sum(change.switches for change in felt),
        "conversations_per_hour": touched,
        "share_of_traffic": touched / traffic.total if traffic and traffic.total else None,
        "breaches": sum(breaches(change.new) for change in felt),
        "problems": sum(change.new.problem is not None for change in felt),
        "scopes": [_scope(change, rates) for change in ordered[:MOST]],
        "more": max(len(felt) - MOST, 0),
        "unknown": None,
    }


def _by_traffic(key: Key, rates: Mapping[Key, float]) -> tuple[float, str, str, str]:
    return (-rates.get(key, 0.0), key.tenant, key.persona, key.task or "")


def breaches(side: Side) -> bool:
    """Whether its profile is proved to miss the SLA."""
    return side.card is not None and any(gate.verdict is Verdict.FAIL for gate in side.card.gates)


def _scope(change: Change, rates: Mapping[Key, float]) -> dict[str, Any]:
    key = change.key
    return {
        "tenant": key.tenant,
        "persona": key.persona,
        "task": key.task,
        "old": side_to_dict(change.old),
        "new": side_to_dict(change.new),
        "change": differences(change.old.card, change.new.card),
        "shares": _shares(change.old_shares, change.new_shares),
        "conversations_per_hour": rates.get(key),
        "sla": not_passed(change.new.card),
    }


def side_to_dict(side: Side) -> dict[str, Any]:
    """JSON values; money as text, unknown as null."""
    card, problem = side.card, side.problem
    return {
        "profile": side.profile,
        "reason": side.reason.value if side.reason else None,
        "cost_per_completion": money(card.cost_per_completion) if card else None,
        "success_rate": card.success_rate if card else None,
        "latency_p95_ms": card.latency_p95_ms if card else None,
        "n": card.requests if card else None,
        "borrowed": card.borrowed if card else None,
        "problem": {"code": problem.code, "detail": problem.detail} if problem else None,
    }


def money(value: Decimal | None) -> str | None:
    """US dollars as text; None: unknown."""
    return None if value is None else format(value, "f")


def differences(old: Scorecard | None, new: Scorecard | None) -> dict[str, Any]:
    """New less old; ``cost_ratio`` is new by old. None where either is unknown, or there is nothing to divide by."""
    if old is None or new is None:
        return dict.fromkeys(("cost_per_completion", "cost_ratio", "success_rate", "latency_p95_ms"))
    was, then = old.cost_per_completion, new.cost_per_completion
    return {
        "cost_per_completion": None if was is None or then is None else money(then - was),
        "cost_ratio": None if not was or then is None else float(then / was),
        "success_rate": less(new.success_rate, old.success_rate),
        "latency_p95_ms": less(new.latency_p95_ms, old.latency_p95_ms),
    }


def less(new: float | None, old: float | None) -> float | None:
    """The difference; None: one of them is unknown."""
    return None if new is None or old is None else new - old


def _shares(old: Shares, new: Shares) -> dict[str, Any]:
    """Those that change, by name."""
    pairs: Iterable[tuple[str, float, float]] = (
        (name, getattr(old, name), getattr(new, name)) for name in ("flag", "holdout", "exploration")
    )
    return {name: {"old": was, "new": then} for name, was, then in pairs if was != then}


def not_passed(card: Scorecard | None) -> list[dict[str, Any]] | None:
    """The clauses that the new profile is not proved to meet; None: it has no scorecard here."""
    if card is None:
        return None
    return [gate_to_dict(gate) for gate in card.gates if gate.verdict is not Verdict.PASS]
