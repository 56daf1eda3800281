"""Logged decisions made again under both policies: observations, or why one cannot be."""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from routing.archive import DamagedArchiveError, NotArchivedError, archive
from routing.decision import SelectionProblem, SelectionRequest
from routing.evaluating.candidate import Candidates
from routing.evaluating.chances import Split, chances
from routing.evaluating.observations import Chances, Observation
from routing.evaluating.trajectories import BEGINNING, Part, Policy, step
from routing.logged.decisions import LoggedDecision
from routing.logged.scope import Scope
from routing.logged.selections import LoggedSelection
from routing.policy import Bundle

#: Logged propensities have twelve digits.
_ROUNDING = 1e-9
#: Bundles that are kept; decisions come in order of time, so that the next one's is most often the last one's.
_KEPT = 4


class LeftOut(StrEnum):
    """Why a logged decision is not evaluated; docs/evaluate.md explains each."""

    NO_COMPLETION = "no_completion"
    NOT_ARCHIVED = "not_archived"
    NOT_REPRODUCED = "not_reproduced"
    INTERRUPTED = "interrupted"
    REFUSED = "refused"


@dataclass(slots=True)
class Observed:
    """Grows decision by decision. ``elsewhere`` counts decisions of which a completion is of another profile than was
    given, ``unpriced`` those whose cost is not known."""

    observations: list[Observation] = field(default_factory=list)
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    elsewhere: int = 0
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class _Talk:
    """A conversation up to now: the profile that it had last, by which salt its hashes fell, and where each policy's
    parts of it are."""

    last: str
    salt: str
    logged: tuple[Part, ...]
    candidate: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class _Both:
    logged: Policy
    candidate: Policy


class Observer:
    """Makes observations of one scope's decisions; give it all of them, in order of time."""

    def __init__(self, scope: Scope, candidates: Candidates) -> None:
        self._scope, self._candidates = scope, candidates
        self._policies: OrderedDict[str, _Both] = OrderedDict()
        self._talks: dict[str, _Talk] = {}
        self._kept: dict[tuple[tuple[str, float], ...], Chances] = {}

    def observe(self, decisions: Iterable[LoggedDecision], into: Observed) -> None:
        """Raises ClickHouseError when the candidate's scores must be read and cannot."""
        for decision in decisions:
            made = self._observation(decision)
            if isinstance(made, LeftOut):
                into.left_out[made] += 1
                continue
            into.observations.append(made)
            into.elsewhere += bool(decision.outcome and decision.outcome.elsewhere)
            into.unpriced += made.cost_usd is None

    def _observation(self, decision: LoggedDecision) -> Observation | LeftOut:
        selection, outcome = decision.selection, decision.outcome
        # Taken out first: what cannot be followed here cannot be followed from here on either.
        talk = self._talks.pop(selection.conversation_id, None)
        request = self._request(selection)
        try:
            both = self._both(selection.bundle_version)
        except (NotArchivedError, DamagedArchiveError):
            return LeftOut.NOT_ARCHIVED
        if both is None or not _is_same(both.logged.bundle, request, selection):
            return LeftOut.NOT_REPRODUCED
        salt = both.logged.bundle.flag.salt
        if not _goes_on(talk, salt, selection.last_profile):
            return LeftOut.INTERRUPTED
        logged, here = step(talk.logged if talk else BEGINNING, both.logged, request)
        candidate, there = step(talk.candidate if talk else BEGINNING, both.candidate, request)
        self._talks[selection.conversation_id] = _Talk(selection.profile, salt, here, there)
        # A share that gets a problem makes no decisions, so none tells what it would come to.
        if logged.refused or candidate.refused:
            return LeftOut.REFUSED
        if outcome is None:
            return LeftOut.NO_COMPLETION
        return Observation(
            conversation=selection.conversation_id,
            task=selection.task,
            profile=selection.profile,
            logged=self._keep(logged),
            candidate=self._keep(candidate),
            cost_usd=None if outcome.cost_usd is None else float(outcome.cost_usd),
            success=outcome.success,
            safety_violation=outcome.safety_violation,
            escalated=outcome.escalated,
        )

    def _both(self, version: str) -> _Both | None:
        """The policies of a version. None: its bundle does not know the persona."""
        found = self._policies.get(version)
        if found is None:
            bundle = archive.bundle(version)
            if self._scope.persona not in bundle.personas:
                return None
            tenant, persona = self._scope.tenant, self._scope.persona
            then = self._candidates.instead(bundle)
            found = _Both(Policy(bundle, tenant, persona), Policy(then, tenant, persona))
            self._policies[version] = found
        self._policies.move_to_end(version)
        while len(self._policies) > _KEPT:
            self._policies.popitem(last=False)
        return found

    def _request(self, selection: LoggedSelection) -> SelectionRequest:
        return SelectionRequest(
            tenant=self._scope.tenant,
            persona=self._scope.persona,
            conversation_id=selection.conversation_id,
            at=selection.decided_at,
            task=selection.task,
            exclude=selection.exclude,
            last_profile=selection.last_profile,
        )

    def _keep(self, split: Split) -> Chances:
        """One object for all decisions of the same chances, of which there are few."""
        return self._kept.setdefault(tuple(sorted(split.profiles.items())), split.profiles)


def _goes_on(talk: _Talk | None, salt: str, last_profile: str | None) -> bool:
    """Whether a decision begins a conversation, or follows what is known of it. Another salt draws all hashes anew."""
    if talk is None:
        return last_profile is None
    return talk.salt == salt and last_profile in (None, talk.last)


def _is_same(bundle: Bundle, request: SelectionRequest, selection: LoggedSelection) -> bool:
    """Whether the propensity comes out as it was logged."""
    try:
        again = chances(bundle, request).profiles.get(selection.profile, 0.0)
    except SelectionProblem:
        return False
    return abs(again - selection.propensity) <= _ROUNDING
