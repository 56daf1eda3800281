"""Logged decisions made again under both policies: observations, or why one cannot be."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from routing.archive import DamagedArchiveError, NotArchivedError, archive
from routing.decision import SelectionProblem, SelectionRequest
from routing.evaluating.candidate import Candidates
from routing.evaluating.chances import Split, chances
from routing.evaluating.observations import Chances, Observation
from routing.logged.decisions import LoggedDecision
from routing.logged.scope import Scope
from routing.logged.selections import LoggedSelection
from routing.policy import Bundle

#: Logged propensities have twelve digits.
_ROUNDING = 1e-9


class LeftOut(StrEnum):
    """Why a logged decision is not evaluated; docs/evaluate.md explains each."""

    NO_COMPLETION = "no_completion"
    NOT_ARCHIVED = "not_archived"
    NOT_REPRODUCED = "not_reproduced"
    REFUSED = "refused"


@dataclass(slots=True)
class Observed:
    """Grows decision by decision. ``elsewhere`` counts decisions of which a completion is of another profile than was
    given, ``unpriced`` those whose cost is not known."""

    observations: list[Observation] = field(default_factory=list)
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    elsewhere: int = 0
    unpriced: int = 0


class Observer:
    """Makes observations of one scope's decisions; ask in order of time."""

    def __init__(self, scope: Scope, candidates: Candidates) -> None:
        self._scope, self._candidates = scope, candidates
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
        if outcome is None:
            return LeftOut.NO_COMPLETION
        try:
            logged = self._split(archive.bundle(selection.bundle_version), decision)
            if logged is None or not _is_same(logged.profiles, selection):
                return LeftOut.NOT_REPRODUCED
            candidate = self._split(self._candidates.bundle(selection.bundle_version), decision)
        except (NotArchivedError, DamagedArchiveError):
            return LeftOut.NOT_ARCHIVED
        # A share that gets a problem makes no decisions, so none tells what it would come to.
        if candidate is None or logged.refused or candidate.refused:
            return LeftOut.REFUSED
        return Observation(
            conversation=selection.conversation_id,
            task=selection.task,
            profile=selection.profile,
            logged=self._keep(logged.profiles),
            candidate=self._keep(candidate.profiles),
            cost_usd=None if outcome.cost_usd is None else float(outcome.cost_usd),
            success=outcome.success,
            safety_violation=outcome.safety_violation,
            escalated=outcome.escalated,
        )

    def _split(self, bundle: Bundle, decision: LoggedDecision) -> Split | None:
        selection = decision.selection
        request = SelectionRequest(
            tenant=self._scope.tenant,
            persona=self._scope.persona,
            conversation_id=selection.conversation_id,
            at=selection.decided_at,
            task=selection.task,
            exclude=selection.exclude,
            last_profile=selection.last_profile,
        )
        try:
            return chances(bundle, request)
        except SelectionProblem:
            return None

    def _keep(self, found: Chances) -> Chances:
        """One object for all decisions of the same chances, of which there are few."""
        return self._kept.setdefault(tuple(sorted(found.items())), found)


def _is_same(logged: Chances, selection: LoggedSelection) -> bool:
    return abs(logged.get(selection.profile, 0.0) - selection.propensity) <= _ROUNDING
