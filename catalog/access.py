"""Who may ask what: service keys for machines, signed-in staff for people, both bound to tenants.

Every API view reads ``caller(request)`` and filters by its tenants, so a foreign tenant looks like one
that does not exist.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from catalog.grants import reach
from catalog.models import ServiceKey, Tenant
from catalog.outage import AWAY, outage
from catalog.problems import Problem
from catalog.tenancy import Tenants
from catalog.verified import Verified

KEYWORD = "Api-Key"

#: What people may do over the API, and the Django permission that says so. They never select or ingest.
PERMISSIONS = {
    "read": "catalog.view_tenant",
    "override": "overrides.change_override",
    "no_expiry": "overrides.override_without_expiry",
    "global_scope": "overrides.override_all_tenants",
    "approve": "overrides.approve_changerequest",
    "personas": "catalog.change_persona",
    "flags": "overrides.change_flagtenant",
    "catalogue": "catalog.change_modelprofile",
    "access": "auth.change_user",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. ``tenants``: those it may see (None: all). ``narrower``: verbs that hold for fewer
    tenants than that, and for which."""

    name: str
    verbs: frozenset[str]
    tenants: Tenants
    expires: datetime | None = None
    role: str = "service"
    narrower: Mapping[str, frozenset[str]] = field(default_factory=dict)
    is_authenticated: bool = True
    is_active: bool = True

    def may_see(self, tenant: str) -> bool:
        return self.tenants is None or tenant in self.tenants

    def reach(self, verb: str) -> Tenants:
        """The tenants that it holds a verb for; empty: it does not hold it."""
        if verb not in self.verbs:
            return frozenset()
        return self.narrower.get(verb, self.tenants)

    def may(self, verb: str, tenant: str | None) -> bool:
        """Whether it may do this for a tenant (None: for all of them at once)."""
        tenants = self.reach(verb)
        return tenants is None or tenant in tenants


class ServiceKeyAuthentication(BaseAuthentication):
    """``Authorization: Api-Key <key>``. A verified key is trusted for a few seconds
    (SERVICE_KEY_CACHE_SECONDS), which is also how long a revoked one may still work."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != KEYWORD.lower().encode():
            return None
        if len(parts) != 2:
            raise AuthenticationFailed(f"The header reads: Authorization: {KEYWORD} <key>.")
        caller = verify(parts[1].decode("latin-1"))
        if caller is None:
            raise AuthenticationFailed("This key is unknown, revoked or expired.")
        return caller, None

    def authenticate_header(self, request: Request) -> str:
        return KEYWORD


_verified: Verified[Caller] = Verified(most=20_000)
_HEADER = f"{KEYWORD} "


def verify(key: str) -> Caller | None:
    """The caller that a key stands for, or None."""
    digest = _digest(key)
    caller = _verified.fresh(digest)
    if caller is None:
        try:
            with outage.watch():
                caller = _look_up(key)
        except AWAY:
            # Nobody can revoke a key either while the database is away: what was true last goes on.
            caller = _verified.last(digest)
            if caller is None:
                raise
        else:
            if caller is not None:
                fresh, grace = settings.SERVICE_KEY_CACHE_SECONDS, settings.SERVICE_KEY_GRACE_SECONDS
                _verified.keep(digest, caller, fresh, grace)
            else:
                _verified.drop(digest)
    return _unless_expired(caller)


def verify_header(value: str) -> Caller | None:
    """The caller of an Authorization header whose key was verified a moment ago, or goes on while the database is away.
    None says nothing of the key: ``ServiceKeyAuthentication`` shall look at it. It never asks the database."""
    if not value.startswith(_HEADER) or not value.isascii():
        return None
    digest = _digest(value[len(_HEADER) :])
    caller = _verified.fresh(digest)
    if caller is None and outage.is_on:
        caller = _verified.last(digest)
    return _unless_expired(caller)


def forget_keys() -> None:
    """Look every key up again (for tests, which change them behind our back)."""
    _verified.forget()


def _digest(key: str) -> bytes:
    # The key itself is never kept.
    return hashlib.sha256(key.encode()).digest()


def _unless_expired(caller: Caller | None) -> Caller | None:
    if caller is not None and caller.expires is not None and caller.expires <= timezone.now():
        return None
    return caller


def _look_up(key: str) -> Caller | None:
    if "\x00" in key or len(key) > 200:
        return None
    try:
        row: Any = ServiceKey.objects.get_from_key(key)
    except ServiceKey.DoesNotExist:
        return None
    tenants = None if row.all_tenants else frozenset(row.tenants.values_list("slug", flat=True))
    return Caller(
        name=f"key:{row.prefix}", verbs=frozenset(row.verbs), tenants=tenants, expires=row.expiry_date
    )


def caller(request: Request) -> Caller:
    """The caller of an authenticated request: a key, or staff with what their roles say."""
    user = request.user
    if isinstance(user, Caller):
        return user
    if not user.is_authenticated or not user.is_staff:
        return Caller(name="anonymous", verbs=frozenset(), tenants=frozenset(), role="")
    return person(user)


def person(user: Any) -> Caller:
    """Somebody who signed in. Who may not read may do nothing."""
    reaches = {verb: reach(user, permission) for verb, permission in PERMISSIONS.items()}
    tenants = reaches["read"]
    held = frozenset(verb for verb, where in reaches.items() if where is None or where)
    return Caller(
        name=f"user:{user.get_username()}",
        verbs=held if "read" in held else frozenset(),
        tenants=tenants,
        role=role_of(user, held),
        narrower={verb: where for verb, where in reaches.items() if where is not None and where != tenants},
    )


def role_of(user: Any, verbs: frozenset[str]) -> str:
    """In one word, for the audit log: the greatest role that somebody acts in."""
    if user.is_superuser or "personas" in verbs:
        return "admin"
    return "operator" if "override" in verbs else "viewer"


class HasVerb(BasePermission):
    """The view's ``verb`` must be among the caller's."""

    def has_permission(self, request: Request, view: Any) -> bool:
        verb: str = view.verb
        self.message = f"This needs the verb '{verb}'."
        return verb in caller(request).verbs


def visible_tenant(request: Request, slug: str) -> Tenant:
    """The tenant, or the same 404 for one that is foreign and one that is not there."""
    tenant = Tenant.objects.filter(slug=slug).first() if caller(request).may_see(slug) else None
    if tenant is None:
        raise Problem(404, "unknown_tenant", f"There is no tenant '{slug[:80]}' that this caller may see.")
    return tenant


def own_tenant(request: Request, slug: str | None) -> Tenant:
    """The tenant named, or the only one that the caller is bound to."""
    if slug is not None:
        return visible_tenant(request, slug)
    tenants = caller(request).tenants
    if tenants is None or len(tenants) != 1:
        raise Problem(400, "tenant_needed", "This caller may see several tenants: name one (?tenant=).")
    return visible_tenant(request, next(iter(tenants)))
