"""What hangs on audited rows: read as JSON values, and set to such values. Writers raise ValidationError."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.core.exceptions import ValidationError

from catalog.models import ModelProfile, Persona, PriceRevision, ScopeDefault, Tenant, TenantGrant
from overrides.models import FlagScope, FlagTenant
from overrides.values import plain


def named(model: Any, member: str, slug: str) -> Any:
    """The row of this slug; ValidationError for ``member`` when there is none."""
    found = model.objects.filter(slug=slug).first()
    if found is None:
        raise ValidationError({member: f"There is no {model._meta.verbose_name} '{slug}'."})
    return found


def tenant_defaults(tenant: Any) -> list[dict[str, Any]]:
    rows = ScopeDefault.objects.filter(tenant=tenant).order_by("pk").select_related("persona", "profile")
    return [{"tenant": tenant.slug, "persona": row.persona.slug, "profile": row.profile.slug} for row in rows]


def set_tenant_defaults(tenant: Any, wanted: Iterable[Mapping[str, Any]]) -> None:
    profiles = {item["persona"]: item["profile"] for item in wanted}
    ScopeDefault.objects.filter(tenant=tenant).exclude(persona__slug__in=profiles).delete()
    for persona, profile in profiles.items():
        whose = named(Persona, "defaults", persona)
        row = ScopeDefault.objects.filter(tenant=tenant, persona=whose).first()
        row = row or ScopeDefault(tenant=tenant, persona=whose)
        row.profile = named(ModelProfile, "defaults", profile)
        row.full_clean()
        row.save()


_PRICES = ("prompt_per_1k", "completion_per_1k", "cached_per_1k")


def profile_prices(profile: Any) -> list[dict[str, Any]]:
    rows = PriceRevision.objects.filter(profile=profile).order_by("valid_from")
    return [
        {"profile": profile.slug, "valid_from": plain(row.valid_from)}
        | {name: plain(getattr(row, name)) for name in _PRICES}
        for row in rows
    ]


def set_profile_prices(profile: Any, wanted: Iterable[Mapping[str, Any]]) -> None:
    at = {datetime.fromisoformat(item["valid_from"]): item for item in wanted}
    PriceRevision.objects.filter(profile=profile).exclude(valid_from__in=at).delete()
    for valid_from, item in at.items():
        row = PriceRevision.objects.filter(profile=profile, valid_from=valid_from).first()
        row = row or PriceRevision(profile=profile, valid_from=valid_from)
        for name in _PRICES:
            setattr(row, name, None if item[name] is None else Decimal(item[name]))
        row.full_clean()
        row.save()


def key_tenants(key: Any) -> list[str]:
    return sorted(key.tenants.values_list("slug", flat=True))


def set_key_tenants(key: Any, wanted: Iterable[str]) -> None:
    key.tenants.set([named(Tenant, "tenants", slug) for slug in wanted])


def flag_tenants(flag: Any) -> dict[str, Any]:
    rows = flag.tenant_rollouts.values_list("tenant__slug", "rollout_percent")
    return {slug: plain(percent) for slug, percent in rows}


def set_flag_tenants(flag: Any, wanted: Mapping[str, Any]) -> None:
    # Of thousands of shares one is changed, so only that one is written.
    standing = {slug: Decimal(percent) for slug, percent in flag_tenants(flag).items()}
    if gone := sorted(set(standing) - set(wanted)):
        # Rows are deleted as a set: the policy version goes up with it.
        flag.tenant_rollouts.filter(tenant__slug__in=gone).delete()
    for slug, percent in wanted.items():
        share = _percentage("tenants", slug, percent)
        if standing.get(slug) == share:
            continue
        whose = named(Tenant, "tenants", slug)
        row = FlagTenant.objects.filter(flag=flag, tenant=whose).first() or FlagTenant(
            flag=flag, tenant=whose
        )
        row.rollout_percent = share
        row.full_clean()
        row.save()


def flag_scopes(flag: Any) -> dict[str, dict[str, Any]]:
    """Tenant to persona to percentage."""
    rows = flag.scope_rollouts.values_list("tenant__slug", "persona__slug", "rollout_percent")
    found: dict[str, dict[str, Any]] = {}
    for tenant, persona, percent in rows:
        found.setdefault(tenant, {})[persona] = plain(percent)
    return found


def set_flag_scopes(flag: Any, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    standing, new = _by_scope(flag_scopes(flag)), _by_scope(wanted)
    for tenant, persona in sorted(standing.keys() - new.keys()):
        flag.scope_rollouts.filter(tenant__slug=tenant, persona__slug=persona).delete()
    for (tenant, persona), share in new.items():
        if standing.get((tenant, persona)) == share:
            continue
        whose, which = named(Tenant, "scopes", tenant), named(Persona, "scopes", persona)
        row = FlagScope.objects.filter(flag=flag, tenant=whose, persona=which).first()
        row = row or FlagScope(flag=flag, tenant=whose, persona=which)
        row.rollout_percent = share
        row.full_clean()
        row.save()


def _by_scope(shares: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Decimal]:
    return {
        (tenant, persona): _percentage("scopes", f"{tenant} × {persona}", percent)
        for tenant, of in shares.items()
        for persona, percent in of.items()
    }


def _percentage(member: str, whose: str, percent: Any) -> Decimal:
    try:
        return Decimal(str(percent))
    except InvalidOperation:
        raise ValidationError({member: f"{whose}: a percentage, 0 to 100."}) from None


def _codes(permissions: Any) -> list[str]:
    return [".".join(row) for row in permissions.order_by(*_CODE).values_list(*_CODE)]


_CODE = ("content_type__app_label", "codename")


def _permissions(codes: Iterable[str]) -> list[Permission]:
    wanted = {tuple(code.split(".", 1)) for code in codes}
    rows = Permission.objects.filter(codename__in=[code[-1] for code in wanted]).select_related(
        "content_type"
    )
    return [row for row in rows if (row.content_type.app_label, row.codename) in wanted]


def user_rights(user: Any) -> dict[str, list[str]]:
    grants = user.tenant_grants.values_list("group__name", "tenant__slug")
    return {
        "groups": sorted(user.groups.values_list("name", flat=True)),
        "permissions": _codes(user.user_permissions),
        "grants": sorted(f"{group} at {tenant}" for group, tenant in grants),
    }


def set_user_rights(user: Any, wanted: Mapping[str, Any]) -> None:
    user.groups.set(Group.objects.filter(name__in=wanted["groups"]))
    user.user_permissions.set(_permissions(wanted["permissions"]))
    if "grants" not in wanted:  # told before there were grants
        return
    user.tenant_grants.all().delete()
    for grant in wanted["grants"]:
        group, _, tenant = grant.rpartition(" at ")
        TenantGrant.objects.create(
            user=user, group=Group.objects.get(name=group), tenant=Tenant.objects.get(slug=tenant)
        )


def group_rights(group: Any) -> list[str]:
    return _codes(group.permissions)


def set_group_rights(group: Any, wanted: Iterable[str]) -> None:
    group.permissions.set(_permissions(wanted))
