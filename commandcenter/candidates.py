"""The candidates of a decision as rows for people: figures, what each term adds to the score, why each lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from commandcenter.cards import MEETS, MISSES, UNKNOWN, UNPROVEN
from routing.circuit import QUARANTINED
from routing.engine import Bundle, ScopeScores
from routing.rules import Weights
from routing.standing import Kind
from routing.view import view_of

_MARKS = {"PASS": "✓", "FAIL": "✗"}


@dataclass(frozen=True, slots=True)
class Part:
    """One term of a score, 0 to 1, its weight, and the points that both come to; None: unknown."""

    name: str
    term: float | None
    weight: float | None
    points: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate. ``card``: its scorecard as JSON values. ``lost``: why it is not the best, sentence by sentence;
    ``wins_if``: what would make it the best, where a single change can. ``is_given``: it is what conversations get."""

    card: Mapping[str, Any]
    sla: str
    gates: Sequence[tuple[str, str, str]]
    parts: Sequence[Part]
    lost: Sequence[str]
    wins_if: str | None
    is_given: bool
    is_quarantined: bool


def candidates_of(bundle: Bundle, tenant: str, persona: str, at: datetime) -> list[dict[str, Any]]:
    """What a decision for the scope would show now (UTC): scorecards as JSON values, best first, with what overrides
    exclude and the catalogue forbids below. Empty without scores."""
    standing = bundle.standing.of(tenant, persona, "", at)
    excluded = tuple(sorted({one.profile for one in standing if one.kind is Kind.EXCLUDE}))
    barred = () if bundle.standing.is_killed(tenant) else bundle.standing.circuits.bars(at).all
    return view_of(bundle, bundle.scores(tenant, persona), excluded, (), barred).candidates


def rows_of(candidates: Sequence[Mapping[str, Any]], weights: Weights | None, given: str | None) -> list[Row]:
    """``candidates`` as a decision carries them; ``weights`` they were scored by (None: not kept); ``given``: the
    profile that conversations get."""
    return [_row(card, weights, given) for card in candidates]


def weights_of(scores: ScopeScores | None) -> Weights | None:
    """The weights that scores were made with; None: not kept."""
    return scores.rules.weights if scores and scores.rules else None


def unscored(bundle: Bundle, candidates: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Profiles of the catalogue without a scorecard here, each with what keeps it out."""
    known = {card["profile"] for card in candidates}
    return [
        (slug, bundle.why_unusable(slug) or "no scorecard yet")
        for slug in sorted(bundle.profiles)
        if slug not in known
    ]


def _row(card: Mapping[str, Any], weights: Weights | None, given: str | None) -> Row:
    lost, wins_if = _why_lost(card)
    return Row(
        card=card,
        sla=_sla(card),
        gates=[(_MARKS.get(g["verdict"], "?"), g["verdict"].lower(), g["sentence"]) for g in card["gates"]],
        parts=[_part(name, card["terms"][name], weights) for name in ("cost", "success", "latency")],
        lost=lost,
        wins_if=wins_if,
        is_given=card["profile"] == given,
        is_quarantined=any(reason.startswith(QUARANTINED) for reason in card["why_not"]),
    )


def _part(name: str, term: float | None, weights: Weights | None) -> Part:
    weight = getattr(weights, name) if weights else None
    return Part(name, term, weight, None if term is None or weight is None else term * weight)


def _sla(card: Mapping[str, Any]) -> str:
    verdicts = {gate["verdict"] for gate in card["gates"]}
    if not verdicts or card["requests"] == 0:
        return UNKNOWN
    if "FAIL" in verdicts:
        return MISSES
    return UNPROVEN if "UNPROVEN" in verdicts else MEETS


def _why_lost(card: Mapping[str, Any]) -> tuple[list[str], str | None]:
    if card["contrast"]:
        lost, _, wins = card["contrast"]["sentence"].partition("; ")
        return [lost], wins or None
    if card["eligible"] and card["rank"] != 1:
        return [
            "lost to those before it, whatever its score: costs more than the default, or no rules are kept"
        ], None
    # The clauses stand in a column of their own, with their sentences.
    told = {gate["sentence"] for gate in card["gates"]}
    broken = [gate["clause"] for gate in card["gates"] if gate["verdict"] != "PASS"]
    why = [sentence for sentence in card["why_not"] if sentence not in told]
    if broken:
        why.append(f"cannot win by rank: {', '.join(broken)} not proved")
    return why, None
