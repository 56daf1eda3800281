"""A scope's scorecards as one bundle lets them count: who may win, who may be tried, what is shown. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from routing.circuit import Barred
from routing.gates import Verdict
from routing.policy import Bundle, ScopeScores, canonical_json
from routing.reranking import leave_out, left_in
from routing.scoring import DEARER, Scorecard

BY_REQUEST = "excluded by the request"
BY_PEOPLE = "excluded by an override"


@dataclass(frozen=True, slots=True)
class ScopeView:
    """``ranked`` may win, best first, with their ``scores``; ``reserve`` meet the SLA too, but cost more than the
    default: they stand in when it cannot be had; ``explorable`` may be tried: usable, unproven, failing nothing, and
    not known to cost more than the default; ``failing`` are proved to miss the SLA; ``praise`` says why the first of
    ``ranked`` is the best; ``candidates_json`` are all scorecards, in order of rank, as canonical JSON."""

    ranked: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    reserve: tuple[str, ...] = ()
    explorable: tuple[str, ...] = ()
    requests: Mapping[str, int] = field(default_factory=dict)
    failing: frozenset[str] = frozenset()
    praise: str = ""
    candidates_json: bytes = b"[]"
    candidates_sha256: str = hashlib.sha256(b"[]").hexdigest()

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """Parsed anew each time: few ask, and the bytes take a fraction of the objects' memory."""
        found: list[dict[str, Any]] = orjson.loads(self.candidates_json)
        return found


_EMPTY = ScopeView()


def view_of(
    bundle: Bundle,
    scores: ScopeScores | None,
    by_people: tuple[str, ...],
    by_request: tuple[str, ...],
    barred: Barred = (),
) -> ScopeView:
    """The view of these scores without what people and the request exclude, and what is ``barred``. Kept in the bundle,
    but for requests that exclude profiles, which are few."""
    if scores is None:
        return _EMPTY
    if by_request:
        return _make(bundle, scores, by_people, by_request, barred)
    key = (id(scores), by_people, barred)
    kept = bundle.views.get(key)
    if kept is None:
        kept = bundle.views[key] = _make(bundle, scores, by_people, (), barred)
    view: ScopeView = kept
    return view


def glance_at(
    bundle: Bundle,
    scores: ScopeScores | None,
    by_people: tuple[str, ...],
    by_request: tuple[str, ...],
    barred: Barred = (),
) -> ScopeView:
    """The view without ``candidates``, which are most of its work; for who looks at many scopes. Kept as ``view_of``
    does."""
    if scores is None:
        return _EMPTY
    if by_request:
        return _glance(scores, _forbidden(bundle, scores, by_people, by_request, barred))
    key = (id(scores), by_people, barred)
    kept = bundle.glances.get(key)
    if kept is None:
        kept = bundle.glances[key] = _glance(scores, _forbidden(bundle, scores, by_people, (), barred))
    view: ScopeView = kept
    return view


def _make(
    bundle: Bundle,
    scores: ScopeScores,
    by_people: tuple[str, ...],
    by_request: tuple[str, ...],
    barred: Barred,
) -> ScopeView:
    forbidden = _forbidden(bundle, scores, by_people, by_request, barred)
    cards = leave_out(scores.scorecards, forbidden, scores.rules, scores.incumbent)
    # A copy: orjson leaves what it made in a buffer of up to twice the size, and this is kept.
    candidates = bytes(memoryview(canonical_json([card.to_dict() for card in cards])))
    return replace(
        _glance(scores, forbidden),
        candidates_json=candidates,
        candidates_sha256=hashlib.sha256(candidates).hexdigest(),
    )


def _forbidden(
    bundle: Bundle,
    scores: ScopeScores,
    by_people: tuple[str, ...],
    by_request: tuple[str, ...],
    barred: Barred,
) -> dict[str, str]:
    # The catalogue may be newer than the scores: what it forbids cannot win, so nobody lost to it.
    forbidden = dict(barred) | dict.fromkeys(by_request, BY_REQUEST) | dict.fromkeys(by_people, BY_PEOPLE)
    for card in scores.scorecards:
        if (reason := bundle.why_unusable(card.profile)) is not None:
            forbidden[card.profile] = reason
    return forbidden


def _glance(scores: ScopeScores, forbidden: Mapping[str, str]) -> ScopeView:
    cards = scores.scorecards
    # In the order of ``leave_out``.
    ranked, reserve = left_in(cards, forbidden, scores.incumbent)
    return ScopeView(
        ranked=tuple(card.profile for card in ranked),
        scores={card.profile: card.score or 0.0 for card in ranked},
        reserve=tuple(card.profile for card in reserve),
        explorable=tuple(
            card.profile
            for card in cards
            if card.profile not in forbidden and card.profile != scores.incumbent and _is_worth_a_try(card)
        ),
        requests={card.profile: card.requests for card in cards},
        failing=frozenset(card.profile for card in cards if _fails(card)),
        praise=_praise(ranked),
    )


def _is_worth_a_try(card: Scorecard) -> bool:
    """Unproven, failing nothing, and not known to cost more than the default: that could not win if it were proved."""
    verdicts = {gate.verdict for gate in card.gates}
    is_dear = any(reason.startswith(DEARER) for reason in card.why_not)
    return Verdict.UNPROVEN in verdicts and Verdict.FAIL not in verdicts and not is_dear


def _fails(card: Scorecard) -> bool:
    return any(gate.verdict is Verdict.FAIL for gate in card.gates)


def _praise(ranked: Sequence[Scorecard]) -> str:
    if not ranked:
        return ""
    best = ranked[0]
    cost = f"${best.cost_per_completion:.6f}" if best.cost_per_completion is not None else "unknown"
    p95 = f"{best.latency_p95_ms / 1000:.1f} s" if best.latency_p95_ms is not None else "unknown"
    return (
        f"{best.profile} has the best score ({best.score:.3f}) of {len(ranked)} profiles that meet the SLA: "
        f"{cost} per completion, success at least {best.gates[0].lower or 0.0:.3f}, p95 {p95}, "
        f"n={best.requests}{', borrowed from all tenants' if best.borrowed else ''}."
    )
