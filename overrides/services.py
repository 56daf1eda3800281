"""Every write of overrides and the kill switch: validated, versioned, audited in the same transaction."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from catalog.models import ModelProfile, Persona, Tenant
from overrides import audit, four_eyes
from overrides.audit import SYSTEM, Actor
from overrides.hangers import named
from overrides.models import AuditEntry, KillSwitch, Override

OBJECT_TYPE = "override"


class Conflict(Exception):
    """Somebody changed it meanwhile; ``current`` is what it is now."""

    def __init__(self, current: Override) -> None:
        super().__init__(f"Override {current.pk} is at version {current.version} now.")
        self.current = current


class NotStanding(Exception):
    """It was revoked or has expired, so there is nothing to change."""


@dataclass(frozen=True, slots=True)
class Wish:
    """An override as somebody wants it. Slugs; None: all. Times are UTC."""

    kind: str
    profile: str
    reason: str
    tenant: str | None = None
    persona: str | None = None
    task: str | None = None
    expires_at: datetime | None = None


def describe(override: Override) -> dict[str, Any]:
    """JSON values, as the API and the audit log show it."""
    return {
        "id": override.pk,
        "kind": override.kind,
        "tenant": override.tenant.slug if override.tenant else None,
        "persona": override.persona.slug if override.persona else None,
        "task": override.task,
        "profile": override.profile.slug,
        "reason": override.reason,
        "expires_at": _iso(override.expires_at),
        "created_by": override.created_by,
        "created_at": _iso(override.created_at),
        "version": override.version,
        "revoked_at": _iso(override.revoked_at),
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def create_override(wish: Wish, actor: Actor, now: datetime) -> Override:
    """Raises ValidationError by field, NeedsApproval."""
    with transaction.atomic():
        override = Override(created_by=actor.name[:160], created_at=now)
        _apply(override, wish, now)
        four_eyes.guard(actor, [scope_of(override)])
        override.save()
        _note(actor, AuditEntry.Verb.CREATE, override, None, wish.reason, now)
        return override


def replace_override(pk: int, version: int, wish: Wish, actor: Actor, now: datetime) -> Override:
    """Raises ValidationError, Conflict, NotStanding, NeedsApproval, Override.DoesNotExist."""

    def change(override: Override) -> None:
        _apply(override, wish, now)

    return _change(pk, version, AuditEntry.Verb.REPLACE, change, wish.reason, actor, now)


def revoke_override(pk: int, version: int, reason: str, actor: Actor, now: datetime) -> Override:
    """Raises ValidationError, Conflict, NotStanding, NeedsApproval, Override.DoesNotExist."""
    check_reason(reason)

    def change(override: Override) -> None:
        override.revoked_at = now

    return _change(pk, version, AuditEntry.Verb.REVOKE, change, reason, actor, now)


def undo_override(pk: int, version: int, reason: str, actor: Actor, now: datetime) -> Override:
    """Take the last change of an override back by a new change: a created one is revoked, a replaced one is as it
    was before, a revoked one stands again. Raises as ``replace_override``."""
    last = AuditEntry.objects.filter(object_type=OBJECT_TYPE, object_id=str(pk)).order_by("-seq").first()
    if last is None or last.verb == AuditEntry.Verb.EXPIRE:
        raise NotStanding("There is nothing to undo.")
    return restore_override(pk, version, last.before, reason, actor, now)


def restore_override(
    pk: int, version: int, state: dict[str, Any] | None, reason: str, actor: Actor, now: datetime
) -> Override:
    """Make an override what ``describe`` said of it once; None: it was not there, so it is revoked. Raises as
    ``replace_override``."""
    check_reason(reason)

    def change(override: Override) -> None:
        if state is None:
            override.revoked_at = now
            return
        _apply(override, wish_of(state), now)
        override.revoked_at = datetime.fromisoformat(state["revoked_at"]) if state["revoked_at"] else None

    return _change(pk, version, AuditEntry.Verb.UNDO, change, reason, actor, now, must_stand=False)


def wish_of(state: dict[str, Any]) -> Wish:
    """The wish that a description, or a stored wish, tells."""
    told = {field.name: state[field.name] for field in fields(Wish)}
    told["expires_at"] = datetime.fromisoformat(told["expires_at"]) if told["expires_at"] else None
    return Wish(**told)


def _change(
    pk: int,
    version: int,
    verb: AuditEntry.Verb,
    change: Callable[[Override], None],
    reason: str,
    actor: Actor,
    now: datetime,
    must_stand: bool = True,
) -> Override:
    with transaction.atomic():
        override = Override.objects.select_for_update(of=("self",)).get(pk=pk)
        if override.version != version:
            raise Conflict(override)
        if must_stand and not stands(override, now):
            raise NotStanding("It was revoked or has expired, so there is nothing to change.")
        before, was = describe(override), scope_of(override)
        change(override)
        # Moving an override out of a protected scope takes it away there.
        four_eyes.guard(actor, [was, scope_of(override)])
        override.version += 1
        override.save()
        _note(actor, verb, override, before, reason, now)
        return override


def scope_of(override: Override) -> four_eyes.Scope:
    """The tenant and persona that it touches; None: all."""
    return (
        override.tenant.slug if override.tenant else None,
        override.persona.slug if override.persona else None,
    )


def stands(override: Override, now: datetime) -> bool:
    return override.revoked_at is None and (override.expires_at is None or now < override.expires_at)


def _apply(override: Override, wish: Wish, now: datetime) -> None:
    override.kind, override.reason, override.task = wish.kind, wish.reason.strip(), wish.task
    override.expires_at = wish.expires_at
    override.profile = named(ModelProfile, "profile", wish.profile)
    override.tenant = named(Tenant, "tenant", wish.tenant) if wish.tenant else None
    override.persona = named(Persona, "persona", wish.persona) if wish.persona else None
    check_reason(wish.reason)
    if wish.expires_at is not None and wish.expires_at <= now:
        raise ValidationError({"expires_at": "This time has passed already."})
    if wish.kind == Override.Kind.LOCK and not override.profile.enabled:
        raise ValidationError({"profile": f"{wish.profile} is disabled: a lock to it would answer nobody."})
    override.full_clean(exclude=["created_by"])


def check_reason(reason: str) -> None:
    """Raises ValidationError when it says too little."""
    if len(reason.strip()) < 10:
        raise ValidationError({"reason": "Say why, in 10 characters or more: others will ask."})


def _note(
    actor: Actor,
    verb: AuditEntry.Verb,
    override: Override,
    before: dict[str, Any] | None,
    reason: str,
    now: datetime,
) -> None:
    audit.append(
        actor,
        verb,
        OBJECT_TYPE,
        str(override.pk),
        tenant=override.tenant.slug if override.tenant else None,
        before=before,
        after=describe(override),
        reason=reason.strip(),
        at=now,
    )


def set_kill_switch(tenant: str | None, on: bool, reason: str, actor: Actor, now: datetime) -> KillSwitch:
    """Turn automatic selection off (``on``) or back on for a tenant, or for everybody (None). Setting what is set
    already changes nothing. Stopping never waits for a second person: it is for emergencies, and gives what each
    scope had before there was a machine. Raises ValidationError, NeedsApproval."""
    check_reason(reason)
    with transaction.atomic():
        if not on:
            four_eyes.guard(actor, [(tenant, None)])
        whose = named(Tenant, "tenant", tenant) if tenant else None
        switch = KillSwitch.objects.filter(tenant=whose).first() or KillSwitch(tenant=whose)
        if switch.on == on:
            return switch
        before = {"on": switch.on}
        switch.on, switch.reason = on, reason.strip()
        switch.changed_by, switch.changed_at = actor.name[:160], now
        switch.save()
        audit.append(
            actor,
            AuditEntry.Verb.SWITCH,
            "kill_switch",
            tenant or "*",
            tenant=tenant,
            before=before,
            after={"on": on},
            reason=switch.reason,
            at=now,
        )
        return switch


def record_expiries(now: datetime, most: int = 500) -> int:
    """Tell the audit log of overrides that ended by the clock, each once; returns how many. They ended
    without this: decisions look at the time themselves."""
    ended = Override.objects.filter(revoked_at=None, expires_at__lte=now, expiry_recorded=False)
    count = 0
    for pk in list(ended.order_by("id").values_list("pk", flat=True)[:most]):
        with transaction.atomic():
            override = ended.select_for_update(of=("self",)).filter(pk=pk).first()
            if override is None:
                continue
            before = describe(override)
            override.expiry_recorded = True
            override.save()
            _note(SYSTEM, AuditEntry.Verb.EXPIRE, override, before, "It expired.", now)
            count += 1
    return count
