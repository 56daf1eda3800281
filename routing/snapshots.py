"""Score snapshots: every scope scored from roll-ups, written once, read back only if intact."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Exists, Max, OuterRef

from catalog.models import ModelProfile, Persona, ScopeDefault, Tenant
from catalog.versions import current_version
from routing.archive import pack
from routing.engine import BundleSnapshot, ScopeScores
from routing.models import ScoreSnapshot, Selection
from routing.priors import Priors, priors_of
from routing.scoring import Evidence, ScoringRules, Sla, Weights, choose_evidence, score_scope
from telemetry import metrics
from telemetry.clickhouse import ClickHouse
from telemetry.partition import Partition
from telemetry.totals import Totals

_NOTHING = Totals()
_UNKNOWN = Priors()


def write_snapshot(clickhouse: ClickHouse, now: datetime) -> ScoreSnapshot:
    """Score every scope that has telemetry, and store the result. Raises ClickHouseError."""
    catalogue = read_catalogue()
    scored = score_all(catalogue, read_evidence(clickhouse, now))
    return store_snapshot(scored, catalogue.version, now)


def store_snapshot(scored: "Scored", policy_version: int, now: datetime) -> ScoreSnapshot:
    """Store the result of a scoring run; it steers from the next refresh of each process on."""
    return store_scores(scored.to_dict(now), len(scored.scopes), policy_version, now)


def store_scores(
    scores: Mapping[str, object], scopes: int, policy_version: int, now: datetime
) -> ScoreSnapshot:
    """The same of scores as ``Scored.to_dict`` gives them, of so many scopes."""
    checksum, payload = pack(scores)
    return ScoreSnapshot.objects.create(
        created_at=now, policy_version=policy_version, scopes=scopes, checksum=checksum, payload=payload
    )


def rules_of(persona: Persona) -> ScoringRules:
    """A persona's SLA, weights and standards of proof, as scoring takes them."""
    return ScoringRules(
        sla=Sla(
            min_success_rate=float(persona.min_success_rate),
            max_latency_p95_ms=persona.max_latency_p95_ms,
            max_safety_violation_rate=float(persona.max_safety_violation_rate),
            min_accuracy=None if persona.min_accuracy is None else float(persona.min_accuracy),
            max_cost_per_completion=persona.max_cost_per_completion,
        ),
        weights=Weights(
            cost=float(persona.weight_cost),
            success=float(persona.weight_success),
            latency=float(persona.weight_latency),
        ),
        confidence=float(persona.confidence),
        min_samples=persona.min_samples,
    )


@dataclass(frozen=True, slots=True)
class ScoringCatalogue:
    """What scoring needs of the catalogue, read at one policy version. Disabled profiles are scored too,
    so that enabling one takes effect at once; the engine decides who may win."""

    version: int
    rules: Mapping[str, ScoringRules]
    incumbents: Mapping[str, str]
    scope_incumbents: Mapping[tuple[str, str], str]
    profiles: frozenset[str]
    tenants: frozenset[str]
    #: Whether a profile's record under other personas counts (``PERSONAS_LEND``).
    personas_lend: bool = True


def read_catalogue() -> ScoringCatalogue:
    """A handful of queries, whatever the size."""
    version = current_version()
    personas = list(Persona.objects.select_related("default_profile"))
    defaults = ScopeDefault.objects.values_list("tenant__slug", "persona__slug", "profile__slug")
    return ScoringCatalogue(
        version=version,
        rules={persona.slug: rules_of(persona) for persona in personas},
        incumbents={persona.slug: persona.default_profile.slug for persona in personas},
        scope_incumbents={(tenant, persona): profile for tenant, persona, profile in defaults},
        profiles=frozenset(ModelProfile.objects.values_list("slug", flat=True)),
        tenants=frozenset(Tenant.objects.values_list("slug", flat=True)),
        personas_lend=settings.PERSONAS_LEND,
    )


#: Totals by profile, per scope; the tenant None stands for all tenants.
ByScope = dict[tuple[str | None, str], dict[str, Totals]]


@dataclass(frozen=True, slots=True)
class Windows:
    """Totals of the trailing 24 hours and of the trailing hour, by scope and profile."""

    day: ByScope
    hour: ByScope


def read_evidence(clickhouse: ClickHouse, now: datetime, persona: str | None = None) -> Windows:
    """Four queries on roll-ups: 24h and 1h, per scope and per persona over all tenants; scopes of one persona, or all.
    Over all tenants every persona is read, for each lends to the others."""
    return joined(read_own(clickhouse, now, persona=persona), read_pooled(clickhouse, now))


def read_own(
    clickhouse: ClickHouse,
    now: datetime,
    *,
    persona: str | None = None,
    partition: Partition | None = None,
) -> Windows:
    """Two queries: totals per scope, of one persona or one partition if so asked. Raises ClickHouseError."""

    def read(window: metrics.Window) -> ByScope:
        span = metrics.trailing(window, now)
        return _by_scope(metrics.read_totals(clickhouse, span, persona=persona, partition=partition))

    return Windows(day=read(metrics.Window.H24), hour=read(metrics.Window.H1))


def read_pooled(clickhouse: ClickHouse, now: datetime) -> Windows:
    """Two queries: totals per persona over all tenants. Raises ClickHouseError."""

    def read(window: metrics.Window) -> ByScope:
        return _by_scope(metrics.read_totals(clickhouse, metrics.trailing(window, now), by_tenant=False))

    return Windows(day=read(metrics.Window.H24), hour=read(metrics.Window.H1))


def joined(own: Windows, pooled: Windows) -> Windows:
    """Windows of which one has scopes and the other one personas over all tenants."""
    return Windows(day=own.day | pooled.day, hour=own.hour | pooled.hour)


def _by_scope(read: Mapping[metrics.Key, Totals]) -> ByScope:
    found: ByScope = {}
    for key, totals in read.items():
        found.setdefault((key.tenant, key.persona), {})[key.profile] = totals
    return found


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of every scope with telemetry or a default of its own, and per persona over all tenants."""

    scopes: Mapping[tuple[str, str], ScopeScores]
    persona_scopes: Mapping[str, ScopeScores]

    def to_dict(self, now: datetime) -> dict[str, Any]:
        return BundleSnapshot(
            id="", created_at=now, scopes=self.scopes, persona_scopes=self.persona_scopes
        ).to_dict()


def score_all(catalogue: ScoringCatalogue, windows: Windows) -> Scored:
    """Score every scope; pure, so that a bench or a replay can call it with totals of any origin."""
    lent = lend(catalogue, windows)
    scopes = score_scopes(catalogue, windows, lent, active_scopes(catalogue, windows))
    return Scored(scopes, score_personas(catalogue, windows, lent))


def active_scopes(catalogue: ScoringCatalogue, windows: Windows) -> list[tuple[str, str]]:
    """Those to be scored, in order: of known tenants and personas, with telemetry or a default of their own."""
    active = {
        (tenant, persona)
        for tenant, persona in windows.day
        if tenant is not None and tenant in catalogue.tenants and persona in catalogue.rules
    }
    # A tenant with a default of its own has another yardstick of cost, so it cannot use the persona's.
    active |= {scope for scope in catalogue.scope_incumbents if scope[1] in catalogue.rules}
    return sorted(active)


#: What other personas say of each profile, by the persona it is said to.
Lent = Mapping[str, Mapping[str, Priors]]


def lend(catalogue: ScoringCatalogue, windows: Windows) -> Lent:
    """From totals over all tenants, which must be those of every persona."""
    return {persona: _lent(catalogue, windows, persona) for persona in catalogue.rules}


def score_scopes(
    catalogue: ScoringCatalogue, windows: Windows, lent: Lent, scopes: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], ScopeScores]:
    """Scores of these scopes alone: no scope's depend on another's."""
    return {
        scope: _score(catalogue, windows, scope[0], scope[1], _incumbent(catalogue, scope), lent[scope[1]])
        for scope in scopes
    }


def score_personas(catalogue: ScoringCatalogue, windows: Windows, lent: Lent) -> dict[str, ScopeScores]:
    """Scores of every persona over all tenants."""
    return {
        persona: _score(catalogue, windows, None, persona, catalogue.incumbents[persona], lent[persona])
        for persona in sorted(catalogue.rules)
    }


def _lent(catalogue: ScoringCatalogue, windows: Windows, persona: str) -> dict[str, Priors]:
    """What other personas' metrics over all tenants say of each profile under this one."""
    if not catalogue.personas_lend:
        return {}
    everywhere = {of: totals for (tenant, of), totals in windows.day.items() if tenant is None}
    others = [_of_profiles(catalogue, everywhere[of]) for of in sorted(everywhere) if of != persona]
    here = _of_profiles(catalogue, everywhere.get(persona, {}))
    return priors_of(here, others, catalogue.rules[persona].sla.max_latency_p95_ms)


def _of_profiles(catalogue: ScoringCatalogue, found: Mapping[str, Totals]) -> dict[str, Totals]:
    """In order of profile: floats are summed up, and ClickHouse gives rows in any order."""
    return {profile: found[profile] for profile in sorted(found.keys() & catalogue.profiles)}


def _incumbent(catalogue: ScoringCatalogue, scope: tuple[str, str]) -> str:
    return catalogue.scope_incumbents.get(scope, catalogue.incumbents[scope[1]])


def _score(
    catalogue: ScoringCatalogue,
    windows: Windows,
    tenant: str | None,
    persona: str,
    incumbent: str,
    lent: Mapping[str, Priors],
) -> ScopeScores:
    rules = catalogue.rules[persona]
    evidence = []
    for profile in sorted(catalogue.profiles):
        own_day = windows.day.get((tenant, persona), {}).get(profile, _NOTHING)
        own_hour = windows.hour.get((tenant, persona), {}).get(profile, _NOTHING)
        shared_day = windows.day.get((None, persona), {}).get(profile, _NOTHING)
        shared_hour = windows.hour.get((None, persona), {}).get(profile, _NOTHING)
        priors = lent.get(profile, _UNKNOWN)
        evidence.append(
            choose_evidence(profile, own_day, own_hour, shared_day, shared_hour, rules.min_samples, priors)
        )
    cards = score_scope(rules, incumbent, evidence)
    return ScopeScores(scorecards=cards, as_of=_as_of(evidence), incumbent=incumbent, rules=rules)


def _as_of(evidence: Iterable[Evidence]) -> datetime | None:
    """How old the scope's metrics are: the newest event of each source used (own, borrowed); of the two
    the older one, since both steer."""
    newest: dict[bool, datetime] = {}
    for item in evidence:
        last = item.day.last_event_at
        if last is not None:
            newest[item.borrowed] = max(last, newest.get(item.borrowed, last))
    return min(newest.values(), default=None)


def newest_id() -> int | None:
    """The newest snapshot's id; one index read."""
    newest: int | None = ScoreSnapshot.objects.aggregate(newest=Max("id"))["newest"]
    return newest


def prune(before: datetime) -> int:
    """Delete snapshots made before a time, but never the newest, and none that a kept decision was made
    from; returns how many went."""
    used = Selection.objects.filter(snapshot=OuterRef("pk"))
    old = ScoreSnapshot.objects.filter(created_at__lt=before).exclude(pk=newest_id() or 0)
    return old.exclude(Exists(used)).delete()[0]
