"""What building a policy bundle and a snapshot takes, as scopes become more."""

from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import median
from typing import Any

from bench.growth import world
from bench.growth.curves import FLAT, LINEAR, Curve
from bench.table import timed

SCOPES = (10, 1_000, 10_000)
OVERRIDES = 100_000
TENANTS = 5_000
_LONG = 10_000


def curves(rounds: int, scopes: tuple[int, ...] = SCOPES, overrides: int = OVERRIDES) -> Iterator[Curve]:
    """Seconds, medians of ``rounds``, in this process's database."""
    from routing.bundle import build
    from tests.crowd import crowd

    crowd(overrides, TENANTS)
    found: dict[str, list[tuple[float, float]]] = {}
    for size in scopes:
        # The largest takes minutes, beside which what else goes on is little.
        rounds = rounds if size < _LONG else 1
        totals = world.windows(size)
        found.setdefault("snapshot", []).append((size, _time(lambda t=totals: _snapshot(t), rounds)))
        built: list[Any] = []
        found.setdefault("first", []).append((size, _time(lambda b=built: b.append(build(None)), rounds)))
        after_snapshot, after_override = [], []
        for number in range(rounds):
            _snapshot(totals)
            after_snapshot.append(_time(lambda b=built: b.append(build(b[-1])), 1))
            _change(number)
            after_override.append(_time(lambda b=built: b.append(build(b[-1])), 1))
            del built[:-1]
        found.setdefault("after_snapshot", []).append((size, median(after_snapshot)))
        found.setdefault("after_override", []).append((size, median(after_override)))
    of = f"{overrides:,} overrides"
    for key, name, most in (
        ("snapshot", "snapshot: scored and stored", LINEAR),
        ("first", f"bundle with {of}, from nothing", LINEAR),
        ("after_snapshot", f"bundle with {of}, after a new snapshot", LINEAR),
        ("after_override", f"bundle with {of}, after one override", FLAT),
    ):
        yield Curve(name, "active scopes", "s", tuple(found[key]), most)


def _time(work: Any, rounds: int) -> float:
    return median(timed(work, rounds))


def _snapshot(totals: Any) -> None:
    from routing.snapshots import read_catalogue, score_all, store_snapshot

    catalogue = read_catalogue()
    store_snapshot(score_all(catalogue, totals), catalogue.version, datetime.now(UTC))


def _change(number: int) -> None:
    from overrides.models import Override

    override = Override.objects.order_by("pk").first()
    assert override is not None
    override.task = f"changed-{number}-{datetime.now(UTC):%H%M%S%f}"
    override.save()
