"""Guarded rollouts as their page shows them: the ladder of steps, and what is proved of each measure, drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q

from catalog.access import Caller
from commandcenter.rights import missing
from routing.guarding.models import Rollout
from routing.guarding.services import plan_of
from routing.guarding.telling import waits_for
from routing.rollout.evidence import Measure

#: Of the drawing that a measure's bounds have.
WIDTH, HEIGHT, EDGE = 240, 20, 4
NAMES = {
    Measure.SUCCESS: "fall of success",
    Measure.SAFETY: "rise of safety violations",
    Measure.ESCALATION: "rise of escalations",
    Measure.SLOW: "rise of answers slower than the SLA",
}
STATES = {"non_inferior": "no worse", "unproven": "not proven yet", "regression": "proved worse"}
TONES = {"non_inferior": "good", "unproven": "quiet", "regression": "bad"}
#: What can be done in which state, with what its button says.
ACTS = {
    "pause": "Pause…",
    "resume": "Resume…",
    "roll-back": "Roll back…",
    "acknowledge": "Acknowledge…",
    "cancel": "Cancel…",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """Bounds, estimate (empty: unknown), zero, tolerance and margin on the x axis of ``WIDTH``, and in words."""

    lower: str
    upper: str
    estimate: str
    zero: str
    tolerance: str
    margin: str
    text: str


@dataclass(frozen=True, slots=True)
class Proved:
    """One measure: the harm is proved to lie between the bounds (points)."""

    name: str
    words: str
    tone: str
    interval: str
    margin: str
    bar: Bar


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the plan; ``state``: done, now or ahead."""

    percent: float
    state: str


@dataclass(frozen=True, slots=True)
class Card:
    """An unfinished rollout. ``acts``: slug, label, and whether it is the dangerous one; ``lacking``: what one lacks to
    do them (None: nothing). ``judged_at``: when its evidence was last read (None: not yet)."""

    row: Rollout
    ladder: list[Rung]
    step: int
    steps: int
    treated: int | None
    control: int | None
    least: int
    judged_at: datetime | None
    proved: list[Proved]
    waits_for: list[str]
    acts: list[tuple[str, str, bool]]
    lacking: str | None


def card_of(row: Rollout, who: Caller) -> Card:
    plan, look = plan_of(row), dict(row.look or {})
    verdict: Mapping[str, Any] = look.get("verdict") or {}
    return Card(
        row=row,
        ladder=[Rung(percent, _rung(row, index)) for index, percent in enumerate(plan.steps)],
        step=row.step + 1,
        steps=len(plan.steps),
        treated=verdict.get("treated"),
        control=verdict.get("control"),
        least=plan.min_conversations,
        judged_at=datetime.fromisoformat(look["at"]) if look.get("at") else None,
        proved=[_proved(Measure(name), bound) for name, bound in verdict.get("bounds", {}).items()],
        waits_for=waits_for(row),
        acts=[(act, ACTS[act], act == "roll-back") for act in acts_of(row)],
        lacking=missing(who, "rollout", row.tenant.slug),
    )


def acts_of(row: Rollout) -> list[str]:
    """What a person can do with it as it is."""
    if row.state == Rollout.State.RUNNING:
        return ["pause", "roll-back", "cancel"]
    if row.state == Rollout.State.PAUSED:
        return ["resume", "roll-back", "cancel"]
    if row.state == Rollout.State.ROLLED_BACK:
        return ["acknowledge", "resume", "cancel"] if row.by_itself else ["resume", "cancel"]
    return []


def _rung(row: Rollout, index: int) -> str:
    if index < row.step or row.state == Rollout.State.COMPLETED:
        return "done"
    return "now" if index == row.step and row.state != Rollout.State.ROLLED_BACK else "ahead"


def _proved(measure: Measure, bound: Mapping[str, Any]) -> Proved:
    lower, upper, margin = bound["lower"], bound["upper"], bound["margin"]
    interval = f"{_points(lower)} to {_points(upper)}"
    words, name = STATES[bound["state"]], NAMES[measure]
    text = f"{name} between {interval}, margin {_points(margin)}: {words}"
    return Proved(name, words, TONES[bound["state"]], interval, _points(margin), _bar(bound, text))


def _points(share: float) -> str:
    """Of a share, in points; what is known of nothing is said so."""
    if share <= -1:
        return "anything"
    return "anything" if share >= 1 else f"{share * 100:+.2f}".rstrip("0").rstrip(".") + " pt"


def _bar(bound: Mapping[str, Any], text: str) -> Bar:
    """Drawn to a scale that the margin sets, so that whether the bar keeps below it is what one sees."""
    reach = 2 * float(bound["margin"])

    def x(value: float) -> str:
        share = min(max(value / reach, -1.0), 1.0)
        return f"{WIDTH / 2 + share * (WIDTH / 2 - EDGE):.1f}"

    estimate = bound["estimate"]
    return Bar(
        x(bound["lower"]),
        x(bound["upper"]),
        "" if estimate is None else x(estimate),
        x(0.0),
        x(bound["tolerance"]),
        x(bound["margin"]),
        text,
    )


def steering(tenant: str, persona: str) -> list[Rollout]:
    """Unfinished ones of a scope, its whole tenant's included; for who may see the tenant."""
    rows = Rollout.objects.filter(tenant__slug=tenant, state__in=Rollout.UNFINISHED)
    own = rows.filter(Q(persona=None) | Q(persona__slug=persona))
    return list(own.select_related("tenant", "persona").order_by("pk"))
