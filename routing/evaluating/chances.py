"""With which probability a policy gives each profile, by the engine's own definition. Pure."""

from dataclasses import dataclass

from routing.choosing import Case, Choice, kill_switch, override_lock, override_prefer, propensity
from routing.decision import Reason, SelectionProblem, SelectionRequest
from routing.engine import examine
from routing.evaluating.observations import Chances
from routing.policy import Bundle
from routing.view import glance_at


@dataclass(frozen=True, slots=True)
class Split:
    """How a scope's conversations are split over profiles in one state of the world. ``refused``: the share that would
    get a problem instead."""

    profiles: Chances
    refused: float


#: What is left after twelve digits of rounding is nothing.
_ROUNDING = 1e-9


def chances(bundle: Bundle, request: SelectionRequest) -> Split:
    """As ``propensity`` in a decision: over all conversations of the scope, in this state, its last profile included.
    Raises SelectionProblem when nobody would get a profile."""
    case = examine(bundle, request, glance_at)
    # With something half-open, who probes may be given another one even of what people decided.
    certain = kill_switch(case) or override_lock(case) or override_prefer(case)
    decided = certain if case.other is None else None
    if decided is not None:
        if decided.profile not in bundle.usable:
            raise SelectionProblem(
                409, "profile_disabled", f"'{decided.profile}' would be used, but may not be."
            )
        return Split({decided.profile: 1.0}, 0.0)
    found = {slug: _chance(case, slug) for slug in bundle.usable}
    given = {slug: chance for slug, chance in found.items() if chance > 0}
    refused = 1 - sum(given.values())
    return Split(given, refused if refused > _ROUNDING else 0.0)


def _chance(case: Case, slug: str) -> float:
    # Any reason that leaves something to chance will do: chances of all routes to the profile add up.
    return propensity(case, Choice(slug, Reason.RANKED, ""))
