"""A scope in the database with scores, a flag and a key; a test names only what matters to it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.utils import timezone

from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import Flag
from routing.bundle import forget_bundle
from routing.snapshots import Windows, read_catalogue, score_all, store_snapshot
from telemetry.totals import Totals
from tests import factories
from tests.routing.cases import totals

ASKED = {"tenant": "aurora", "persona": "essayist", "conversation_id": "c-1"}


def scope(**persona: Any) -> None:
    """aurora x essayist on profiles incumbent (the default) and cheap."""
    factories.tenant()
    factories.persona(default_profile=factories.profile("incumbent"), **persona)
    factories.profile("cheap")


def ranked_scope(**persona: Any) -> None:
    """The same with the flag on and scores by which cheap wins."""
    scope(**persona)
    flip(100)
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"))


def flip(percent: int) -> None:
    Flag.objects.filter(name=AUTO_MODEL_SELECTION).update(rollout_percent=percent)
    forget_bundle()


def snapshot(age: timedelta = timedelta(0), **profiles: Totals) -> None:
    """Store scores of the scope as the snapshot task does, from these totals of the last 24 hours."""
    now = timezone.now()
    day = {slug.replace("_", "-"): found for slug, found in profiles.items()}
    aged = {slug: totals_at(found, now - age) for slug, found in day.items()}
    by_scope = {("aurora", "essayist"): aged, (None, "essayist"): aged}
    store_snapshot(score_all(read_catalogue(), Windows(dict(by_scope), {})), 1, now)
    forget_bundle()


def totals_at(found: Totals, at: Any) -> Totals:
    return replace(found, last_event_at=at)
