"""The three roles as Django groups: viewer, operator, admin. Each migrate makes them just what stands here.

Somebody in a group has the role at all tenants; a tenant grant gives it at one. Rights beyond a role ("no expiry",
"all tenants at once", "approve") are given to people, or to groups of one's own.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from django.apps import apps as current_apps
from django.db.models import Q

VIEWER, OPERATOR, ADMIN = "viewer", "operator", "admin"

_VIEWER = (
    *(f"catalog.view_{model}" for model in ("tenant", "persona", "modelprofile", "pricerevision")),
    "catalog.view_scopedefault",
    *(f"overrides.view_{model}" for model in ("flag", "flagtenant", "override", "killswitch")),
    *(f"overrides.view_{model}" for model in ("auditentry", "changerequest")),
    *(f"routing.view_{model}" for model in ("selection", "scoresnapshot", "policyrevision", "alert")),
    *(f"telemetry.view_{model}" for model in ("quarantinedevent", "quarantinecount", "pipelinestage")),
    *(f"telemetry.view_{model}" for model in ("spoolbatch", "ingestedfile")),
)
_OPERATOR = (*_VIEWER, "overrides.change_override", "overrides.change_killswitch")

#: Role to permissions; None: all of the apps in _ADMINISTERED.
ROLES: Mapping[str, Iterable[str] | None] = {VIEWER: _VIEWER, OPERATOR: _OPERATOR, ADMIN: None}
_ADMINISTERED = ("catalog", "telemetry", "overrides", "routing", "auth", "axes")


def ensure_roles(using: str, apps: Any = current_apps, **_: Any) -> None:
    """After every migrate and flush: the groups are there, with these permissions and no others."""
    try:
        groups = apps.get_model("auth", "Group").objects.using(using)
        permissions = apps.get_model("auth", "Permission").objects.using(using)
    except LookupError:
        return  # migrated back to before there were groups
    for role, wanted in ROLES.items():
        group, _created = groups.get_or_create(name=role)
        found = permissions.filter(_condition(wanted))
        if set(group.permissions.values_list("pk", flat=True)) != set(found.values_list("pk", flat=True)):
            group.permissions.set(found)


def _condition(wanted: Iterable[str] | None) -> Q:
    if wanted is None:
        return Q(content_type__app_label__in=_ADMINISTERED)
    condition = Q(pk__in=())
    for name in wanted:
        app, codename = name.split(".")
        condition |= Q(content_type__app_label=app, codename=codename)
    return condition
