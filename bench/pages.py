"""The Command Center's first page, with many scopes."""

import time
from typing import Any

from bench.overrides import _scores
from bench.table import Line


def overview(engine: str, scopes: int, rounds: int) -> list[Line]:
    """The overview of ``scopes`` scopes: when the policy or the clock moved on, so that every card is made anew, and
    right after that."""
    from django.contrib.auth.models import User
    from django.test import Client

    from commandcenter import cards
    from routing.bundle import forget_bundle
    from tests.crowd import PERSONAS, crowd

    crowd(0, scopes // PERSONAS)
    _scores()
    forget_bundle()
    root, _ = User.objects.get_or_create(username="bench", is_superuser=True, is_staff=True)
    client = Client()
    client.force_login(root)

    def ask() -> float:
        began = time.perf_counter()
        answer = client.get("/admin/center/")
        taken = time.perf_counter() - began
        assert answer.status_code == 200
        assert b"scopes:" in answer.content
        return taken * 1000

    ask()  # the bundle and templates are there in a process that serves
    anew: list[float] = []
    again: list[float] = []
    for _ in range(rounds):
        kept: Any = cards._kept
        kept.clear()
        anew.append(ask())
        again.append(ask())
    return [
        Line(f"{engine}: overview of {scopes:,} scopes, cards made anew", "ms", tuple(anew), 250),
        Line(f"{engine}: overview of {scopes:,} scopes, cards kept", "ms", tuple(again), 250),
    ]
