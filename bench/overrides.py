"""Selections and the policy bundle under very many overrides, over 5,000 tenants."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from bench.deciding import _totals
from bench.table import Line, timed

TENANTS = 5_000


def overrides(most: int, requests: int, rounds: int) -> list[Line]:
    """Growth of the bundle to ``most`` overrides; selections without any, with all, and during rebuilds."""
    from overrides.models import Override
    from routing import bundle
    from tests.crowd import crowd

    crowd(0, TENANTS)
    _scores()
    ask = _asker(requests)
    keepers = []
    lines = []
    for count in (0, most // 100, most // 10, most):
        crowd(count - Override.objects.count(), TENANTS)
        lines += _bundle(count, rounds) if count else []
        # One that never looks again, so that each can be asked in turn.
        keepers.append(bundle.BundleKeeper(float("inf")))
        keepers[-1].current()

    def asked_of(keeper: Any) -> list[float]:
        bundle._keeper = keeper
        return ask()

    asked_of(keepers[-1])
    none, many, during = [], [], []
    for _ in range(rounds):
        none.append(asked_of(keepers[0]))
        many.append(asked_of(keepers[-1]))
        with rebuilding() as rebuilt:
            during.append(ask())
        assert rebuilt, "there was no rebuild to measure beside"
    effect = tuple(_until_in_effect() for _ in range(rounds))
    lines.append(Line(f"another process's change in effect, {most:,} overrides", "s", effect, 5))
    return [*lines, *_selections(most, none, many, during)]


def _until_in_effect() -> float:
    """Seconds from a change by another process to a bundle that has it, asked for all the time as a busy process
    would."""
    from django.conf import settings
    from django.db.models import F

    from catalog.versions import PolicyVersion
    from routing.bundle import BundleKeeper, apart

    keeper = BundleKeeper(settings.BUNDLE_REFRESH_SECONDS, run=apart)
    before = keeper.current().version
    # By itself, without what tells the keepers of this process.
    PolicyVersion.objects.update(number=F("number") + 1)
    began = time.perf_counter()
    while keeper.current().version == before:
        time.sleep(0.01)
    return time.perf_counter() - began


def _bundle(count: int, rounds: int) -> list[Line]:
    from overrides.models import Override
    from routing.bundle import build
    from routing.models import PolicyRevision

    built: Any = build(None)
    first = timed(lambda: build(None), rounds)
    again, stored = [], []
    for number in range(rounds):
        override = Override.objects.filter(pk__gt=count // 2).order_by("pk").first()
        assert override is not None
        override.task = f"changed-{number}"
        override.save()
        kept = _archived(PolicyRevision)
        began = time.perf_counter()
        built = build(built)
        again.append(time.perf_counter() - began)
        stored.append((_archived(PolicyRevision) - kept) / 1000)
    name = f"{count:,} overrides"
    return [
        Line(f"bundle of {name}, from nothing", "s", first),
        Line(f"bundle of {name}, after one change", "s", tuple(again), 1),
        Line(f"archived by one change among {name}", "kB", tuple(stored)),
    ]


def _selections(
    most: int, none: list[list[float]], many: list[list[float]], during: list[list[float]]
) -> list[Line]:
    def p(share: float, of: list[float]) -> float:
        return sorted(of)[int(len(of) * share)]

    # Those that were asked next to each other, when the machine was in the same mood.
    def ratio(share: float, of: list[list[float]]) -> tuple[float, ...]:
        return tuple(p(share, one) / p(share, base) for one, base in zip(of, none, strict=True))

    told = f"{most:,} overrides over none"
    return [
        Line("selection without overrides, p50", "ms", tuple(p(0.5, one) * 1000 for one in none)),
        Line(f"selection p50, {told}", "x", ratio(0.5, many), 1.1),
        Line(f"selection p99, {told}", "x", ratio(0.99, many)),
        Line(f"while rebuilt without pause: p50, {told}", "x", ratio(0.5, during)),
        Line(f"while rebuilt without pause: p99, {told}", "x", ratio(0.99, during)),
        Line("while rebuilt without pause: longest", "ms", tuple(max(one) * 1000 for one in during)),
    ]


@contextmanager
def rebuilding() -> Iterator[list[int]]:
    """Another thread rebuilds this process's bundle over and over, each time after a change."""
    from django.db import connections

    from catalog.versions import bump_version
    from routing import bundle
    from routing.courtesy import giving_way

    ended, rebuilt = threading.Event(), []

    def rebuild() -> None:
        try:
            with giving_way():
                built: Any = bundle.build(None)
            while not ended.is_set():
                bump_version()
                with giving_way():
                    built = bundle.build(built)
                rebuilt.append(built.version.policy)
        finally:
            connections.close_all()

    thread = threading.Thread(target=rebuild)
    thread.start()
    try:
        yield rebuilt
    finally:
        ended.set()
        thread.join()


def _scores() -> None:
    """Scores of each persona, which all tenants borrow."""
    import random

    from django.utils import timezone

    from routing.snapshots import Windows, read_catalogue, score_all, store_snapshot

    chance, catalogue, now = random.Random(1), read_catalogue(), datetime.now(UTC)
    totals = {profile: _totals(chance, now) for profile in sorted(catalogue.profiles)}
    windows: Any = Windows({(None, persona): totals for persona in catalogue.rules}, {})
    store_snapshot(score_all(catalogue, windows), catalogue.version, timezone.now())


def _asker(requests: int) -> Callable[[], list[float]]:
    """A function that asks for so many tenants' profiles one after the other, and gives each one's seconds."""
    from django.test import Client

    from catalog.models import ServiceKey

    _, key = ServiceKey.objects.create_key(name="bench", verbs=["select"], all_tenants=True)
    client = Client(headers={"Authorization": f"Api-Key {key}"})

    def ask() -> list[float]:
        taken = []
        for number in range(requests):
            body = {"tenant": f"tenant-{number}", "persona": "persona-1", "conversation_id": "c"}
            began = time.perf_counter()
            answer = client.post("/api/v1/selections", body, content_type="application/json")
            taken.append(time.perf_counter() - began)
            assert answer.status_code == 200, answer.content
        return taken

    return ask


def _archived(revisions: Any) -> int:
    return sum(len(payload) for payload in revisions.objects.values_list("payload", flat=True))
