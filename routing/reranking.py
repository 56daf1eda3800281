"""Ranks without the profiles that the catalogue forbids: it may be newer than the scores. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from routing.contrast import Contrast, contrast
from routing.rules import ScoringRules
from routing.scoring import Scorecard, by_rank


def leave_out(
    cards: Sequence[Scorecard], forbidden: Mapping[str, str], rules: ScoringRules | None, incumbent: str
) -> tuple[Scorecard, ...]:
    """``cards`` (best first) with the ``forbidden`` profiles, slug to reason, out of the ranking.

    The others close up and lose to the best that is left. Without ``rules`` what would make them win is
    unknown when that is another one than before, and then nothing is claimed.
    """
    if not any(card.profile in forbidden for card in cards):
        return tuple(cards)
    left, _ = left_in(cards, forbidden, incumbent)
    same_best = bool(left) and left[0].rank == 1
    reference = None if rules is None else _reference(cards, rules, incumbent)
    ranked = []
    for rank, card in enumerate(left, 1):
        told = card.contrast
        # Who has no contrast lost by costing more than the default, whoever is the best.
        if not same_best and told is not None:
            told = (
                None if rank == 1 or rules is None else _against(left[0], card, rules, reference, incumbent)
            )
        ranked.append(replace(card, eligible=True, rank=rank, contrast=told, why_not=()))
    in_rank = {card.profile for card in ranked}
    others = [_barred(card, forbidden) for card in cards if card.profile not in in_rank]
    return (*ranked, *sorted(others, key=lambda card: card.profile))


def left_in(
    cards: Iterable[Scorecard], forbidden: Mapping[str, str], incumbent: str
) -> tuple[list[Scorecard], list[Scorecard]]:
    """Who may win by rank once these are out, best first, and who stands in reserve, best first. Without the default
    there is nothing that one in reserve could cost more than, so these join the rank."""
    left = [card for card in cards if card.profile not in forbidden]
    ranked = [card for card in left if card.eligible]
    reserve = sorted((card for card in left if card.in_reserve), key=_by_cost)
    return ([*ranked, *reserve], []) if incumbent in forbidden else (ranked, reserve)


def _by_cost(card: Scorecard) -> tuple[bool, Decimal, float, float, str]:
    return by_rank(card.score, card.tokens_per_success, card.profile, card.cost_per_completion)


def _barred(card: Scorecard, forbidden: Mapping[str, str]) -> Scorecard:
    why = forbidden.get(card.profile)
    if why is None:
        return card
    return replace(card, eligible=False, rank=None, contrast=None, why_not=(why, *card.why_not))


def _reference(cards: Iterable[Scorecard], rules: ScoringRules, incumbent: str) -> Decimal | None:
    """What ``routing.scoring.cost_reference`` was when these cards were made."""
    if rules.sla.max_cost_per_completion is not None:
        return rules.sla.max_cost_per_completion
    # An incumbent's cost term is known exactly when its cost is known well enough to be the reference.
    costs = (c.cost_per_completion for c in cards if c.profile == incumbent and c.terms.cost is not None)
    return next(costs, None)


def _against(
    best: Scorecard, card: Scorecard, rules: ScoringRules, reference: Decimal | None, incumbent: str
) -> Contrast | None:
    if best.score is None or card.score is None:
        return None
    return contrast(
        rules,
        card.terms,
        card.cost_per_completion,
        max(best.score - card.score, 0.0),
        reference,
        cost_moves_alone=rules.sla.max_cost_per_completion is not None or card.profile != incumbent,
    )
