"""Which changes need a second person: those that touch a tenant or persona under four eyes.

Every service that writes asks ``guard`` in its own transaction, so that no door (page, API, bulk, command) goes
round it. What has been approved comes with the change request's number in its actor (``overrides.approvals``).
"""

from collections.abc import Iterable

from django.db.models import Q

from catalog.models import Persona, Tenant
from overrides.audit import Actor

#: (tenant, persona) that a change touches, by slug; None: all.
Scope = tuple[str | None, str | None]


class NeedsApproval(Exception):
    """A second person must approve this first."""

    def __init__(self, whose: str) -> None:
        super().__init__(
            f"Changes of {whose} need a second person's approval: propose it as a change request."
        )


def guard(actor: Actor, scopes: Iterable[Scope]) -> None:
    """Raise NeedsApproval unless the change is approved, or touches nothing that is under four eyes."""
    if actor.change_request is None and (whose := protected(scopes)):
        raise NeedsApproval(whose)


def protected(scopes: Iterable[Scope]) -> str | None:
    """What of these scopes is under four eyes, for people ("the tenant aurora"); None: nothing. A change for all
    tenants touches each of them, protected ones included."""
    for tenant, persona in scopes:
        for model, slug in ((Tenant, tenant), (Persona, persona)):
            found = model._default_manager.filter(Q() if slug is None else Q(slug=slug), four_eyes=True)
            if (name := found.values_list("slug", flat=True).first()) is not None:
                return f"the {model._meta.model_name} {name}"
    return None
