"""The flag that turns automatic selection on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps as current_apps

from overrides.models import Flag

AUTO_MODEL_SELECTION = "AUTO_MODEL_SELECTION_ENABLED"
_NOTE = "Automatic model selection. Off: every conversation gets its scope's default profile."


def ensure_flag(using: str, apps: Any = current_apps, **_: Any) -> None:
    """After every migrate and flush: the flag is there, off, so that admins find it to flip.

    A data migration would not survive a flush; this does, as Django's own permissions do.
    """
    try:
        model = apps.get_model("overrides", "Flag")
    except LookupError:
        return  # migrated back to before there was a flag
    model.objects.using(using).get_or_create(
        name=AUTO_MODEL_SELECTION, defaults={"note": _NOTE, "superusers": False}
    )


@dataclass(frozen=True, slots=True)
class FlagRow:
    """The flag as stored. Percentages are 0 to 100; ``everyone`` None means: look at the percentages. ``scopes``:
    tenant to persona to percentage."""

    everyone: bool | None = False
    percent: float = 0.0
    tenants: Mapping[str, float] = field(default_factory=dict)
    salt: str = ""
    scopes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def read_flag(name: str = AUTO_MODEL_SELECTION) -> FlagRow:
    """Read the flag in three queries; a flag that does not exist is off."""
    flag = Flag.objects.filter(name=name).first()
    if flag is None:
        return FlagRow()
    tenants = flag.tenant_rollouts.values_list("tenant__slug", "rollout_percent")
    scopes: dict[str, dict[str, float]] = {}
    rows = flag.scope_rollouts.values_list("tenant__slug", "persona__slug", "rollout_percent")
    for tenant, persona, percent in rows:
        scopes.setdefault(tenant, {})[persona] = float(percent)
    return FlagRow(
        everyone=flag.everyone,
        percent=float(flag.rollout_percent),
        tenants={slug: float(percent) for slug, percent in tenants},
        salt=flag.salt,
        scopes=scopes,
    )
