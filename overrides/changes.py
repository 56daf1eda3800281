"""A change as data: what is wanted of what, so that it can be rehearsed, previewed, approved by somebody else, and
done later, just as well as at once. All doors (API, pages, undo) make their changes so."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db import transaction

from overrides import four_eyes, services, settings
from overrides.audit import Actor
from overrides.models import AuditEntry, KillSwitch, Override
from overrides.services import Wish
from overrides.states import State, describe, find, tag_of


@dataclass(frozen=True, slots=True)
class Change:
    """``kind`` is the object's type, with how it is changed after a dot where there are several ways; ``target`` names
    the object (empty: a new one); ``wanted`` are JSON values. ``undoes``: it takes something back."""

    kind: str
    target: str
    wanted: dict[str, Any]
    reason: str
    undoes: bool = False

    @property
    def object_type(self) -> str:
        return self.kind.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Touched:
    """What a change is about, before it is made: the object's state (None: it is not there), and the scopes."""

    before: State | None
    scopes: list[four_eyes.Scope] = field(default_factory=list)

    @property
    def tenant(self) -> str | None:
        """The tenant that it is about; None: all of them."""
        tenants = {tenant for tenant, _ in self.scopes}
        return next(iter(tenants)) if len(tenants) == 1 else None


def perform(change: Change, actor: Actor, now: datetime) -> State:
    """Make the change; returns the object's state afterwards. Raises what the services raise."""
    return _kind_of(change).perform(change, actor, now)


def touched(change: Change) -> Touched:
    """What it is about. Raises Missing."""
    return _kind_of(change).touched(change)


class _Rehearsed(Exception):
    def __init__(self, after: State) -> None:
        self.after = after


def rehearse(change: Change, actor: Actor, now: datetime) -> State:
    """What ``perform`` would return, with all that it would refuse; nothing stays."""
    try:
        with transaction.atomic():
            # Number 0 is no request's: a rehearsal needs nobody's approval.
            raise _Rehearsed(perform(change, replace(actor, change_request=0), now))
    except _Rehearsed as done:
        return done.after


Performer = Callable[[Change, Actor, datetime], State]
Toucher = Callable[[Change], Touched]


@dataclass(frozen=True, slots=True)
class _Kind:
    perform: Performer
    touched: Toucher


def register(kind: str, perform: Performer, touched: Toucher) -> None:
    """Have changes of another kind made by this; once, when the apps are ready. Overrides cannot import those who do
    more than people decided, so these register here."""
    _KINDS[kind] = _Kind(perform, touched)


def _create_override(change: Change, actor: Actor, now: datetime) -> State:
    wish = replace(services.wish_of(change.wanted), reason=change.reason)
    return services.describe(services.create_override(wish, actor, now))


def _replace_override(change: Change, actor: Actor, now: datetime) -> State:
    wish = replace(services.wish_of(change.wanted), reason=change.reason)
    version = change.wanted["version"]
    return services.describe(services.replace_override(int(change.target), version, wish, actor, now))


def _revoke_override(change: Change, actor: Actor, now: datetime) -> State:
    version = change.wanted["version"]
    return services.describe(services.revoke_override(int(change.target), version, change.reason, actor, now))


def _undo_override(change: Change, actor: Actor, now: datetime) -> State:
    version = change.wanted["version"]
    return services.describe(services.undo_override(int(change.target), version, change.reason, actor, now))


def _restore_override(change: Change, actor: Actor, now: datetime) -> State:
    version, state = change.wanted["version"], change.wanted["state"]
    done = services.restore_override(int(change.target), version, state, change.reason, actor, now)
    return services.describe(done)


def _wished(change: Change) -> Touched:
    return Touched(None, [(change.wanted["tenant"], change.wanted["persona"])])


def _existing(change: Change) -> Touched:
    row = (
        Override.objects.select_related("tenant", "persona", "profile").filter(pk=int(change.target)).first()
    )
    if row is None:
        raise settings.Missing("There is no such override.")
    scopes = [services.scope_of(row)]
    if "tenant" in change.wanted:
        scopes.append((change.wanted["tenant"], change.wanted["persona"]))
    return Touched(services.describe(row), scopes)


def _switch(change: Change, actor: Actor, now: datetime) -> State:
    on, tenant = change.wanted["on"], change.wanted["tenant"]
    services.set_kill_switch(tenant, on, change.reason, actor, now)
    return {"tenant": tenant, "on": on}


def _switched(change: Change) -> Touched:
    tenant = change.wanted["tenant"]
    on = KillSwitch.objects.filter(tenant__slug=tenant) if tenant else KillSwitch.objects.filter(tenant=None)
    return Touched({"tenant": tenant, "on": on.filter(on=True).exists()}, [(tenant, None)])


def _set(change: Change, actor: Actor, now: datetime) -> State:
    wanted, seen = dict(change.wanted["set"]), change.wanted.get("seen")
    verb = AuditEntry.Verb.UNDO if change.undoes else AuditEntry.Verb.UPDATE
    kind, key = change.kind, change.target
    return settings.change_settings(kind, key, wanted, change.reason, actor, now, seen=seen, verb=verb)


def _set_on(change: Change) -> Touched:
    row = find(change.kind, change.target)
    if row is None:
        raise settings.Missing(f"There is no {change.kind} {change.target}.")
    return Touched(describe(row), settings.scopes_of(row, change.wanted["set"]))


_KINDS = {
    "override.create": _Kind(_create_override, _wished),
    "override.replace": _Kind(_replace_override, _existing),
    "override.revoke": _Kind(_revoke_override, _existing),
    "override.undo": _Kind(_undo_override, _existing),
    "override.restore": _Kind(_restore_override, _existing),
    "kill_switch": _Kind(_switch, _switched),
}
_STATES = _Kind(_set, _set_on)


def _kind_of(change: Change) -> _Kind:
    return _KINDS.get(change.kind, _STATES)


def to_state(kind: str, key: str, before: State, wanted: Mapping[str, Any], reason: str) -> Change:
    """The change of a described row to what ``wanted`` says, bound to the state it was seen in."""
    return Change(kind, key, {"set": dict(wanted), "seen": tag_of(before)}, reason)


def wish_values(wish: Wish) -> dict[str, Any]:
    """A wish as JSON values, as ``override.create`` takes it."""
    return {
        "kind": wish.kind,
        "profile": wish.profile,
        "reason": wish.reason,
        "tenant": wish.tenant,
        "persona": wish.persona,
        "task": wish.task,
        "expires_at": wish.expires_at.isoformat() if wish.expires_at else None,
    }
