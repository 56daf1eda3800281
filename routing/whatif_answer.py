"""What if, answered from what is kept: the bundle, and metrics of its scores' 24 hours. It changes nothing."""

import logging
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from overrides.previewing import Proposal
from routing.bundle import current_bundle
from routing.comparing import Side
from routing.courtesy import giving_way
from routing.engine import Bundle
from routing.gates import Verdict
from routing.preview import breaches, differences, money, not_passed, side_to_dict
from routing.proposed import NotKnownYet, proposed
from routing.whatif import Hypothesis, NoRules, Tokens, supposed
from routing.whatif_effects import Effect, add_up, add_up_now, effects, explored, standings
from telemetry.clickhouse import ClickHouse, ClickHouseError, get_clickhouse
from telemetry.metrics import Span, Window, trailing
from telemetry.usage import read_completions, read_shared_usage, read_usage

log = logging.getLogger(__name__)

#: Scopes listed, unless asked for fewer or more, and the most that may be asked for. The sums are of all.
LISTED, MOST = 50, 500

_NO_SCORES = "There are no scores yet, so nobody wins anywhere: wait for the first scoring run."
_NO_RULES = "The scores do not say by which rules they were made: ask again after the next scoring run."
_NO_TRAFFIC = "Metrics cannot be read now, so that nobody knows how many completions a day this is."


class CannotSay(Exception):
    """Whether a scope's winner flips cannot be told now, and why."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The effects in the scopes that were asked about. ``problem``: what is not known, in words; None: nothing."""

    bundle: Bundle
    after: Bundle
    hypothesis: Hypothesis
    effects: tuple[Effect, ...]
    span: Span | None
    problem: str | None


# Thousands of scopes take seconds, and this process decides for others meanwhile.
@giving_way()
def what_if(hypothesis: Hypothesis, tenants: frozenset[str] | None, now: datetime) -> WhatIf:
    """In the scopes of these tenants (None: all), at a time (UTC).

    Raises NotKnownYet for names that the policy of this process does not have, ValidationError for values that no
    persona may have, CannotSay when metrics that the winners hang on cannot be read.
    """
    bundle = current_bundle()
    _check_profiles(bundle, hypothesis)
    # A caller of one tenant among thousands costs one tenant's work, and gets no word of the others.
    bundle = bundle.for_tenants(tenants)
    clickhouse = get_clickhouse()
    try:
        asked = proposed(bundle, Proposal(personas=hypothesis.personas), clickhouse)
        after = supposed(asked, hypothesis, _tokens(bundle, hypothesis, tenants, clickhouse))
    except ClickHouseError as error:
        log.warning("what-if: %s", error)
        raise CannotSay(
            "Who wins then does not follow from the scorecards, and metrics cannot be read now."
        ) from error
    except NoRules:
        return WhatIf(bundle, bundle, hypothesis, (), None, _NO_RULES)
    if bundle.snapshot is None:
        return WhatIf(bundle, after, hypothesis, (), None, _NO_SCORES)
    span = trailing(Window.H24, bundle.snapshot.created_at)
    completions, problem = _completions(clickhouse, span, tenants)
    found = effects(bundle, after, hypothesis, completions, now)
    return WhatIf(bundle, after, hypothesis, tuple(found), span, problem)


def _check_profiles(bundle: Bundle, hypothesis: Hypothesis) -> None:
    if unknown := sorted(hypothesis.profiles - bundle.profiles.keys()):
        raise NotKnownYet(f"the profile '{unknown[0][:80]}'")


def _tokens(
    bundle: Bundle, hypothesis: Hypothesis, tenants: frozenset[str] | None, clickhouse: ClickHouse
) -> Tokens:
    """Of the windows that the scores were made from; two queries, none without other prices."""
    if bundle.snapshot is None or not hypothesis.prices:
        return {}
    span, profiles = trailing(Window.H24, bundle.snapshot.created_at), hypothesis.prices
    own = read_usage(clickhouse, span, profiles, tenants)
    return {**own, **read_shared_usage(clickhouse, span, profiles)}


def _completions(
    clickhouse: ClickHouse, span: Span, tenants: frozenset[str] | None
) -> tuple[dict[tuple[str, str], int] | None, str | None]:
    try:
        return read_completions(clickhouse, span, tenants), None
    except ClickHouseError as error:
        log.warning("what-if without completions: %s", error)
        return None, _NO_TRAFFIC


@giving_way()
def tell(found: WhatIf, listed: int = LISTED) -> dict[str, Any]:
    """JSON values: money as text, unknown as null; docs/whatif.md explains them. Scopes that flip come first, then
    those with the most dollars."""
    all_ = found.effects
    felt = sorted((one for one in all_ if one.is_felt), key=_by_weight)
    snapshot, span = found.bundle.snapshot, found.span
    total, (now, unknown_now) = add_up(all_), add_up_now(all_)
    return {
        "bundle_version": found.bundle.version,
        "snapshot_id": snapshot.id if snapshot else None,
        "measured_from": span.start.isoformat() if span else None,
        "measured_to": span.end.isoformat() if span else None,
        "scopes_checked": len(all_),
        "scopes_changed": len(felt),
        "scopes_flipped": sum(one.flips for one in all_),
        "scopes_flipped_now": sum(one.now.switches for one in all_),
        "usd_per_day": {
            "old": dollars(total.old),
            "new": dollars(total.new),
            "difference": dollars(total.difference),
            "scopes_known": total.known,
            "scopes_unknown": total.unknown,
        },
        "usd_per_day_now": {"difference": dollars(now), "scopes_unknown": unknown_now},
        "explored_per_day": dict(zip(("old", "new"), explored(all_) or (None, None), strict=True)),
        "breaches": _counted(all_, breaches),
        "unproven": _counted(all_, _is_unproven),
        "problems": _counted(all_, lambda side: side.problem is not None),
        "profiles": [asdict(one) for one in standings(found.after, found.hypothesis, all_)],
        "scopes": [_scope(one) for one in felt[:listed]],
        "more": max(len(felt) - listed, 0),
        "unknown": found.problem,
    }


def _by_weight(one: Effect) -> tuple[bool, bool, Decimal, int, str, str]:
    difference = one.difference
    size = -abs(difference) if difference is not None else Decimal(0)
    return (
        not one.flips,
        difference is None,
        size,
        -(one.completions or 0),
        one.key.tenant,
        one.key.persona,
    )


def _counted(found: tuple[Effect, ...], is_so: Any) -> dict[str, int]:
    return {"old": sum(is_so(one.old) for one in found), "new": sum(is_so(one.new) for one in found)}


def _is_unproven(side: Side) -> bool:
    """Whether it is not proved to meet the SLA, nor to miss it; nothing measured is no proof."""
    if side.problem is not None or breaches(side):
        return False
    return side.card is None or any(gate.verdict is not Verdict.PASS for gate in side.card.gates)


def _scope(one: Effect) -> dict[str, Any]:
    return {
        "tenant": one.key.tenant,
        "persona": one.key.persona,
        "flips": one.flips,
        "old": side_to_dict(one.old),
        "new": side_to_dict(one.new),
        "change": differences(one.old.card, one.new.card),
        "sla": not_passed(one.new.card),
        "completions_per_day": one.completions,
        "usd_per_day": {
            "old": dollars(one.old_usd),
            "new": dollars(one.new_usd),
            "difference": dollars(one.difference),
        },
        "now": {
            "old": _given(one.now.old),
            "new": _given(one.now.new),
            "switches": one.now.switches,
            "share": one.now.share,
            "usd_per_day_difference": dollars(one.now.difference),
        },
    }


def _given(side: Side) -> dict[str, Any]:
    return {
        "profile": side.profile,
        "reason": side.reason.value if side.reason else None,
        "override": side.override,
        "problem": side.code,
    }


def dollars(amount: Decimal | None) -> str | None:
    """US dollars as text, to a billionth, as exact as prices are; None: unknown."""
    return None if amount is None else money(round(amount, 9).normalize())
