"""A candidate policy in place of the one that decided: the persona's part of a past bundle, changed."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from catalog.models import Persona, ScopeDefault
from routing.engine import Bundle, BundleSnapshot, ScopeScores
from routing.logged.scope import Scope
from routing.rescoring import can_rescore, rescore
from routing.rules import ScoringRules
from routing.snapshots import read_catalogue, read_evidence, rules_of, score_all
from telemetry.clickhouse import ClickHouse


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a persona asks of one tenant's profiles, and the shares of its conversations; 0 to 1."""

    rules: ScoringRules
    default: str
    exploration: float
    holdout: float
    switch_margin: float


def candidate_of(scope: Scope, persona: Persona, default: str | None = None) -> Candidate:
    """The live policy of a scope by this persona, which may have changed values; ``default``: another default
    profile's slug."""
    own = ScopeDefault.objects.filter(tenant__slug=scope.tenant, persona__slug=scope.persona)
    live = own.values_list("profile__slug", flat=True).first() or persona.default_profile.slug
    return Candidate(
        rules=rules_of(persona),
        default=default or live,
        exploration=float(persona.exploration_share),
        holdout=float(persona.holdout_share),
        switch_margin=float(persona.switch_margin),
    )


#: The scope's scores in a snapshot by the candidate's rules, when they do not follow from its scorecards.
Rescore = Callable[[BundleSnapshot], ScopeScores]


def instead(bundle: Bundle, scope: Scope, candidate: Candidate, anew: Rescore) -> Bundle:
    """The bundle with the candidate for this scope; flag, overrides and catalogue are as they were. Pure but for
    ``anew``."""
    persona = replace(
        bundle.personas[scope.persona],
        exploration_share=candidate.exploration,
        holdout_share=candidate.holdout,
        switch_margin=candidate.switch_margin,
    )
    key = (scope.tenant, scope.persona)
    after = replace(
        bundle,
        personas={**bundle.personas, scope.persona: persona},
        scope_defaults={**bundle.scope_defaults, key: candidate.default},
    )
    snapshot = bundle.snapshot
    if snapshot is None:
        return after
    own = snapshot.scopes.get(key)
    known = own if own is not None else snapshot.persona_scopes.get(scope.persona)
    if known is None:
        return after
    if known.rules is not None and can_rescore(known.rules, candidate.rules):
        scores = rescore(known, candidate.rules, candidate.default, borrowed=own is None)
    else:
        scores = anew(snapshot)
    return replace(after, snapshot=replace(snapshot, scopes={**snapshot.scopes, key: scores}))


class Candidates:
    """Past bundles with a candidate in them."""

    def __init__(self, scope: Scope, candidate: Candidate, clickhouse: ClickHouse) -> None:
        self._scope, self._candidate, self._clickhouse = scope, candidate, clickhouse
        # Catalogues change, but scores need only names, rules and defaults, and the last two are the candidate's.
        self._catalogue = replace(
            read_catalogue(),
            rules={scope.persona: candidate.rules},
            incumbents={scope.persona: candidate.default},
            scope_incumbents={(scope.tenant, scope.persona): candidate.default},
        )

    def instead(self, bundle: Bundle) -> Bundle:
        """The bundle by the candidate. Raises ClickHouseError when scores must be made anew from roll-ups."""
        return instead(bundle, self._scope, self._candidate, self._anew)

    def _anew(self, snapshot: BundleSnapshot) -> ScopeScores:
        # The windows that the snapshot saw, but for what was reported late since.
        windows = read_evidence(self._clickhouse, snapshot.created_at, self._scope.persona)
        return score_all(self._catalogue, windows).scopes[self._scope.tenant, self._scope.persona]
