"""Objects as JSON values: what the audit log tells of them, and how one is set to such a state (again).

A state holds the row's own fields by name, related rows by their slugs, and lists of what hangs on it. Hashes and
secrets are never in it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import models

from catalog.models import ModelProfile, Persona, PriceRevision, ScopeDefault, ServiceKey, Tenant
from overrides import hangers
from overrides.models import Flag
from overrides.values import plain

State = dict[str, Any]

_HIDDEN = {
    "id",
    "password",
    "hashed_key",
    "secret",
    "last_login",
    "created_at",
    "updated_at",
    "modified",
    "created",
}


@dataclass(frozen=True, slots=True)
class Hanger:
    """Something that hangs on a row and is told with it: how it is read, and how it is set."""

    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None]


#: Every model whose changes are audited. Other apps add theirs (``tell_of``).
TOLD: dict[type[models.Model], Mapping[str, Hanger]] = {
    Tenant: {"defaults": Hanger(hangers.tenant_defaults, hangers.set_tenant_defaults)},
    Persona: {},
    ModelProfile: {"prices": Hanger(hangers.profile_prices, hangers.set_profile_prices)},
    PriceRevision: {},
    ScopeDefault: {},
    ServiceKey: {"tenants": Hanger(hangers.key_tenants, hangers.set_key_tenants)},
    Flag: {
        "tenants": Hanger(hangers.flag_tenants, hangers.set_flag_tenants),
        "scopes": Hanger(hangers.flag_scopes, hangers.set_flag_scopes),
    },
    User: {"rights": Hanger(hangers.user_rights, hangers.set_user_rights)},
    Group: {"permissions": Hanger(hangers.group_rights, hangers.set_group_rights)},
}


def tell_of(model: type[models.Model]) -> None:
    """Have changes of another model audited, too."""
    TOLD[model] = {}


def object_type(row: models.Model) -> str:
    return str(row._meta.model_name)


def object_id(row: Any) -> str:
    """As the audit log names it: a key's own id is its hash, so its prefix stands for it."""
    return str(row.prefix if isinstance(row, ServiceKey) else row.pk)


def find(kind: str, key: str, lock: bool = False) -> Any:
    """The row that an audit entry names, or None. Locked until the transaction ends, if asked."""
    model = next((model for model in TOLD if model._meta.model_name == kind), None)
    if model is None:
        return None
    rows: Any = model._default_manager.all()
    if lock:
        rows = rows.select_for_update(of=("self",))
    if model is ServiceKey:
        return rows.filter(prefix=key).first()
    return rows.filter(pk=int(key)).first() if key.isdecimal() else None


def describe(row: models.Model) -> State:
    """JSON values, as the row is in memory."""
    fields = {
        field.name: plain(getattr(row, field.name))
        for field in row._meta.concrete_fields
        if field.name not in _HIDDEN
    }
    return fields | {name: hanger.read(row) for name, hanger in TOLD[type(row)].items()}


def stored(row: models.Model) -> State:
    """As the database has it now: a form leaves values of other types on the row."""
    return describe(type(row)._default_manager.get(pk=row.pk))


def tag_of(state: Mapping[str, Any]) -> str:
    """What changes whenever the state does, for ETag and If-Match."""
    return hashlib.sha256(orjson.dumps(state, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def set_state(row: models.Model, wanted: Mapping[str, Any]) -> None:
    """Set the members that ``wanted`` names and save. Raises ValidationError by field."""
    told = TOLD[type(row)]
    own = {field.name: field for field in row._meta.concrete_fields if field.name not in _HIDDEN}
    if unknown := sorted(set(wanted) - set(own) - set(told)):
        raise ValidationError({"": f"Unknown members: {', '.join(unknown)[:200]}."})
    for name in set(wanted) & set(own):
        setattr(row, name, _value(own[name], wanted[name]))
    row.full_clean()
    row.save()
    for name, hanger in told.items():
        if name in wanted:
            hanger.write(row, wanted[name])


def _value(field: Any, value: Any) -> Any:
    if value is None or not field.is_relation:
        # A float would bring its binary tail along.
        return field.to_python(repr(value) if isinstance(value, float) else value)
    found = field.related_model._default_manager.filter(slug=value).first()
    if found is None:
        raise ValidationError(
            {field.name: f"There is no {field.related_model._meta.verbose_name} '{value}'."}
        )
    return found


def tenant_of(row: models.Model) -> str | None:
    """The tenant that a row belongs to; None: to none alone."""
    tenant = row if isinstance(row, Tenant) else getattr(row, "tenant", None)
    return tenant.slug if isinstance(tenant, Tenant) else None
