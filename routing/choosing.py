"""The ordered rules: each looks at one case and either chooses a profile or passes. Pure.

docs/decisions.md explains them one by one.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Optional

from routing.decision import Reason, SelectionProblem, SelectionRequest
from routing.flag_state import stable_share
from routing.policy import Bundle, BundlePersona, ScopeScores
from routing.standing import Kind, StandingOverride
from routing.view import ScopeView
from telemetry.freshness_state import Freshness

#: Metrics that may steer.
_CURRENT = (Freshness.FRESH, Freshness.DEGRADED)
_NOBODY: Mapping[str, str] = {}


class Case(NamedTuple):
    """One request before the rules: what they look at, looked up once. ``default`` is the scope's default,
    or what stands in for it when that is excluded or barred, None when nothing can; ``flag_share`` of the scope's
    conversations have the flag on; ``overrides`` stand for the request, by precedence. ``barred`` are profiles in
    quarantine, slug to why; ``probing`` those that this conversation may get all the same, because it is among the
    ``weight`` of conversations that probe. ``other``: the case of the conversations that probe when this one does not,
    or the other way round; None: nothing is half-open."""

    bundle: Bundle
    request: SelectionRequest
    persona: BundlePersona
    default: str | None
    flag_share: float
    scores: ScopeScores | None
    view: ScopeView
    freshness: Freshness
    overrides: tuple[StandingOverride, ...]
    excluded: frozenset[str]
    barred: Mapping[str, str] = _NOBODY
    probing: Mapping[str, str] = _NOBODY
    weight: float = 1.0
    other: Optional["Case"] = None

    @property
    def is_stale(self) -> bool:
        return self.freshness not in _CURRENT

    def share(self, purpose: str) -> float:
        """Where the conversation lies in [0, 1) for a purpose; purposes are independent of each other."""
        salt = f"{self.bundle.flag.salt}/{purpose}"
        return stable_share(salt, self.request.tenant, self.request.conversation_id)


class Choice(NamedTuple):
    """What a rule that applies says."""

    profile: str
    reason: Reason
    explanation: str
    override: int | None = None


def kill_switch(case: Case) -> Choice | None:
    standing = case.bundle.standing
    if not standing.is_killed(case.request.tenant):
        return None
    whose = "everybody" if standing.killed_all else f"the tenant {case.request.tenant}"
    return _default(case, Reason.KILL_SWITCH, f"The kill switch is on for {whose}")


def override_lock(case: Case) -> Choice | None:
    for override in case.overrides:
        # A worker that cannot take the profile is not given it: it would only ask again.
        if override.kind is Kind.LOCK and override.profile not in case.request.exclude:
            below = override.profile in case.view.failing
            barred = case.barred.get(override.profile)
            return Choice(
                override.profile,
                Reason.OVERRIDE_LOCK,
                f"Override {override.id} locks {override.scope()} to {override.profile}"
                f"{', which is proved to MISS the SLA' if below else ''}"
                f"{f', which is {barred}' if barred else ''}.",
                override.id,
            )
    return None


def override_prefer(case: Case) -> Choice | None:
    for override in case.overrides:
        slug = override.profile
        if override.kind is not Kind.PREFER or slug in case.excluded or slug in case.view.failing:
            continue
        if slug in case.bundle.usable and slug not in case.barred:
            why = f"Override {override.id} prefers {slug} for {override.scope()}"
            return Choice(
                slug, Reason.OVERRIDE_PREFER, f"{why}; it is not proved to miss the SLA.", override.id
            )
    return None


def flag_off(case: Case) -> Choice | None:
    request = case.request
    if case.bundle.flag.is_among(case.flag_share, request.tenant, request.conversation_id):
        return None
    return _default(case, Reason.FLAG_OFF, "Automatic selection is off for this conversation")


def holdout(case: Case) -> Choice | None:
    held = case.persona.holdout_share
    if held <= 0 or case.share("holdout") >= held:
        return None
    why = f"This conversation is among the {held:.2%} that are kept on the default, to measure savings"
    return _default(case, Reason.HOLDOUT, why)


def telemetry_stale(case: Case) -> Choice | None:
    if not case.is_stale:
        return None
    if case.scores is None:
        why = "This scope has no scores measured against its default yet"
    elif case.scores.as_of is None:
        why = "There are no metrics for this scope yet"
    else:
        minutes = int((case.request.at - case.scores.as_of).total_seconds() // 60)
        why = f"The scope's metrics are {minutes} minutes old, which is too old to steer by"
    return _default(case, Reason.TELEMETRY_STALE, why)


def explore(case: Case) -> Choice | None:
    share = case.persona.exploration_share
    # Without a default nothing would stand behind the trial.
    if share <= 0 or case.default is None or not case.view.explorable or case.share("explore") >= share:
        return None
    # The profile with the highest hash: a conversation keeps its profile while that can be explored at all,
    # whatever joins or leaves, and each is as likely as the others.
    chosen = max(case.view.explorable, key=lambda slug: case.share(f"explore/{slug}"))
    return Choice(
        chosen,
        Reason.EXPLORE,
        f"{chosen} is not proved to meet the SLA yet (n={case.view.requests[chosen]}); this conversation is "
        f"among the {share:.2%} that try one of {len(case.view.explorable)} such profiles.",
    )


def sticky(case: Case) -> Choice | None:
    last = _stays_with(case)
    if last is None:
        return None
    best = case.view.ranked[0]
    behind = case.view.scores[best] - case.view.scores[last]
    return Choice(
        last,
        Reason.STICKY,
        f"The conversation stays with {last}: {behind:.3f} behind the best, {best}; it switches at "
        f"{case.persona.switch_margin:g}.",
    )


def _stays_with(case: Case) -> str | None:
    """The conversation's last profile, when it may win and is less than the margin behind the best."""
    last = case.request.last_profile
    if last is None or last not in case.view.scores:
        return None
    best = case.view.ranked[0]
    if last == best:
        return None  # the rank itself gives it, so nothing was held back
    behind = case.view.scores[best] - case.view.scores[last]
    return last if behind < case.persona.switch_margin else None


def ranked(case: Case) -> Choice | None:
    if not case.view.ranked:
        return None
    best = case.view.ranked[0]
    return Choice(best, Reason.RANKED, f"{case.view.praise}{_passed_over(case, best)}")


def _passed_over(case: Case, best: str) -> str:
    """Who would be before the best, were it not in quarantine."""
    if not case.barred or case.scores is None:
        return ""
    order = [card.profile for card in case.scores.ranked]
    before = order[: order.index(best)] if best in order else order
    told = [f"{slug} ({case.barred[slug]})" for slug in before if slug in case.barred]
    return f" Passed over: {', '.join(told)}." if told else ""


def no_eligible_candidate(case: Case) -> Choice | None:
    return _default(
        case, Reason.NO_ELIGIBLE_CANDIDATE, "No profile that may be used is proved to meet the SLA"
    )


def _default(case: Case, reason: Reason, why: str) -> Choice:
    scope_default = case.bundle.default_profile(case.request.tenant, case.request.persona)
    if case.default is None:
        raise SelectionProblem(
            409,
            "all_excluded",
            f"'{scope_default}' is the scope's default, but the request or an override excludes it, and no other "
            "profile that may be used is proved to meet the SLA.",
        )
    barred = case.barred.get(case.default)
    nothing_else = f" It is {barred}, but nothing else is left." if barred else ""
    if case.default == scope_default:
        return Choice(case.default, reason, f"{why}; {case.default} is the scope's default.{nothing_else}")
    gone = "excluded" if scope_default in case.excluded else case.barred[scope_default]
    instead = f"{scope_default}, the scope's default, is {gone}, and {case.default} is next"
    return Choice(case.default, reason, f"{why}; {instead}.{nothing_else}")


#: In this order; the first that applies decides.
RULES: tuple[Callable[[Case], Choice | None], ...] = (
    kill_switch,
    override_lock,
    override_prefer,
    flag_off,
    holdout,
    telemetry_stale,
    explore,
    sticky,
    ranked,
    no_eligible_candidate,
)


#: What people decided leaves nothing to a hash.
_CERTAIN = (Reason.KILL_SWITCH, Reason.OVERRIDE_LOCK, Reason.OVERRIDE_PREFER)


def propensity(case: Case, choice: Choice) -> float:
    """The probability, over all conversations of the scope, with which this profile is given in this case:
    the flag's side, the holdout and exploration are drawn by independent hashes of the conversation; the
    rest is certain, but for who probes what is half-open, which is drawn, too. Never 0 for the profile that was
    chosen."""
    if case.other is None:
        found = 1.0 if choice.reason in _CERTAIN else _chance(case, choice.profile)
    else:
        found = sum(side.weight * _side_chance(side, choice.profile) for side in (case, case.other))
    # Sums of products are off by rounding; what is certain shall read 1.
    return float(f"{found:.12g}")


def _side_chance(case: Case, slug: str) -> float:
    decided = override_lock(case) or override_prefer(case)
    if decided is not None:
        return float(decided.profile == slug)
    return _chance(case, slug)


def _chance(case: Case, slug: str) -> float:
    """The chances of all routes that lead to the profile: flag off, held out, stale, tried, stayed with or ranked."""
    on = case.flag_share
    held = case.persona.holdout_share
    free = on * (1 - held)
    chance = 0.0
    if slug == case.default:
        chance += 1 - on
        chance += on * held
    if case.is_stale:
        return chance + free if slug == case.default else chance
    tried = case.view.explorable if case.default is not None else ()
    share = case.persona.exploration_share if tried else 0.0
    if slug in tried:
        chance += free * share / len(tried)
    return chance + free * (1 - share) if slug == _main(case) else chance


def _main(case: Case) -> str | None:
    """What a conversation gets that nothing holds back: the sticky, the ranked or the default profile."""
    stays = _stays_with(case)
    if stays is not None:
        return stays
    return case.view.ranked[0] if case.view.ranked else case.default
