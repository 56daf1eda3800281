"""What a hypothesis comes to: each scope's winner, dollars per day, and what of it would be felt now. Pure.

The winner is what rule ``ranked`` gives, or the default when nobody is proved to meet the SLA. Both are ``outcome``'s:
nothing here can drift from the engine.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from routing.comparing import Key, Side, look, typical
from routing.engine import Bundle, Reason, ScopeScores
from routing.gates import Verdict
from routing.scoring import Scorecard
from routing.view import glance_at
from routing.whatif import Hypothesis, personas_of, unsteered

#: Rules by which people decide for all conversations, whatever the flag and the holdout say.
_FOR_ALL = (Reason.KILL_SWITCH, Reason.OVERRIDE_LOCK, Reason.OVERRIDE_PREFER)
#: What a typical conversation is given where others explore.
_RANKED = (Reason.RANKED, Reason.NO_ELIGIBLE_CANDIDATE)


@dataclass(frozen=True, slots=True)
class Now:
    """What a typical conversation is given with all that steers now (flag, overrides, kill switch, age of the metrics).
    ``share``: of the conversations that get it by then, 0 to 1; the others get the default. ``difference``: US dollars
    per day; None: unknown. ``explored``: completions per day that try an unproven profile, before and then; None: their
    number is unknown."""

    old: Side
    new: Side
    share: float
    difference: Decimal | None
    explored: tuple[float, float] | None

    @property
    def switches(self) -> bool:
        return self.old.profile != self.new.profile and self.share > 0


@dataclass(frozen=True, slots=True)
class Effect:
    """One scope. ``old`` and ``new`` are its winners; ``completions`` of 24 hours, None: not measured. US dollars
    per day as if all of them were the winner's; None: unknown."""

    key: Key
    old: Side
    new: Side
    completions: int | None
    old_usd: Decimal | None
    new_usd: Decimal | None
    now: Now

    @property
    def flips(self) -> bool:
        return self.old.profile != self.new.profile

    @property
    def difference(self) -> Decimal | None:
        """US dollars per day, new less old."""
        return None if self.old_usd is None or self.new_usd is None else self.new_usd - self.old_usd

    @property
    def is_felt(self) -> bool:
        """Whether anything is otherwise: winner, its cost or verdicts, or what is given or paid now."""
        return (
            self.flips
            or cost_of(self.old) != cost_of(self.new)
            or _judged(self.old) != _judged(self.new)
            or (self.now.old.profile, self.now.old.reason) != (self.now.new.profile, self.now.new.reason)
            or bool(self.now.difference)
        )


def effects(
    before: Bundle,
    after: Bundle,
    hypothesis: Hypothesis,
    completions: Mapping[tuple[str, str], int] | None,
    at: datetime,
) -> list[Effect]:
    """Of every scope that it can touch, at a time (UTC). ``completions`` of 24 hours by scope (one that is left out had
    none); None: they are not known."""
    worlds = (_World.of(before), _World.of(after))
    personas = list(personas_of(before, hypothesis))
    return [
        _effect(worlds, Key(tenant, persona, None), completions, at, hypothesis.prices)
        for tenant in before.tenants
        for persona in personas
    ]


@dataclass(frozen=True, slots=True)
class _World:
    """A bundle, as it decides for a typical conversation, and without anything but the ranking."""

    bundle: Bundle
    typical: Bundle
    unsteered: Bundle

    @classmethod
    def of(cls, bundle: Bundle) -> "_World":
        world = cls(bundle, typical(bundle), unsteered(bundle))
        # They rank alike, and ranking is most of the work.
        world.typical.keep_views_of(bundle)
        world.unsteered.keep_views_of(bundle)
        return world

    def winner(self, key: Key, at: datetime) -> Side:
        scores = self.bundle.scores(key.tenant, key.persona)
        # As of its metrics: how old they are says what is given now, not who wins.
        return look(self.unsteered, key, scores.as_of if scores and scores.as_of else at)

    def share(self, key: Key, given: Side) -> float:
        if given.reason in _FOR_ALL:
            return 1.0
        on = self.bundle.flag.share(key.tenant, key.persona)
        return on * (1 - self.bundle.personas[key.persona].holdout_share)

    def explored(self, key: Key, given: Side, at: datetime) -> float:
        """The share of the conversations that try an unproven profile, 0 to 1."""
        persona = self.bundle.personas[key.persona]
        if not persona.exploration_share or given.reason not in _RANKED:
            return 0.0
        standing = self.unsteered.standing.of(key.tenant, key.persona, "", at)
        excluded = tuple(sorted({one.profile for one in standing}))
        view = glance_at(self.unsteered, self.bundle.scores(key.tenant, key.persona), excluded, ())
        return self.share(key, given) * persona.exploration_share if view.explorable else 0.0

    def paid(self, key: Key, given: Side) -> tuple["_Paid", "_Paid"]:
        """What conversations are given, and what the others get: the default. Nobody explores."""
        share, default = self.share(key, given), self.bundle.default_profile(key.tenant, key.persona)
        rest = card_of(self.bundle.scores(key.tenant, key.persona), default) if share < 1 else None
        return (
            _Paid(share, given.profile, cost_of(given)),
            _Paid(1 - share, default, rest.cost_per_completion if rest else None),
        )


class _Paid(NamedTuple):
    """A share of the conversations, 0 to 1, with their profile and its cost per completion in US dollars."""

    share: float
    profile: str | None
    cost: Decimal | None

    @property
    def dollars(self) -> Decimal | None:
        """Per completion of all conversations."""
        if self.share <= 0:
            return Decimal(0)
        return None if self.cost is None else Decimal(repr(self.share)) * self.cost


def _effect(
    worlds: tuple[_World, _World],
    key: Key,
    completions: Mapping[tuple[str, str], int] | None,
    at: datetime,
    prices: Container[str],
) -> Effect:
    before, after = worlds
    old, new = before.winner(key, at), after.winner(key, at)
    count = None if completions is None else completions.get((key.tenant, key.persona), 0)
    now = Now(
        given_old := look(before.typical, key, at),
        given_new := look(after.typical, key, at),
        after.share(key, given_new),
        _per_day(_paid_more(worlds, key, given_old, given_new, prices), count),
        None
        if count is None
        else (before.explored(key, given_old, at) * count, after.explored(key, given_new, at) * count),
    )
    return Effect(key, old, new, count, _per_day(cost_of(old), count), _per_day(cost_of(new), count), now)


def _paid_more(
    worlds: tuple[_World, _World], key: Key, old: Side, new: Side, prices: Container[str]
) -> Decimal | None:
    """US dollars per completion, then less before."""
    total = Decimal(0)
    for was, then in zip(worlds[0].paid(key, old), worlds[1].paid(key, new), strict=True):
        # What is not known, but stays what it is, makes no difference.
        if was == then and was.profile not in prices:
            continue
        if was.dollars is None or then.dollars is None:
            return None
        total += then.dollars - was.dollars
    return total


def _per_day(cost: Decimal | None, count: int | None) -> Decimal | None:
    return None if cost is None or count is None else cost * count


def cost_of(side: Side) -> Decimal | None:
    """US dollars per completion of what a side gives; None: unknown."""
    return side.card.cost_per_completion if side.card else None


def card_of(scores: ScopeScores | None, profile: str) -> Scorecard | None:
    """The profile's scorecard, if it has one there."""
    cards = scores.scorecards if scores else ()
    return next((card for card in cards if card.profile == profile), None)


def _judged(side: Side) -> tuple[str | None, list[Verdict]]:
    return side.code, [gate.verdict for gate in side.card.gates] if side.card else []


@dataclass(frozen=True, slots=True)
class Sum:
    """US dollars per day of the scopes where both sides are known; None: there is no such scope."""

    old: Decimal | None
    new: Decimal | None
    known: int
    unknown: int

    @property
    def difference(self) -> Decimal | None:
        return None if self.old is None or self.new is None else self.new - self.old


def add_up(found: Iterable[Effect]) -> Sum:
    """As if all completions were the winners'."""
    pairs = [(one.old_usd, one.new_usd) for one in found]
    known = [(old, new) for old, new in pairs if old is not None and new is not None]
    if not known:
        return Sum(None, None, 0, len(pairs))
    old, new = (sum(side, Decimal(0)) for side in zip(*known, strict=True))
    return Sum(old, new, len(known), len(pairs) - len(known))


def add_up_now(found: Iterable[Effect]) -> tuple[Decimal | None, int]:
    """The difference in US dollars per day with what steers now, and in how many scopes it is unknown."""
    all_ = [one.now.difference for one in found]
    known = [difference for difference in all_ if difference is not None]
    return sum(known, Decimal(0)) if known else None, len(all_) - len(known)


def explored(found: Iterable[Effect]) -> tuple[float, float] | None:
    """Completions per day that try an unproven profile, before and then; None: how many there are is unknown."""
    pairs = [one.now.explored for one in found]
    known = [pair for pair in pairs if pair is not None]
    if len(known) < len(pairs):
        return None
    return sum(old for old, _ in known), sum(new for _, new in known)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a profile of the hypothesis stands in the scopes afterwards: ``meets`` the SLA and can win; ``cost_unknown``:
    would, but for its cost; ``out``: it may not be used, or is excluded by people. ``wins_old``, ``wins_new``: by rank.
    ``borrowed``: scopes that judge it by the persona's metrics over all tenants."""

    profile: str
    meets: int
    unproven: int
    fails: int
    cost_unknown: int
    no_data: int
    borrowed: int
    wins_old: int
    wins_new: int


def standings(after: Bundle, hypothesis: Hypothesis, found: Iterable[Effect]) -> list[Standing]:
    """Of each profile that it is about, over these scopes."""
    found = list(found)
    return [_standing(after, slug, found) for slug in sorted(hypothesis.profiles)]


def _standing(after: Bundle, slug: str, found: list[Effect]) -> Standing:
    counts = dict.fromkeys(("meets", "unproven", "fails", "cost_unknown", "no_data"), 0)
    borrowed = 0
    for one in found:
        card = card_of(after.scores(one.key.tenant, one.key.persona), slug)
        counts[_state(card)] += 1
        borrowed += card is not None and card.borrowed
    return Standing(
        profile=slug,
        **counts,
        borrowed=borrowed,
        wins_old=sum(_wins(one.old, slug) for one in found),
        wins_new=sum(_wins(one.new, slug) for one in found),
    )


def _state(card: Scorecard | None) -> str:
    if card is None or not card.requests:
        return "no_data"
    verdicts = {gate.verdict for gate in card.gates}
    if Verdict.FAIL in verdicts:
        return "fails"
    if Verdict.UNPROVEN in verdicts:
        return "unproven"
    return "meets" if card.score is not None else "cost_unknown"


def _wins(side: Side, slug: str) -> bool:
    return side.profile == slug and side.reason is Reason.RANKED
