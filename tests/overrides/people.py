"""People with roles, signed in, for tests."""

from typing import Any

import orjson
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from catalog.models import TenantGrant
from tests import factories

REASON = "the cheap one went mad"


def someone(
    name: str, *, role: str | None = None, at: dict[str, str] | None = None, may: tuple[str, ...] = ()
) -> Client:
    """A client signed in as staff: with a role at all tenants, roles at some (tenant to role), and permissions."""
    user = User.objects.create_user(name, is_staff=True)
    if role:
        user.groups.add(Group.objects.get(name=role))
    for tenant, group in (at or {}).items():
        TenantGrant.objects.create(
            user=user, group=Group.objects.get(name=group), tenant=factories.tenant(tenant)
        )
    user.user_permissions.set(Permission.objects.filter(codename__in=may))
    client = Client()
    client.force_login(user)
    return client


def call(
    client: Client,
    method: str,
    path: str,
    body: Any = None,
    key: dict[str, str] | None = None,
    **headers: str,
) -> Any:
    """A request with a JSON body to the API; ``If_Match`` is sent as If-Match."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.generic(
        method.upper(),
        f"/api/v1{path}",
        b"" if body is None else orjson.dumps(body),
        content_type="application/json",
        headers={**(key or {}), **named},
    )
