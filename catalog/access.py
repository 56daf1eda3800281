"""Who may ask what: service keys for machines, signed-in staff for people, both bound to tenants.

Every API view reads ``caller(request)`` and filters by its tenants, so a foreign tenant looks like one
that does not exist.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from catalog.models import ServiceKey, Tenant
from catalog.outage import AWAY, outage
from catalog.problems import Problem

KEYWORD = "Api-Key"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller: ``tenants`` None means all of them."""

    name: str
    verbs: frozenset[str]
    tenants: frozenset[str] | None
    expires: datetime | None = None
    is_authenticated: bool = True
    is_active: bool = True

    def may_see(self, tenant: str) -> bool:
        return self.tenants is None or tenant in self.tenants


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


def verify(key: str) -> Caller | None:
    """The caller that a key stands for, or None."""
    cache = caches["service_keys"]
    # The cache never holds the key itself.
    digest = hashlib.sha256(key.encode()).hexdigest()
    caller: Caller | None = cache.get(digest)
    if caller is None:
        try:
            with outage.watch():
                caller = _look_up(key)
        except AWAY:
            # Nobody can revoke a key either while the database is away: what was true last goes on.
            caller = cache.get(f"{digest}/last")
            if caller is None:
                raise
        else:
            if caller is not None:
                cache.set(digest, caller, timeout=settings.SERVICE_KEY_CACHE_SECONDS)
                cache.set(f"{digest}/last", caller, timeout=settings.SERVICE_KEY_GRACE_SECONDS)
            else:
                cache.delete(f"{digest}/last")
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
    """The caller of an authenticated request. Staff who may view tenants read as people, and override if they
    may change overrides; they never select or ingest."""
    if isinstance(request.user, Caller):
        return request.user
    user = request.user
    if user.is_authenticated and user.is_staff and user.has_perm("catalog.view_tenant"):
        verbs = {"read"} | ({"override"} if user.has_perm("overrides.change_override") else set())
        return Caller(name=f"user:{user.get_username()}", verbs=frozenset(verbs), tenants=None)
    return Caller(name="anonymous", verbs=frozenset(), tenants=frozenset())


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
