"""What if: personas that ask otherwise, other prices, profiles taken in or out. The bundle as it would be. Pure.

A new price does not touch the past: the measured tokens of a profile in a scope are priced anew, which forecasts what
the same completions would cost. docs/whatif.md tells what that leaves out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from catalog.prices import Price
from routing.engine import Bundle, FlagState, ScopeScores, Standing
from routing.rescoring import rescore
from routing.scoring import COST_UNKNOWN, Scorecard, cost_minimum, why_unpriced
from routing.standing import Kind
from telemetry.metrics import Key as UsageKey
from telemetry.usage import Usage

Tokens = Mapping[UsageKey, Usage]


class NoRules(Exception):
    """The scores do not say by which rules they were made, so that they cannot be made again: they are of an older
    release, until the next scoring run."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What might be changed; what is left out stays.

    ``personas``: slug to changed values, as the settings service takes them. ``prices``: profile to its new price.
    ``add``: profiles as if enabled; ``remove``: as if disabled.
    """

    personas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    add: frozenset[str] = frozenset()
    remove: frozenset[str] = frozenset()

    @property
    def profiles(self) -> frozenset[str]:
        """Those that it is about."""
        return self.add | self.remove | self.prices.keys()

    @property
    def is_empty(self) -> bool:
        return not (self.profiles or any(self.personas.values()))


def supposed(bundle: Bundle, hypothesis: Hypothesis, tokens: Tokens) -> Bundle:
    """The bundle with other prices and profiles; what personas would ask is in it already (``routing.proposed``).
    ``tokens``: measured in the 24 hours that its scores are of; tenant None: over all tenants. Raises NoRules."""
    changed = dict.fromkeys(hypothesis.add, True) | dict.fromkeys(hypothesis.remove, False)
    profiles = {
        slug: replace(profile, enabled=changed.get(slug, profile.enabled))
        for slug, profile in bundle.profiles.items()
    }
    after = replace(bundle, profiles=profiles)
    snapshot = bundle.snapshot
    if snapshot is None or not hypothesis.prices:
        return after
    scopes = {
        (tenant, persona): repriced(scores, hypothesis.prices, tokens, tenant, persona)
        for (tenant, persona), scores in snapshot.scopes.items()
    }
    shared = {
        persona: repriced(scores, hypothesis.prices, tokens, None, persona)
        for persona, scores in snapshot.persona_scopes.items()
    }
    return replace(after, snapshot=replace(snapshot, scopes=scopes, persona_scopes=shared))


def repriced(
    scores: ScopeScores, prices: Mapping[str, Price], tokens: Tokens, tenant: str | None, persona: str
) -> ScopeScores:
    """The scope's scores with the measured tokens of some profiles at other prices, ranked anew: as the scorer would
    have them if each of those completions had been priced so. Raises NoRules."""
    rules = scores.rules
    if rules is None:
        raise NoRules
    cards = []
    for card in scores.scorecards:
        price = prices.get(card.profile)
        if price is not None:
            used = tokens.get(UsageKey(None if card.borrowed else tenant, persona, card.profile))
            card = _at_price(card, price, used, rules.min_samples)
        cards.append(card)
    return rescore(replace(scores, scorecards=tuple(cards)), rules, scores.incumbent)


def _at_price(card: Scorecard, price: Price, used: Usage | None, min_samples: int) -> Scorecard:
    cost = cost_at(price, used)
    priced = used.requests if used is not None and cost is not None else 0
    why_not = [reason for reason in card.why_not if not reason.startswith(COST_UNKNOWN)]
    needed = cost_minimum(min_samples, card.gates[0].prior if card.gates else None)
    if priced < needed:
        why_not.append(why_unpriced(priced, needed))
    return replace(card, cost_per_completion=cost, why_not=tuple(why_not))


def cost_at(price: Price, used: Usage | None) -> Decimal | None:
    """US dollars per completion of these tokens; None: no tokens were measured."""
    if used is None or not used.requests or not used.prompt_tokens + used.completion_tokens:
        return None
    total = price.cost(used.prompt_tokens, used.completion_tokens, used.cached_tokens)
    return total / used.requests


def unsteered(bundle: Bundle) -> Bundle:
    """The bundle by which every conversation gets the scope's winner: nobody is held out or explores, the flag is on,
    nothing is locked, preferred or stopped. What people exclude stays out: it binds the ranking itself."""
    kept = tuple(one for one in bundle.standing.overrides if one.kind is Kind.EXCLUDE)
    personas = {
        slug: replace(persona, exploration_share=0.0, holdout_share=0.0)
        for slug, persona in bundle.personas.items()
    }
    return replace(bundle, flag=FlagState(everyone=True), standing=Standing(kept), personas=personas)


def personas_of(bundle: Bundle, hypothesis: Hypothesis) -> Iterable[str]:
    """Those whose scopes it can touch: a price and a profile are everybody's."""
    return bundle.personas if hypothesis.profiles else hypothesis.personas
