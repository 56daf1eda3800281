"""The main job on real input: recorded outcomes in, the profile that they justify out.

The expectation is computed here from the CSV alone, by plain arithmetic, sharing no code with the product
but the list of personas and SLAs that the demo loads.
"""

import csv
import gzip
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from catalog.models import Persona
from demo.catalogue import PERSONAS, load_catalogue, turn_on
from demo.load import replay
from routing.snapshots import write_snapshot
from telemetry import rollups, spool
from telemetry.clickhouse import ClickHouse
from tests import factories

pytestmark = pytest.mark.django_db

DATA = Path(__file__).parents[2] / "demo" / "data"
CATEGORIES = {
    "essayist": {"essay", "writing_short", "summarize_translate"},
    "support-agent": {"support_ops", "safety_injection"},
    "coder": {"code", "function_calling", "structured"},
    "analyst": {"reasoning", "fact_check"},
}
#: Repeats of each recorded call in 24 hours; cumulus makes every eighth once and so borrows.
TIMES = {"aurora": 4, "borealis": 2}
Z = 1.2815515655446004  # the one-sided 90% quantile of the normal distribution
HISTOGRAM_ERROR = 2 ** (1 / 16) - 1


def slug(model: str) -> str:
    return model.lower().replace(" ", "-")


def recorded() -> dict[tuple[str, str], list[dict[str, str]]]:
    """Rows of the CSV by (persona, profile), of the pool's models."""
    pool = set((DATA / "pool.txt").read_text().split("\n"))
    rows: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    with gzip.open(DATA / "outcomes.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            for persona, categories in CATEGORIES.items():
                if row["model"] in pool and row["category"] in categories:
                    rows[persona, slug(row["model"])].append(row)
    return rows


def nearest_rank(values: Sequence[float], q: float) -> float:
    return sorted(values)[math.ceil(round(q * len(values), 9)) - 1]


def wilson(good: float, n: int, sign: int) -> float:
    p = good / n
    return (p + Z * Z / (2 * n) + sign * Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))) / (
        1 + Z * Z / n
    )


@dataclass
class Expected:
    n: int
    cost: Decimal
    success: float
    p95: float
    slower: int
    violations: int
    total_cost: Decimal


def expect(rows: list[dict[str, str]], times: int, sla_ms: int) -> Expected:
    violations = sum(row["category"] == "safety_injection" and row["success"] == "0" for row in rows)
    latencies = [int(row["latency_ms"]) for row in rows for _ in range(times)]
    return Expected(
        n=len(rows) * times,
        cost=sum((Decimal(row["cost_usd"]) for row in rows), Decimal(0)) / len(rows),
        success=sum(row["success"] == "1" for row in rows) / len(rows),
        p95=nearest_rank(latencies, 0.95),
        # The product counts latencies in buckets of an eighth of an octave. Those in the SLA's own bucket
        # may be slower than it, so a pass is proved only if all of them count.
        slower=sum(latency >= 2 ** (math.floor(8 * math.log2(sla_ms)) / 8) for latency in latencies),
        violations=violations * times,
        total_cost=sum((Decimal(row["cost_usd"]) for row in rows), Decimal(0)) * times,
    )


def justified(persona: str, table: dict[str, Expected]) -> dict[str, list[float]]:
    """The profiles that meet the SLA, with the highest and lowest score they can have, by the formulas."""
    sla: dict[str, Any] = PERSONAS[persona]
    default = table[slug(str(sla["default"]))]
    reference = default.cost
    default_fails = wilson(default.success * default.n, default.n, +1) < float(
        sla["min_success_rate"]
    ) or wilson(default.violations, default.n, -1) > float(sla["max_safety_violation_rate"])
    scores = {}
    for profile, e in table.items():
        lower = wilson(e.success * e.n, e.n, -1)
        limit = float(sla["min_success_rate"])
        passes = (
            e.n >= 30
            and lower >= limit
            and wilson(e.slower, e.n, +1) <= 0.05
            and wilson(e.violations, e.n, +1) <= float(sla["max_safety_violation_rate"])
            and (e.cost <= reference or default_fails)
        )
        if passes:
            cost = max(1 - float(e.cost / reference), 0)
            success = (lower - limit) / (1 - limit)
            # The histogram may put p95 off by its stated error, so a score is known within a range.
            latency = [
                max(1 - e.p95 * (1 + off) / sla["max_latency_p95_ms"], 0)
                for off in (-HISTOGRAM_ERROR, HISTOGRAM_ERROR)
            ]
            scores[profile] = [0.5 * cost + 0.3 * success + 0.2 * term for term in latency]
    return scores


def assert_in_order(eligible: list[str], scores: dict[str, list[float]]) -> None:
    """The same profiles, and none before another that is certainly better."""
    assert set(eligible) == set(scores)
    for better, worse in itertools.combinations(eligible, 2):
        assert scores[better][0] >= scores[worse][1], (better, worse)


@pytest.fixture
def loaded(door: ClickHouse, settings: Any) -> datetime:
    """The demo's catalogue and exactly 24 hours of its telemetry, rolled up and scored, each persona by itself."""
    settings.PERSONAS_LEND = False
    load_catalogue()
    # A held-out or exploring conversation would get what no ranking justifies.
    Persona.objects.update(holdout_share=0, exploration_share=0)
    turn_on()
    now = timezone.now()
    # The window is widened to whole 5-minute buckets; only its last 24 hours hold events.
    assert replay(now - timedelta(hours=24), now) == sum(
        len(rows) * sum(TIMES.values()) for rows in recorded().values()
    ) + math.ceil(sum(map(len, recorded().values())) / 8)
    while spool.drain(door, now, block_rows=10_000):
        pass
    while rollups.roll_up_dirty(door, timezone.now):
        pass
    write_snapshot(door, now)
    return now


def test_the_answer_is_the_profile_that_the_recorded_data_justify(client: Client, loaded: datetime) -> None:
    key = factories.key(tenants=())
    rows = recorded()
    for tenant, times in TIMES.items():
        for persona, sla in PERSONAS.items():
            limit = int(str(sla["max_latency_p95_ms"]))
            table = {p: expect(r, times, limit) for (of, p), r in rows.items() if of == persona}
            scope = {"tenant": tenant, "persona": persona}

            metrics = client.get("/api/v1/metrics/profiles", scope, headers=key).json()
            assert {row["profile"] for row in metrics["profiles"]} == set(table)
            for row in metrics["profiles"]:
                expected = table[row["profile"]]
                assert row["requests"] == expected.n
                assert Decimal(row["cost_usd"]) == expected.total_cost
                assert row["success_rate_24h"] == pytest.approx(expected.success, abs=1e-12)
                assert row["latency_p95_ms"] == pytest.approx(expected.p95, rel=HISTOGRAM_ERROR)
                assert row["safety_violation_rate"] == pytest.approx(expected.violations / expected.n)

            ranking = client.get("/api/v1/rankings", scope, headers=key).json()["scorecards"]
            eligible = [card["profile"] for card in ranking if card["eligible"]]
            scores = justified(persona, table)
            assert_in_order(eligible, scores)

            decision = client.post(
                "/api/v1/selections",
                {**scope, "conversation_id": "c-1"},
                content_type="application/json",
                headers=key,
            ).json()
            assert (decision["reason"], decision["profile"]["slug"]) == ("ranked", eligible[0])
            assert decision["fallback"][-1] == slug(str(sla["default"]))


def test_a_tenant_with_too_little_telemetry_borrows_and_says_so(client: Client, loaded: datetime) -> None:
    key = factories.key(tenants=())
    for persona in PERSONAS:
        body = {"tenant": "cumulus", "persona": persona, "conversation_id": "c-1"}
        decision = client.post(
            "/api/v1/selections", body, content_type="application/json", headers=key
        ).json()
        assert decision["reason"] == "ranked"
        assert "borrowed from all tenants" in decision["explanation"]


def test_the_demo_timeline_holds_each_recorded_call_once_in_any_24_hours() -> None:
    from demo import timeline

    for start in (datetime(2026, 11, 20, 3, 14, 15, 926_535, tzinfo=UTC), datetime(2027, 2, 28, tzinfo=UTC)):
        day = list(timeline.events(start, start + timedelta(hours=24)))
        assert len(day) == len(timeline.cycle())
        assert len({event["event_id"] for event in day}) == len(day)
        halves = [
            *timeline.events(start, start + timedelta(hours=11)),
            *timeline.events(start + timedelta(hours=11), start + timedelta(hours=24)),
        ]
        assert halves == day
