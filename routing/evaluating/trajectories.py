"""How a conversation would have gone had chance fallen otherwise: the chances of each of its decisions. Pure.

A conversation's hashes are drawn once, so its last profile tells how they fell: who has had the default was perhaps
held out. A decision's own propensity takes the last profile as given and the hashes as fresh, and to divide by it is
right for a conversation's first decision alone. Here all of them are followed, for each part of the hashes' cube that
goes another way, with the last profile that this part would have had: under the logged policy, or under another one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from routing.decision import SelectionProblem, SelectionRequest
from routing.engine import Bundle, outcome
from routing.evaluating.chances import Split, chances
from routing.flag_state import FlagState
from telemetry.freshness_state import state


class Side(Enum):
    """Where a conversation's hashes put it."""

    OFF = "off"
    HELD = "held"
    EXPLORING = "exploring"
    FREE = "free"


@dataclass(frozen=True)
class Policy:
    """A bundle for one scope, taken apart by sides."""

    bundle: Bundle
    tenant: str
    persona: str

    @property
    def shares(self) -> tuple[float, float, float]:
        """On the treated side of the flag; held out of those; exploring of the rest."""
        persona = self.bundle.personas[self.persona]
        on = self.bundle.flag.share(self.tenant, self.persona)
        return on, persona.holdout_share, persona.exploration_share

    @cached_property
    def _by_side(self) -> Mapping[Side, Bundle]:
        return {
            Side.OFF: self._with(False, 0.0, 0.0),
            Side.HELD: self._with(True, 1.0, 0.0),
            Side.EXPLORING: self._with(True, 0.0, 1.0),
            Side.FREE: self._with(True, 0.0, 0.0),
        }

    def _with(self, on: bool, held: float, exploring: float) -> Bundle:
        persona = replace(self.bundle.personas[self.persona], holdout_share=held, exploration_share=exploring)
        made = replace(
            self.bundle,
            flag=FlagState(everyone=on),
            personas={**self.bundle.personas, self.persona: persona},
        )
        made.keep_views_of(self.bundle)
        return made

    @cached_property
    def _known(self) -> dict[tuple[object, ...], Split]:
        return {}

    def given(self, side: Side, request: SelectionRequest) -> Split:
        """What conversations of this side get; only exploring leaves something to chance there. Worked out once for
        all requests that differ in nothing but their conversation, and a time that changes nothing."""
        scores = self.bundle.scores(self.tenant, self.persona)
        fresh = state(scores.as_of if scores else None, request.at)
        overrides = self.bundle.standing.of(self.tenant, self.persona, request.task, request.at)
        standing = tuple(override.id for override in overrides)
        bars = self.bundle.standing.circuits.bars(request.at)
        key = (side, fresh, standing, bars, request.task, request.exclude, request.last_profile)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._given(side, request)
        return found

    def _given(self, side: Side, request: SelectionRequest) -> Split:
        bundle = self._by_side[side]
        try:
            # Who probes is drawn, too: taken as drawn anew each time, since that is for minutes of few conversations.
            if side is Side.EXPLORING or bundle.standing.circuits.bars(request.at).else_:
                return chances(bundle, request)
            return Split({outcome(bundle, request).profile: 1.0}, 0.0)
        except SelectionProblem:
            return Split({}, 1.0)


_Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Part:
    """Conversations whose hashes lie in these spans, which were on one side at each decision so far; ``last`` is how
    they are split by their last profile (None: they have had none)."""

    flag: _Span = (0.0, 1.0)
    holdout: _Span = (0.0, 1.0)
    explore: _Span = (0.0, 1.0)
    last: tuple[tuple[str | None, float], ...] = ((None, 1.0),)

    @property
    def size(self) -> float:
        """The share of all conversations."""
        return _length(self.flag) * _length(self.holdout) * _length(self.explore)


#: How a conversation begins.
BEGINNING: tuple[Part, ...] = (Part(),)


def step(
    parts: tuple[Part, ...], policy: Policy, request: SelectionRequest
) -> tuple[Split, tuple[Part, ...]]:
    """The chances of a conversation's next decision, and where its parts are after it. The request's last profile is
    passed over, for each part has its own; but when it is None, nobody's was known."""
    total: dict[str, float] = {}
    refused = 0.0
    after = []
    for part, side in _sides(parts, policy.shares):
        last = part.last if request.last_profile is not None else ((None, 1.0),)
        moved: dict[str | None, float] = {}
        for profile, share in last:
            split = policy.given(side, request._replace(last_profile=profile))
            for slug, chance in split.profiles.items():
                moved[slug] = moved.get(slug, 0.0) + share * chance
                total[slug] = total.get(slug, 0.0) + part.size * share * chance
            if split.refused:
                moved[profile] = moved.get(profile, 0.0) + share * split.refused
                refused += part.size * share * split.refused
        after.append(replace(part, last=tuple(moved.items())))
    return Split(total, refused), tuple(after)


def _sides(parts: tuple[Part, ...], shares: tuple[float, float, float]) -> Iterator[tuple[Part, Side]]:
    on, held, exploring = shares
    for part in parts:
        treated, off = _cut(part.flag, on)
        if off:
            yield replace(part, flag=off), Side.OFF
        if not treated:
            continue
        part = replace(part, flag=treated)
        control, free = _cut(part.holdout, held)
        if control:
            yield replace(part, holdout=control), Side.HELD
        if not free:
            continue
        part = replace(part, holdout=free)
        tries, stays = _cut(part.explore, exploring)
        if tries:
            yield replace(part, explore=tries), Side.EXPLORING
        if stays:
            yield replace(part, explore=stays), Side.FREE


def _cut(span: _Span, at: float) -> tuple[_Span | None, _Span | None]:
    """What lies below, and what lies above."""
    low, high = span
    return ((low, min(high, at)) if low < at else None), ((max(low, at), high) if high > at else None)


def _length(span: _Span) -> float:
    return span[1] - span[0]
