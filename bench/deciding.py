"""Scoring of many scopes, the engine by itself, and the selection endpoint in one thread."""

import hashlib
import random
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from bench.table import Line, timed


def _totals(chance: random.Random, now: datetime) -> Any:
    from telemetry.totals import Totals

    latency = [0] * 130
    for _ in range(20):
        latency[chance.randrange(80, 130)] += 12
    n = sum(latency)
    successes = int(n * chance.uniform(0.6, 0.98))
    return Totals(
        requests=n,
        successes=successes,
        prompt_tokens=n * 300,
        completion_tokens=n * 500,
        priced=n,
        priced_tokens=n * 800,
        priced_successes=successes,
        cost_usd=Decimal(chance.randrange(1, 100)) * n / 1000,
        latency=tuple(latency),
        last_event_at=now,
    )


def _case(scopes: int, profiles: int, now: datetime) -> tuple[Any, Any]:
    from routing.scoring import ScoringRules, Sla
    from routing.snapshots import ScoringCatalogue, Windows

    chance = random.Random(1)
    names = [f"profile-{number}" for number in range(profiles)]
    samples = [{name: _totals(chance, now) for name in names} for _ in range(100)]
    day: dict[tuple[str | None, str], Any] = {
        (f"tenant-{number}", f"persona-{number % 4}"): samples[number % 100] for number in range(scopes)
    }
    tenants = frozenset(str(tenant) for tenant, _ in day)
    day |= {(None, f"persona-{number}"): samples[number] for number in range(4)}
    catalogue = ScoringCatalogue(
        version=1,
        rules={f"persona-{number}": ScoringRules(Sla(0.6, 60_000, 0.05)) for number in range(4)},
        incumbents={f"persona-{number}": "profile-0" for number in range(4)},
        scope_incumbents={},
        profiles=frozenset(names),
        tenants=tenants,
    )
    windows: Any = Windows(day, {})
    return catalogue, windows


def scoring(scopes: int, rounds: int) -> list[Line]:
    from routing.snapshots import score_all

    catalogue, windows = _case(scopes, 10, datetime.now(UTC))
    seconds = timed(lambda: score_all(catalogue, windows), rounds)
    return [Line(f"scoring, {scopes:,} scopes x 10 profiles", "s", seconds, 10 * scopes / 10_000)]


def engine(rounds: int) -> list[Line]:
    """decide() at 20 profiles, another conversation each time."""
    from routing.engine import (
        Bundle,
        BundlePersona,
        BundleProfile,
        BundleSnapshot,
        BundleTenant,
        FlagState,
        SelectionRequest,
        decide,
    )
    from routing.snapshots import score_all

    now = datetime.now(UTC)
    catalogue, windows = _case(1, 20, now)
    scored = score_all(catalogue, windows)
    profiles = {
        name: BundleProfile(name, "openai", name, "https://api.example.com", "llm", True, 1000)
        for name in catalogue.profiles
    }
    bundle = Bundle(
        version="1.1",
        tenants={"tenant-0": BundleTenant("tenant-0", True)},
        personas={"persona-0": BundlePersona("persona-0", True, "profile-0")},
        scope_defaults={},
        profiles=profiles,
        enabled_tiers=frozenset({"llm"}),
        flag=FlagState(everyone=None, percent=99.0, salt="s"),
        snapshot=BundleSnapshot("1", now, scored.scopes, scored.persona_scopes),
    )
    medians, tails = [], []
    for _ in range(rounds):
        taken = []
        for number in range(5000):
            request = SelectionRequest("tenant-0", "persona-0", f"conversation-{number}", now)
            began = time.perf_counter()
            decide(bundle, request)
            taken.append((time.perf_counter() - began) * 1e6)
        taken.sort()
        medians.append(taken[2500])
        tails.append(taken[4950])
    return [
        Line("decide() at 20 profiles, p50", "us", tuple(medians), 50),
        Line("decide() at 20 profiles, p99", "us", tuple(tails)),
    ]


def endpoint(requests: int, rounds: int) -> list[Line]:
    """POST /api/v1/selections through Django's test client, which itself costs a good part of it."""
    ask = asking(requests)
    ask()
    rates = tuple(requests / seconds for seconds in timed(ask, rounds))
    return [Line("selection endpoint, 14 profiles, test client, one thread", "rps", rates)]


def asking(requests: int) -> Callable[[], None]:
    """Makes the demo's catalogue, with scores, and gives what asks the endpoint so many times."""
    from django.test import Client

    from catalog.models import ServiceKey
    from demo.catalogue import load_catalogue, turn_on
    from routing.engine import canonical_json
    from routing.models import ScoreSnapshot
    from routing.snapshots import Windows, read_catalogue, score_all

    load_catalogue()
    turn_on()
    catalogue, now = read_catalogue(), datetime.now(UTC)
    chance = random.Random(1)
    found = {profile: _totals(chance, now) for profile in sorted(catalogue.profiles)}
    windows: Any = Windows({("aurora", "essayist"): found}, {})
    payload = canonical_json(score_all(catalogue, windows).to_dict(now))
    checksum = hashlib.sha256(payload).hexdigest()
    ScoreSnapshot.objects.create(
        created_at=now, policy_version=1, scopes=1, checksum=checksum, payload=zlib.compress(payload)
    )
    _, key = ServiceKey.objects.create_key(name="bench", verbs=["select"], all_tenants=True)
    client = Client(headers={"Authorization": f"Api-Key {key}"})

    def ask() -> None:
        for number in range(requests):
            body = {"tenant": "aurora", "persona": "essayist", "conversation_id": f"c-{number}"}
            answer = client.post("/api/v1/selections", body, content_type="application/json")
            assert answer.status_code == 200, answer.content

    return ask
