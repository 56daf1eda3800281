"""The decision: ordered rules, the first that applies. Pure: no Django, no I/O, no clock, no chance.

The same bundle and request give the same decision, byte for byte. docs/decisions.md explains each rule,
reason and problem.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from routing.choosing import RULES, Case, Choice, propensity
from routing.circuit import Barred
from routing.decision import Decision, Reason, SelectionProblem, SelectionRequest, decision_id
from routing.flag_state import FlagState
from routing.policy import (
    Bundle,
    BundlePersona,
    BundleProfile,
    BundleSnapshot,
    BundleTenant,
    ScopeScores,
    canonical_json,
)
from routing.standing import Kind, Standing, StandingOverride
from routing.view import ScopeView, glance_at, view_of
from telemetry.freshness_state import state

__all__ = [
    "Bundle",
    "BundlePersona",
    "BundleProfile",
    "BundleSnapshot",
    "BundleTenant",
    "Decision",
    "FlagState",
    "Outcome",
    "Reason",
    "ScopeScores",
    "SelectionProblem",
    "SelectionRequest",
    "Standing",
    "StandingOverride",
    "canonical_json",
    "decide",
    "outcome",
]


def decide(bundle: Bundle, request: SelectionRequest) -> Decision:
    """Raises SelectionProblem when there is nothing that may be given."""
    case = examine(bundle, request, view_of)
    return _decision(case, _choose(case))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision comes to: the profile's slug, the rule, the override that was applied (None: none), and the
    scores that it was made from (None: none)."""

    profile: str
    reason: Reason
    override: int | None
    scores: ScopeScores | None


def outcome(bundle: Bundle, request: SelectionRequest) -> Outcome:
    """What ``decide`` gives, for who asks for many scopes: nothing is told of candidates. Raises SelectionProblem when
    ``decide`` does."""
    case = examine(bundle, request, glance_at)
    choice = _choose(case)
    profile = _given(case, choice)
    return Outcome(profile.slug, choice.reason, choice.override, case.scores)


def _choose(case: Case) -> Choice:
    for rule in RULES:
        choice = rule(case)
        if choice is not None:
            return choice
    raise AssertionError("the last rule always applies")


class _View(Protocol):
    def __call__(
        self,
        bundle: Bundle,
        scores: ScopeScores | None,
        by_people: tuple[str, ...],
        by_request: tuple[str, ...],
        barred: Barred = (),
    ) -> ScopeView: ...


def examine(bundle: Bundle, request: SelectionRequest, see: _View) -> Case:
    """What the rules look at for one request. Raises SelectionProblem for what there is no case for."""
    tenant, persona = _named(bundle, request)
    default, scores = (
        bundle.default_profile(tenant.slug, persona.slug),
        bundle.scores(tenant.slug, persona.slug),
    )
    overrides = bundle.standing.of(tenant.slug, persona.slug, request.task, request.at)
    by_people = tuple(sorted({o.profile for o in overrides if o.kind is Kind.EXCLUDE})) if overrides else ()
    excluded = frozenset((*by_people, *request.exclude))
    flag_share = bundle.flag.share(tenant.slug, persona.slug)
    freshness = state(scores.as_of if scores else None, request.at)

    def case(barred: Barred, weight: float = 1.0, probing: Barred = ()) -> Case:
        view = see(bundle, scores, by_people, request.exclude, barred)
        why = dict(barred)
        given = _default(default, excluded | why.keys() if why else excluded, view)
        if given is None and barred:
            # With nothing else left, what is in quarantine is still better than no answer.
            given = _default(default, excluded, see(bundle, scores, by_people, request.exclude))
        return Case(
            bundle=bundle,
            request=request,
            persona=persona,
            default=given,
            flag_share=flag_share,
            scores=scores,
            view=view,
            freshness=freshness,
            overrides=overrides,
            excluded=excluded,
            barred=why,
            probing=dict(probing),
            weight=weight,
        )

    return _with_circuits(bundle, request, case)


def _named(bundle: Bundle, request: SelectionRequest) -> tuple[BundleTenant, BundlePersona]:
    tenant = bundle.tenants.get(request.tenant)
    if tenant is None:
        raise SelectionProblem(404, "unknown_tenant", f"There is no tenant '{request.tenant}'.")
    persona = bundle.personas.get(request.persona)
    if persona is None:
        raise SelectionProblem(404, "unknown_persona", f"There is no persona '{request.persona}'.")
    if not tenant.enabled:
        raise SelectionProblem(409, "tenant_disabled", f"The tenant '{tenant.slug}' is disabled.")
    if not persona.enabled:
        raise SelectionProblem(409, "persona_disabled", f"The persona '{persona.slug}' is disabled.")
    return tenant, persona


class _Make(Protocol):
    def __call__(self, barred: Barred, weight: float = 1.0, probing: Barred = ()) -> Case: ...


def _with_circuits(bundle: Bundle, request: SelectionRequest, case: _Make) -> Case:
    """The case without what is in quarantine, and beside it, when something is half-open, that of the conversations on
    the other side of the draw."""
    circuits = bundle.standing.circuits
    # A kill switch stops quarantines, too: it gives what each scope had before there was a machine.
    if not circuits.items or bundle.standing.is_killed(request.tenant):
        return case(())
    bars = circuits.bars(request.at)
    if not bars.else_:
        return case(bars.always)
    share = circuits.probe_share
    closed, probing = case(bars.all, 1 - share), case(bars.always, share, bars.else_)
    if closed.share("probe") < share:
        return probing._replace(other=closed)
    return closed._replace(other=probing)


def _default(default: str, excluded: frozenset[str], view: ScopeView) -> str | None:
    """The default, or the next in the chain when it is excluded; None when nobody is left. What people locked
    or prefer needs no default, so that is no problem before a rule wants it."""
    if default not in excluded:
        return default
    return view.ranked[0] if view.ranked else None


def _given(case: Case, choice: Choice) -> BundleProfile:
    profile = case.bundle.usable.get(choice.profile)
    if profile is None:
        why = case.bundle.why_unusable(choice.profile)
        raise SelectionProblem(
            409,
            "profile_disabled",
            f"'{choice.profile}' would be used ({choice.reason.value}), but: {why}.",
        )
    return profile


def _decision(case: Case, choice: Choice) -> Decision:
    bundle, request = case.bundle, case.request
    profile = _given(case, choice)
    asked = request.to_dict()
    return Decision(
        decision_id=decision_id(bundle.version, asked),
        request=request,
        asked=asked,
        profile=profile,
        reason=choice.reason,
        explanation=_explanation(case, choice),
        candidates_json=case.view.candidates_json,
        candidates_sha256=case.view.candidates_sha256,
        fallback=_fallback(case, choice),
        propensity=propensity(case, choice),
        bundle_version=bundle.version,
        snapshot_id=bundle.snapshot.id if bundle.snapshot else None,
        freshness=case.freshness,
        as_of=case.scores.as_of if case.scores else None,
        overrides=_overrides(case, choice),
    )


def _overrides(case: Case, choice: Choice) -> dict[str, Any]:
    if not case.overrides:
        return {"applied": None, "excluding": [], "shadowed": []}
    excluding = [o.id for o in case.overrides if o.kind is Kind.EXCLUDE]
    quiet = {choice.override, *excluding}
    return {
        "applied": choice.override,
        "excluding": excluding,
        "shadowed": [o.id for o in case.overrides if o.id not in quiet],
    }


def _explanation(case: Case, choice: Choice) -> str:
    why = case.probing.get(choice.profile)
    if why is None:
        return choice.explanation
    return (
        f"{choice.explanation} It is {why}; this conversation is among the {case.weight:.2%} that probe it."
    )


def _fallback(case: Case, choice: Choice) -> tuple[str, ...]:
    """The next best, those that cost more than the default after the others, ending in the default whatever its rank:
    it is what people trust. One in quarantine comes after what stands in for it: a last resort."""
    given, stands_in = choice.profile, case.default
    able = (*case.view.ranked, *case.view.reserve)
    chain = [slug for slug in able if slug != given and slug != stands_in]  # for each of many
    last = [stands_in]
    if case.barred:
        default = case.bundle.default_profile(case.request.tenant, case.request.persona)
        last += [default] if default in case.barred and default not in (stands_in, *case.excluded) else []
    chain += [slug for slug in last if slug and slug != given and slug in case.bundle.usable]
    return tuple(chain)
