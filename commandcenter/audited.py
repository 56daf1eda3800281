"""Changes made in the admin's own pages: audited in the transaction that makes them, bulk deletions included, and
proposed instead where four eyes are needed.

``AdminSite.register`` mixes this in, so that no page of these models can forget it.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone

from catalog.access import person
from catalog.models import ScopeDefault
from overrides import approvals, four_eyes, settings
from overrides.audit import Actor
from overrides.changes import Change
from overrides.models import AuditEntry
from overrides.states import TOLD as AUDITED
from overrides.states import State, describe, object_id, object_type, stored, tag_of

__all__ = ["AUDITED", "Audited", "actor_of", "describe"]

_REASON = "_reason"


def actor_of(request: HttpRequest) -> Actor:
    user: Any = request.user
    return Actor.asking(f"user:{user.get_username()}", person(user).role, request)


class _Waits(Exception):
    """Leaves the page's transaction, so that nothing of the change stays, with what it came to."""

    def __init__(self, change: Change) -> None:
        self.change = change


class _Refused(Exception):
    """Leaves the page's transaction; the message is for the person."""


class Audited(admin.ModelAdmin[Any]):
    """Tells the audit log what its pages change: the state before is read when the page's object is."""

    change_form_template = "admin/audited_change_form.html"

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        if row is not None and request.method == "POST":
            row._audit_before = describe(row)
            # Asked before the change, which may be the one that lifts the protection.
            row._audit_whose = four_eyes.protected(settings.scopes_of(row))
        return row

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except _Waits as waiting:
            filed = approvals.propose(waiting.change, actor_of(request), timezone.now())
            told = f"Nothing is changed yet: change request {filed.pk} waits for somebody else's approval."
            self.message_user(request, told, level=messages.WARNING)
        except _Refused as refused:
            self.message_user(request, str(refused), level=messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        if isinstance(obj, ScopeDefault):
            _refuse_protected(four_eyes.protected(settings.scopes_of(obj)))
        self._tell(request, AuditEntry.Verb.CREATE, obj, None, stored(obj), "made")
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        before, after = getattr(obj, "_audit_before", None), stored(obj)
        if before != after:
            self._hold(request, obj, before, after)
        # A password's change shows in no field, and is told nevertheless.
        if before != after or message:
            self._tell(request, AuditEntry.Verb.UPDATE, obj, before, after, "changed")
        return super().log_change(request, obj, message)

    def _hold(self, request: HttpRequest, row: Any, before: State | None, after: State) -> None:
        whose = getattr(row, "_audit_whose", None) or four_eyes.protected(_moved_to(row))
        if whose is None or before is None:
            return
        if isinstance(row, ScopeDefault):
            _refuse_protected(whose)
        wanted = {name: value for name, value in after.items() if before.get(name) != value}
        reason = _reason(request, "changed in the admin", row)
        change = Change(object_type(row), object_id(row), {"set": wanted, "seen": tag_of(before)}, reason)
        raise _Waits(change)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        shown, counts, needed, kept = super().get_deleted_objects(objs, request)
        for row in objs:
            if whose := four_eyes.protected(settings.scopes_of(row)):
                kept = [*kept, f"{row}: {whose} is under four eyes; lift that first, by a change request"]
        return shown, counts, needed, kept

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self._delete(request, [obj], lambda: super(Audited, self).delete_model(request, obj))

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        self._delete(request, queryset, lambda: super(Audited, self).delete_queryset(request, queryset))

    def _delete(self, request: HttpRequest, rows: Iterable[Any], delete: Callable[[], None]) -> None:
        with transaction.atomic():
            for row in rows:
                # The pages stop before; nothing else shall come through, either.
                if whose := four_eyes.protected(settings.scopes_of(row)):
                    raise PermissionDenied(f"{whose} is under four eyes.")
                self._tell(request, AuditEntry.Verb.DELETE, row, describe(row), None, "deleted")
            delete()

    def _tell(
        self,
        request: HttpRequest,
        verb: AuditEntry.Verb,
        row: Any,
        before: State | None,
        after: State | None,
        what: str,
    ) -> None:
        reason = _reason(request, f"{what} in the admin", row)
        settings.tell(actor_of(request), verb, row, before, after, reason, timezone.now())


def _moved_to(row: Any) -> list[four_eyes.Scope]:
    """A default may be moved into a scope that is protected."""
    return settings.scopes_of(row) if isinstance(row, ScopeDefault) else []


def _refuse_protected(whose: str | None) -> None:
    if whose is not None:
        raise _Refused(
            f"Nothing is changed: {whose} is under four eyes. Change defaults on the tenant's own page, "
            "where they wait for approval."
        )


def _reason(request: HttpRequest, otherwise: str, row: Any) -> str:
    """What the person gave as reason; else what happened."""
    return (request.POST.get(_REASON, "").strip() or f"{otherwise}: {row}")[:500]
