"""The bundle as it would be after a proposed change, scored as the next scoring run would, and the parts of all
requests that the change touches."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError

from catalog.models import Persona
from overrides.precedence import NEWEST, Hypothetical
from overrides.previewing import Proposal
from routing.comparing import Part
from routing.engine import Bundle, BundlePersona, FlagState, ScopeScores, Standing, StandingOverride
from routing.rescoring import can_rescore, rescore
from routing.rules import ScoringRules
from routing.snapshots import read_catalogue, read_evidence, rules_of, score_all
from routing.standing import Kind
from telemetry.clickhouse import ClickHouse


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a persona asks now, and what it would ask."""

    old: ScoringRules
    new: ScoringRules


class NotKnownYet(Exception):
    """The change names something that the bundle does not have: it is newer than the bundle, or does not exist."""


def proposed(bundle: Bundle, proposal: Proposal, clickhouse: ClickHouse) -> Bundle:
    """Raises ValidationError for a persona's values, ValueError for values that no persona has, NotKnownYet, and
    ClickHouseError when scores do not follow from scorecards and the metrics cannot be read."""
    rows = _personas(proposal)
    _check_names(bundle, proposal, rows)
    asked = {slug: _asked(row, proposal.personas.get(slug, {})) for slug, row in rows.items()}
    after = replace(
        bundle,
        standing=_standing(bundle.standing, proposal),
        flag=bundle.flag if proposal.flag is None else _flag(proposal),
        personas={**bundle.personas, **_bundle_personas(bundle, proposal, rows)},
        scope_defaults=_scope_defaults(bundle, proposal),
    )
    return _rescored(bundle, after, proposal, asked, clickhouse)


def parts_of(bundle: Bundle, after: Bundle, proposal: Proposal) -> list[Part]:
    """What the change can touch."""
    gone = [override for override in bundle.standing.overrides if override.id in proposal.remove]
    parts = [Part(o.tenant, o.persona, o.task) for o in gone]
    parts += [Part(o.tenant, o.persona, o.task) for o in proposal.add]
    parts += [Part(tenant, None) for tenant in proposal.kill_switch]
    parts += [Part(None, persona) for persona in proposal.personas]
    parts += [Part(tenant, persona) for tenant, persona in proposal.scope_defaults]
    if proposal.flag is not None:
        parts += _flagged(bundle, after)
    return parts


def _flagged(bundle: Bundle, after: Bundle) -> list[Part]:
    """What gets another share of the flag: tenants, and scopes with a share of their own before or after."""
    old, new = bundle.flag, after.flag
    parts = [Part(slug, None) for slug in bundle.tenants if old.tenant_share(slug) != new.tenant_share(slug)]
    for tenant in {*old.scopes, *new.scopes} & bundle.tenants.keys():
        personas = {*old.scopes.get(tenant, ()), *new.scopes.get(tenant, ())}
        parts += [
            Part(tenant, slug) for slug in personas if old.share(tenant, slug) != new.share(tenant, slug)
        ]
    return parts


def _check_names(bundle: Bundle, proposal: Proposal, rows: Mapping[str, Persona]) -> None:
    """Names must be known: an override for nobody would read as one without effect."""
    tenants = {o.tenant for o in proposal.add} | {*proposal.kill_switch}
    tenants |= {tenant for tenant, _ in proposal.scope_defaults}
    personas = {o.persona for o in proposal.add} | {*proposal.personas}
    personas |= {persona for _, persona in proposal.scope_defaults}
    profiles = {o.profile for o in proposal.add} | {*proposal.scope_defaults.values()}
    profiles |= {changed.get("default_profile") for changed in proposal.personas.values()}
    wanted = {*proposal.personas, *(persona for _, persona in proposal.scope_defaults)}
    known: tuple[tuple[str, set[Any], Mapping[str, object]], ...] = (
        ("tenant", tenants, bundle.tenants),
        ("persona", personas, bundle.personas),
        ("persona", wanted, rows),
        ("profile", profiles, bundle.profiles),
    )
    for what, names, there in known:
        if unknown := sorted(names - {None} - there.keys()):
            raise NotKnownYet(f"the {what} '{unknown[0][:80]}'")


def _standing(standing: Standing, proposal: Proposal) -> Standing:
    if not (proposal.remove or proposal.add or proposal.kill_switch):
        return standing
    added = tuple(_override(wished, number) for number, wished in enumerate(proposal.add))
    gone = proposal.remove | {override.id for override in added}
    on = {tenant for tenant, switched in proposal.kill_switch.items() if switched and tenant is not None}
    off = {tenant for tenant, switched in proposal.kill_switch.items() if not switched and tenant is not None}
    kept = tuple(override for override in standing.overrides if override.id not in gone)
    return Standing(
        overrides=(*kept, *added),
        killed=(standing.killed | on) - off,
        killed_all=proposal.kill_switch.get(None, standing.killed_all),
        circuits=standing.circuits,
    )


def _override(wished: Hypothetical, number: int) -> StandingOverride:
    return StandingOverride(
        # Of several new ones the last is the newest.
        id=NEWEST - 1_000_000 + number if wished.id is None else wished.id,
        kind=Kind(wished.kind),
        profile=wished.profile,
        tenant=wished.tenant,
        persona=wished.persona,
        task=wished.task,
        expires_at=wished.expires_at,
    )


def _flag(proposal: Proposal) -> FlagState:
    flag = proposal.flag
    assert flag is not None  # noqa: S101  # looked at before
    return FlagState(flag.everyone, flag.percent, flag.tenants, flag.salt, flag.scopes)


def _personas(proposal: Proposal) -> dict[str, Persona]:
    """The personas whose scores may change, by slug; one query, none for a change that touches no scores."""
    wanted = {*proposal.personas, *(persona for _, persona in proposal.scope_defaults)}
    if not wanted:
        return {}
    rows = Persona.objects.select_related("default_profile").filter(slug__in=wanted)
    return {row.slug: row for row in rows}


def _asked(row: Persona, changed: Mapping[str, Any]) -> _Asked:
    """The rules before and after; afterwards the row has the changed values, but for its default."""
    old = rules_of(row)
    for name, value in changed.items():
        if name == "default_profile":
            continue
        try:
            field: Any = Persona._meta.get_field(name)
        except FieldDoesNotExist:
            raise ValueError(f"A persona has no '{name[:80]}'.") from None
        try:
            # A float would bring its binary tail along.
            setattr(row, name, field.clean(repr(value) if isinstance(value, float) else value, row))
        except ValidationError as error:
            raise ValidationError({name: error.messages}) from None
    row.clean()
    return _Asked(old, rules_of(row))


def _bundle_personas(
    bundle: Bundle, proposal: Proposal, rows: Mapping[str, Persona]
) -> dict[str, BundlePersona]:
    found = {}
    for slug, changed in proposal.personas.items():
        row, default = rows[slug], changed.get("default_profile", bundle.personas[slug].default_profile)
        found[slug] = BundlePersona(
            slug=slug,
            enabled=row.enabled,
            default_profile=default,
            exploration_share=float(row.exploration_share),
            holdout_share=float(row.holdout_share),
            switch_margin=float(row.switch_margin),
        )
    return found


def _scope_defaults(bundle: Bundle, proposal: Proposal) -> Mapping[tuple[str, str], str]:
    if not proposal.scope_defaults:
        return bundle.scope_defaults
    wanted = {**bundle.scope_defaults, **proposal.scope_defaults}
    return {scope: profile for scope, profile in wanted.items() if profile is not None}


def _rescored(
    bundle: Bundle, after: Bundle, proposal: Proposal, asked: Mapping[str, _Asked], clickhouse: ClickHouse
) -> Bundle:
    """With scores as the next scoring run would make them."""
    snapshot = bundle.snapshot
    if snapshot is None or not asked:
        return after
    scopes, shared = dict(snapshot.scopes), dict(snapshot.persona_scopes)
    for persona, rules in asked.items():
        whole = persona in proposal.personas
        if whole and not can_rescore(rules.old, rules.new):
            own, all_tenants = _scored_anew(after, persona, rules.new, clickhouse)
            scopes |= own
            shared[persona] = all_tenants
            continue
        touched = [scope for scope in proposal.scope_defaults if scope[1] == persona]
        if whole:
            touched += [scope for scope in snapshot.scopes if scope[1] == persona]
            if persona in shared:
                shared[persona] = _again(after, None, persona, shared[persona], rules)
        for tenant, _ in touched:
            known = snapshot.scopes.get((tenant, persona), snapshot.persona_scopes.get(persona))
            if known is not None:
                borrowed = (tenant, persona) not in snapshot.scopes
                scopes[tenant, persona] = _again(after, tenant, persona, known, rules, borrowed)
    return replace(after, snapshot=replace(snapshot, scopes=scopes, persona_scopes=shared))


def _again(
    after: Bundle,
    tenant: str | None,
    persona: str,
    scores: ScopeScores,
    rules: _Asked,
    borrowed: bool = False,
) -> ScopeScores:
    default = after.personas[persona].default_profile
    incumbent = default if tenant is None else after.default_profile(tenant, persona)
    if rules.old == rules.new and incumbent == scores.incumbent and not borrowed:
        return scores
    return rescore(scores, rules.new, incumbent, borrowed)


def _scored_anew(
    after: Bundle, persona: str, rules: ScoringRules, clickhouse: ClickHouse
) -> tuple[dict[tuple[str, str], ScopeScores], ScopeScores]:
    """Scores of a persona's scopes, and over all tenants, from the metrics that the snapshot was scored from."""
    assert after.snapshot is not None  # noqa: S101  # looked at before
    catalogue = replace(
        read_catalogue(),
        rules={persona: rules},
        incumbents={persona: after.personas[persona].default_profile},
        scope_incumbents={scope: d for scope, d in after.scope_defaults.items() if scope[1] == persona},
    )
    # The windows that the snapshot saw: what is newer would look like an effect of the change.
    windows = read_evidence(clickhouse, after.snapshot.created_at, persona)
    scored = score_all(catalogue, windows)
    return dict(scored.scopes), scored.persona_scopes[persona]
