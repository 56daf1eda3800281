"""Reads the policy from the database: a bounded number of queries, and what has not changed is used again."""

from collections.abc import Iterable
from datetime import datetime
from sys import intern
from typing import Any

from django.conf import settings

from catalog.models import ModelProfile, Persona, ScopeDefault, Tenant
from overrides import selectors
from overrides.flags import read_flag
from routing.circuit import Circuit, Circuits
from routing.engine import (
    Bundle,
    BundlePersona,
    BundleProfile,
    BundleTenant,
    FlagState,
    Standing,
    StandingOverride,
)
from routing.quarantining.services import standing as quarantined
from routing.standing import Kind

_COLUMNS = (
    "id",
    "kind",
    "profile__slug",
    "tenant__slug",
    "persona__slug",
    "task",
    "expires_at",
)
#: Rows that are read at a time.
_CHUNK = 2_000
_KINDS = {kind.value: kind for kind in Kind}


def read_policy(last: Bundle | None, now: datetime) -> Bundle:
    """The policy now, without version and snapshot. ``last``, what was read before, saves time and memory."""
    flag = read_flag()
    personas = Persona.objects.select_related("default_profile")
    defaults = ScopeDefault.objects.values_list("tenant__slug", "persona__slug", "profile__slug")
    return Bundle(
        version="",
        tenants=_tenants(last),
        personas={p.slug: _persona(p) for p in personas},
        scope_defaults={(tenant, persona): profile for tenant, persona, profile in defaults},
        profiles={p.slug: _profile(p) for p in ModelProfile.objects.all()},
        enabled_tiers=settings.ENABLED_TIERS,
        flag=FlagState(flag.everyone, flag.percent, flag.tenants, flag.salt, flag.scopes),
        snapshot=None,
        standing=_standing(last.standing if last else Standing(), now),
    )


def _tenants(last: Bundle | None) -> dict[str, BundleTenant]:
    known = last.tenants if last else {}
    found = {}
    for slug, enabled in Tenant.objects.values_list("slug", "enabled"):
        kept = known.get(slug)
        found[slug] = kept if kept and kept.enabled is enabled else BundleTenant(intern(slug), enabled)
    return found


def _standing(last: Standing, now: datetime) -> Standing:
    killed_all, killed = selectors.killed()
    # What expires later is left to the clock of each decision. Rows instead of models: a tenth of the time.
    rows = selectors.standing(now).order_by("id").select_related(None).values_list(*_COLUMNS)
    known = {override.id: override for override in last.overrides}
    # Piece by piece: all rows at once are memory that stays broken up.
    overrides, fresh = _used_again(known, rows.iterator(chunk_size=_CHUNK))
    kept = {override.id: override for override in overrides}
    gone = [override for override in last.overrides if kept.get(override.id) is not override]
    return last.followed_by(overrides, gone, fresh, killed, killed_all, _circuits(now))


def _circuits(now: datetime) -> Circuits:
    rows = quarantined(now).order_by("id").select_related(None)
    columns = ("id", "profile__slug", "sentinel", "opened_at", "probe_at", "expires_at")
    items = tuple(Circuit(*row) for row in rows.values_list(*columns))
    return Circuits(items, settings.PROFILE_QUARANTINE_PROBE_SHARE if items else 0.0)


def _used_again(
    known: dict[int, StandingOverride], rows: Iterable[tuple[Any, ...]]
) -> tuple[tuple[StandingOverride, ...], list[StandingOverride]]:
    """All overrides in the rows' order, and those of them that were not known, or not like this."""
    overrides, fresh = [], []
    for id_, kind, profile, tenant, persona, task, expires_at in rows:
        was = known.get(id_)
        if (
            was is not None
            and was.expires_at == expires_at
            and was.profile == profile
            and was.kind == kind
            and was.tenant == tenant
            and was.persona == persona
            and was.task == task
        ):
            overrides.append(was)
            continue
        new = StandingOverride(
            id_, _KINDS[kind], intern(profile), _same(tenant), _same(persona), _same(task), expires_at
        )
        overrides.append(new)
        fresh.append(new)
    return tuple(overrides), fresh


def _same(text: str | None) -> str | None:
    """Each row brings strings of its own, of which most say what others say: one is kept of each."""
    return None if text is None else intern(text)


def _persona(persona: Persona) -> BundlePersona:
    return BundlePersona(
        slug=persona.slug,
        enabled=persona.enabled,
        default_profile=persona.default_profile.slug,
        exploration_share=float(persona.exploration_share),
        holdout_share=float(persona.holdout_share),
        switch_margin=float(persona.switch_margin),
    )


def _profile(profile: ModelProfile) -> BundleProfile:
    return BundleProfile(
        slug=profile.slug,
        provider=profile.provider,
        model=profile.model,
        base_url=profile.base_url,
        tier=profile.tier,
        enabled=profile.enabled,
        context_window=profile.context_window,
    )
