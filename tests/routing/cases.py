"""Totals, evidence and bundles for scoring and deciding; a test names only what matters to it."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from routing.engine import (
    Bundle,
    BundlePersona,
    BundleProfile,
    BundleSnapshot,
    BundleTenant,
    FlagState,
    ScopeScores,
    SelectionRequest,
)
from routing.scoring import Evidence, ScoringRules, Sla, Weights, score_scope
from telemetry.histogram import BUCKETS, bucket_of
from telemetry.totals import Totals

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RULES = ScoringRules(Sla(min_success_rate=0.6, max_latency_p95_ms=10_000, max_safety_violation_rate=0.05))


def totals(
    n: int = 400, success: float = 0.9, cost: str = "0.01", latency_ms: int = 1000, slow: int = 0, **more: Any
) -> Totals:
    """``n`` requests of one latency, ``slow`` of them taking 60 s."""
    latency = [0] * BUCKETS
    latency[bucket_of(latency_ms)] += n - slow
    latency[bucket_of(60_000)] += slow
    successes = round(n * success)
    fields: dict[str, Any] = {
        "requests": n,
        "successes": successes,
        "prompt_tokens": n * 100,
        "completion_tokens": n * 100,
        "priced": n,
        "priced_tokens": n * 200,
        "priced_successes": successes,
        "cost_usd": Decimal(cost) * n,
        "latency": tuple(latency),
        "last_event_at": NOW,
    }
    return Totals(**{**fields, **more})


def evidence(profile: str, hour: Totals | None = None, **fields: Any) -> Evidence:
    return Evidence(profile, totals(**fields), hour or Totals())


def scope(
    items: Iterable[Evidence], rules: ScoringRules = RULES, as_of: datetime | None = NOW
) -> ScopeScores:
    return ScopeScores(score_scope(rules, "incumbent", items), as_of, "incumbent", rules)


def profile(slug: str, **fields: Any) -> BundleProfile:
    values = {
        "provider": "openai",
        "model": slug,
        "base_url": "https://api.example.com",
        "tier": "llm",
        "enabled": True,
        "context_window": 1000,
    }
    return BundleProfile(slug=slug, **{**values, **fields})


def bundle(
    *items: Evidence, scores: ScopeScores | None = None, profiles: Iterable[BundleProfile] = (), **fields: Any
) -> Bundle:
    """One tenant and persona whose default is ``incumbent``, with a snapshot of these items."""
    found = scores if scores is not None else scope(items)
    known = {slug: profile(slug) for slug in ("incumbent", *(item.profile for item in items))}
    known |= {item.slug: item for item in profiles}
    values: dict[str, Any] = {
        "version": "1.1",
        "tenants": {"aurora": BundleTenant("aurora", enabled=True)},
        "personas": {"essayist": BundlePersona("essayist", enabled=True, default_profile="incumbent")},
        "scope_defaults": {},
        "profiles": known,
        "enabled_tiers": frozenset({"llm"}),
        "flag": FlagState(everyone=True),
        "snapshot": BundleSnapshot("7", NOW, {("aurora", "essayist"): found}, {}),
    }
    return Bundle(**{**values, **fields})


def request(conversation_id: str = "c-1", at: datetime = NOW, **fields: Any) -> SelectionRequest:
    values = {"tenant": "aurora", "persona": "essayist", "conversation_id": conversation_id, "at": at}
    return SelectionRequest(**{**values, **fields})


rates = st.floats(0, 1, allow_nan=False)


@st.composite
def any_totals(draw: st.DrawFn) -> Totals:
    n = draw(st.integers(0, 2000))
    latency = [0] * BUCKETS
    for _ in range(3):
        latency[draw(st.integers(0, BUCKETS - 1))] += n // 3
    latency[draw(st.integers(0, BUCKETS - 1))] += n - sum(latency)
    priced = draw(st.sampled_from([0, n, n // 2]))
    successes = int(n * draw(rates))
    return Totals(
        requests=n,
        successes=successes,
        safety_violations=int(n * draw(rates) / 10),
        accuracy_sum=Decimal(n) * Decimal(str(round(draw(rates), 3))),
        accuracy_count=n,
        prompt_tokens=n * draw(st.integers(0, 1000)),
        completion_tokens=n,
        priced=priced,
        priced_successes=min(priced, successes),
        cost_usd=priced * Decimal(draw(st.integers(1, 10_000))) / 10_000,
        latency=tuple(latency),
        last_event_at=NOW if n else None,
    )


@st.composite
def any_rules(draw: st.DrawFn) -> ScoringRules:
    cut = sorted(draw(st.lists(st.integers(0, 100), min_size=2, max_size=2)))
    return ScoringRules(
        Sla(
            min_success_rate=draw(st.sampled_from([0.0, 0.3, 0.6, 0.9, 1.0])),
            max_latency_p95_ms=draw(st.integers(1, 3_600_000)),
            max_safety_violation_rate=draw(st.sampled_from([0.0, 0.02, 0.2, 1.0])),
            min_accuracy=draw(st.sampled_from([None, None, 0.5])),
            max_cost_per_completion=draw(st.sampled_from([None, Decimal("0.05")])),
        ),
        Weights(cut[0] / 100, (cut[1] - cut[0]) / 100, (100 - cut[1]) / 100),
        confidence=draw(st.sampled_from([0.5, 0.9, 0.99])),
        min_samples=draw(st.sampled_from([1, 30])),
    )


@st.composite
def likely_evidence(draw: st.DrawFn, slug: str) -> Evidence:
    """Figures that often meet RULES, so that ranks have something to order."""
    day = totals(
        n=draw(st.integers(150, 3000)),
        success=draw(st.floats(0.55, 1)),
        cost=f"{draw(st.integers(1, 3000)) / 100_000:.5f}",
        latency_ms=draw(st.integers(10, 12_000)),
    )
    return Evidence(slug, day, Totals())


def pools(strategy: Any = likely_evidence) -> st.SearchStrategy[list[Evidence]]:
    """An incumbent and up to seven others."""
    return st.integers(0, 7).flatmap(
        lambda count: st.tuples(strategy("incumbent"), *(strategy(f"p{i}") for i in range(count))).map(list)
    )


@st.composite
def wild_evidence(draw: st.DrawFn, slug: str) -> Evidence:
    return Evidence(slug, draw(any_totals()), draw(any_totals()), borrowed=draw(st.booleans()))
