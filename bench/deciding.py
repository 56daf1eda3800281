"""Scoring of many scopes, the engine by itself and in a worker, and the selection endpoint in one thread."""

import hashlib
import random
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.table import Line, timed

ENGINE_PROFILES = (4, 20, 100)
_DECISIONS = 5_000


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
    """decide() at 4, 20 and 100 profiles, another conversation each time; sizes take turns in each round."""
    from routing.engine import SelectionRequest, decide

    bundles = {profiles: bundle_of(profiles) for profiles in ENGINE_PROFILES}
    now = datetime.now(UTC)

    def once(bundle: Any, number: int) -> float:
        request = SelectionRequest("tenant-0", "persona-0", f"conversation-{number}", now)
        began = time.perf_counter()
        decide(bundle, request)
        return time.perf_counter() - began

    found: dict[int, list[tuple[float, float]]] = {profiles: [] for profiles in bundles}
    for _ in range(rounds):
        for profiles, bundle in bundles.items():
            found[profiles].append(_quantiles(once(bundle, number) for number in range(_DECISIONS)))
    return [
        line
        for profiles, of in found.items()
        for line in _lines(f"decide() at {profiles} profiles", of, 50 if profiles == 20 else None)
    ]


def local(folder: Path, rounds: int) -> list[Line]:
    """A worker that decides by the bundle, from the call to the profile."""
    with deciding_worker(bundle_of(20), folder / "worker") as client:

        def once(number: int) -> float:
            began = time.perf_counter()
            selected = client.select("tenant-0", "persona-0", f"conversation-{number}")
            taken = time.perf_counter() - began
            assert selected.source == "local", selected
            return taken

        found = [
            _quantiles(once(start + number) for number in range(_DECISIONS))
            for start in range(0, rounds * _DECISIONS, _DECISIONS)
        ]
    return _lines("local evaluation in a worker, 20 profiles", found, 60)


@contextmanager
def deciding_worker(bundle: Any, folder: Path) -> Iterator[Any]:
    """A worker's client that decides by the bundle (WORKER_EVALUATION=local), which came over HTTP, while its other
    thread writes the decisions to the outbox in the folder."""
    from tests.worker.api import serving
    from worker.client import SelectionClient
    from worker.outbox import Outbox
    from worker.settings import Evaluation, Profile, load_settings

    default = Profile(slug="house", provider="openai", model="house", base_url="http://127.0.0.1:9/v1")
    with serving(bundle) as api:
        settings = load_settings(
            api_url=api.url,
            api_key=api.key,
            evaluation=Evaluation.LOCAL,
            default_profile=default,
            state_dir=folder,
        )
        with closing(Outbox(settings.state_dir)) as outbox, SelectionClient(settings, outbox) as client:
            if not client.wait_ready(10):
                raise RuntimeError("the worker got no bundle")
            yield client


def _quantiles(seconds: Iterable[float]) -> tuple[float, float]:
    """p50 and p99, us."""
    taken = sorted(seconds)
    return taken[len(taken) // 2] * 1e6, taken[len(taken) * 99 // 100] * 1e6


def _lines(name: str, found: list[tuple[float, float]], target: float | None) -> list[Line]:
    medians, tails = zip(*found, strict=True)
    return [Line(f"{name}, p50", "us", medians, target), Line(f"{name}, p99", "us", tails)]


def bundle_of(profiles: int) -> Any:
    """One scope, its profiles scored, the flag on for nearly all."""
    from routing.engine import Bundle, BundlePersona, BundleProfile, BundleSnapshot, BundleTenant, FlagState
    from routing.snapshots import score_all

    now = datetime.now(UTC)
    catalogue, windows = _case(1, profiles, now)
    scored = score_all(catalogue, windows)
    return Bundle(
        version="1.1",
        tenants={"tenant-0": BundleTenant("tenant-0", True)},
        personas={"persona-0": BundlePersona("persona-0", True, "profile-0")},
        scope_defaults={},
        profiles={
            name: BundleProfile(name, "openai", name, "https://api.example.com", "llm", True, 1000)
            for name in catalogue.profiles
        },
        enabled_tiers=frozenset({"llm"}),
        flag=FlagState(everyone=None, percent=99.0, salt="s"),
        snapshot=BundleSnapshot("1", now, scored.scopes, scored.persona_scopes),
    )


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
