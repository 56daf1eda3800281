"""What decide() takes, as tenants, overrides and candidates become more."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from statistics import median
from typing import Any

from bench.deciding import _case
from bench.growth.curves import FLAT, LINEAR, Curve

_DECISIONS = 4_000
_FIRST = 200
TENANTS = (10, 100, 1_000, 5_000)
OVERRIDES = (0, 1_000, 10_000, 100_000)
CANDIDATES = (4, 20, 100)


def curves(rounds: int) -> Iterator[Curve]:
    """Medians, us. Sizes take turns in each round, so that a mood of the machine meets them all; of the rounds the
    median."""
    yield _curve(rounds, "tenants", FLAT, {n: _bundle(n, 0, 20) for n in TENANTS})
    yield _curve(rounds, "overrides", FLAT, {n: _bundle(5_000, n, 20) for n in OVERRIDES})
    yield _curve(rounds, "candidates", LINEAR, {n: _bundle(10, 0, n) for n in CANDIDATES})
    # A snapshot's first decision for each scope, which works out what the others find.
    yield _curve(rounds, "candidates", LINEAR, {n: _bundle(10, 0, n) for n in CANDIDATES}, is_first=True)


def _curve(rounds: int, axis: str, most: float, bundles: dict[int, Any], *, is_first: bool = False) -> Curve:
    asks = {size: _asker(bundle, is_first=is_first) for size, bundle in bundles.items()}
    found: dict[int, list[float]] = {size: [] for size in asks}
    for ask in asks.values():
        ask()
    for _ in range(rounds):
        for size, ask in asks.items():
            found[size].append(ask())
    name = "decide() of a scope not asked for before, p50" if is_first else "decide() p50"
    return Curve(name, axis, "us", tuple((n, median(costs)) for n, costs in found.items()), most)


def _bundle(tenants: int, overrides: int, profiles: int) -> Any:
    from routing.engine import (
        Bundle,
        BundlePersona,
        BundleProfile,
        BundleSnapshot,
        BundleTenant,
        FlagState,
        Standing,
        StandingOverride,
    )
    from routing.snapshots import score_all
    from routing.standing import Kind

    now = datetime.now(UTC)
    catalogue, windows = _case(10, profiles, now)
    scored = score_all(catalogue, windows)
    kinds = (Kind.LOCK, Kind.PREFER, Kind.EXCLUDE)
    return Bundle(
        version="1.1",
        tenants={f"tenant-{n}": BundleTenant(f"tenant-{n}", True) for n in range(tenants)},
        personas={f"persona-{n}": BundlePersona(f"persona-{n}", True, "profile-0") for n in range(4)},
        scope_defaults={},
        profiles={
            name: BundleProfile(name, "openai", name, "https://api.example.com", "llm", True, 1000)
            for name in catalogue.profiles
        },
        enabled_tiers=frozenset({"llm"}),
        flag=FlagState(everyone=None, percent=99.0, salt="s"),
        snapshot=BundleSnapshot("1", now, scored.scopes, scored.persona_scopes),
        standing=Standing(
            # Of another task than is asked for: looked at, and passed over, so that all sizes decide alike.
            tuple(
                StandingOverride(
                    n + 1,
                    kinds[n % 3],
                    f"profile-{n % profiles}",
                    f"tenant-{n % tenants}",
                    f"persona-{n // tenants % 4}",
                    "other",
                )
                for n in range(overrides)
            )
        ),
    )


def _asker(bundle: Any, *, is_first: bool) -> Callable[[], float]:
    """Asks for the first ten tenants in turn, another conversation each time: what more tenants cost beyond the first
    look at each one is the question."""
    from routing.engine import SelectionRequest, decide

    now = datetime.now(UTC)
    tenants = list(bundle.tenants)
    asked = tenants[:: max(len(tenants) // 10, 1)][:10]

    def ask() -> float:
        taken = []
        for number in range(_FIRST if is_first else _DECISIONS):
            if is_first:
                bundle.views.clear()
            request = SelectionRequest(asked[number % 10], "persona-1", f"conversation-{number}", now)
            began = time.perf_counter()
            decide(bundle, request)
            taken.append((time.perf_counter() - began) * 1e6)
        return median(taken)

    return ask
