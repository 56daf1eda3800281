"""A catalogue of a given size with scores, made in bulk, for what is measured to read."""

import random
from datetime import UTC, datetime
from typing import Any

from bench.deciding import _totals


def scored(scopes: int) -> Any:
    """Scores of ``scopes`` scopes, tenant by tenant as ``tests.crowd`` names them, and of each persona over
    all tenants. A hundred kinds of totals take turns. Gives a ``routing.snapshots.Scored``."""
    from routing.snapshots import read_catalogue, score_all

    return score_all(read_catalogue(), windows(scopes))


def windows(scopes: int) -> Any:
    """The totals that ``scored`` scores. Raises ValueError for more scopes than the catalogue has."""
    from routing.snapshots import Windows, read_catalogue

    catalogue, chance, now = read_catalogue(), random.Random(1), datetime.now(UTC)
    personas = sorted(catalogue.rules)
    if scopes > len(catalogue.tenants) * len(personas):
        raise ValueError(f"{scopes} scopes are more than {len(catalogue.tenants)} tenants have")
    kinds = [{name: _totals(chance, now) for name in sorted(catalogue.profiles)} for _ in range(100)]
    day: dict[tuple[str | None, str], Any] = {
        (f"tenant-{number // len(personas)}", personas[number % len(personas)]): kinds[number % 100]
        for number in range(scopes)
    }
    return Windows(day | {(None, persona): kinds[n] for n, persona in enumerate(personas)}, {})


def store(scopes: int) -> Any:
    """Score and store: the snapshot that steers from now on."""
    from routing.snapshots import store_snapshot

    return store_snapshot(scored(scopes), 1, datetime.now(UTC))
