"""Taking back what somebody did: one change, or everything by an actor since a time, by compensating changes.

An object goes back to what it was before the actor's latest changes in a row. What others changed afterwards is
theirs, and stays; the plan says so before anything is done.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from itertools import takewhile
from typing import Any

import orjson
from django.core.exceptions import ValidationError

from overrides import approvals, services, settings
from overrides.audit import Actor
from overrides.changes import Change
from overrides.models import AuditEntry, KillSwitch, Override
from overrides.services import Conflict, NotStanding
from overrides.states import State, describe, find, tag_of

#: So many entries at most: who did more wants a shorter time, and a person to look.
MOST = 2000
#: What waits for approval is withdrawn, not undone; a rollout is paused, rolled back or cancelled.
_NO_CHANGE = ("change_request", "rollout")

#: How what was made new is switched off again: history names it, so it is not deleted.
_OFF: dict[str, State] = {
    "persona": {"enabled": False},
    "tenant": {"enabled": False},
    "modelprofile": {"enabled": False},
    "servicekey": {"revoked": True},
    "user": {"is_active": False},
}


class TooMany(Exception):
    """More than MOST entries."""


@dataclass(frozen=True, slots=True)
class Step:
    """One object to take back. ``to``: the state it shall have; None: it was not there before, so it is switched off.
    ``problem``: why it cannot be done; then it stays as it is."""

    object_type: str
    object_id: str
    tenant: str | None
    entries: tuple[int, ...]
    now: State | None
    to: State | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...]
    #: Of all of it, so that what is done is what was seen.
    plan_hash: str = field(default="")


def plan_of(entries: Iterable[AuditEntry]) -> Plan:
    """How to take these entries back: per object, the newest in a row."""
    wanted: dict[tuple[str, str], set[int]] = {}
    for entry in entries:
        if entry.object_type not in _NO_CHANGE:
            wanted.setdefault((entry.object_type, entry.object_id), set()).add(entry.seq)
    return _planned(_step(kind, key, seqs) for (kind, key), seqs in sorted(wanted.items()))


def with_problems(plan: Plan, problem_of: Callable[[Step], str | None]) -> Plan:
    """The plan without the steps that ``problem_of`` says something against: they stay as they are."""
    steps = [(step, None if step.problem else problem_of(step)) for step in plan.steps]
    return _planned(replace(step, problem=problem) if problem else step for step, problem in steps)


def _planned(steps: Iterable[Step]) -> Plan:
    made = tuple(steps)
    told = orjson.dumps([asdict(step) for step in made], option=orjson.OPT_SORT_KEYS)
    return Plan(made, hashlib.sha256(told).hexdigest())


def by_actor(actor: str, since: datetime, until: datetime | None = None) -> list[AuditEntry]:
    """What an actor did since a time. Raises TooMany."""
    found = AuditEntry.objects.filter(actor=actor, at__gte=since).order_by("-seq")
    if until is not None:
        found = found.filter(at__lte=until)
    entries = list(found[: MOST + 1])
    if len(entries) > MOST:
        raise TooMany(f"That are more than {MOST} changes: name a shorter time.")
    return entries


def _step(kind: str, key: str, seqs: set[int]) -> Step:
    history = AuditEntry.objects.filter(object_type=kind, object_id=key, seq__gte=min(seqs)).order_by("-seq")
    # An override's end by the clock is nobody's change.
    changed = [entry for entry in history if entry.verb != AuditEntry.Verb.EXPIRE]
    mine = list(takewhile(lambda entry: entry.seq in seqs, changed))
    now = _now(kind, key)
    if not mine:
        newest = changed[0]
        why = f"{newest.actor} changed it afterwards (entry {newest.seq}): that stays."
        return Step(kind, key, newest.tenant, tuple(sorted(seqs)), now, None, why)
    first = mine[-1]
    step = Step(kind, key, first.tenant, tuple(entry.seq for entry in reversed(mine)), now, first.before)
    return replace(step, problem=_problem(step))


def _now(kind: str, key: str) -> State | None:
    if kind == "override":
        row = Override.objects.select_related("tenant", "persona", "profile").filter(pk=int(key)).first()
        return services.describe(row) if row else None
    if kind == "kill_switch":
        switches = (
            KillSwitch.objects.filter(tenant__slug=key)
            if key != "*"
            else KillSwitch.objects.filter(tenant=None)
        )
        return {"on": switches.filter(on=True).exists()}
    found = find(kind, key)
    return describe(found) if found is not None else None


def _problem(step: Step) -> str | None:
    if step.now is None:
        return "It was deleted, and is not made again."
    if step.to is None and step.object_type not in (*_OFF, "override", "kill_switch"):
        return "It was made new, and cannot be switched off: delete it by hand."
    if step.object_type not in ("override", "kill_switch") and find(step.object_type, step.object_id) is None:
        return "It cannot be taken back from here."
    return None


def change_of(step: Step, reason: str) -> Change | None:
    """The compensating change; None when it is as it was already."""
    if step.object_type == "override":
        now = step.now or {}
        if step.to is None and now["revoked_at"]:
            return None
        wanted = {"version": now["version"], "state": step.to}
        return Change("override.restore", step.object_id, wanted, reason, undoes=True)
    if step.object_type == "kill_switch":
        on = bool((step.to or {"on": False})["on"])
        if step.now == {"on": on}:
            return None
        tenant = None if step.object_id == "*" else step.object_id
        return Change("kill_switch", step.object_id, {"tenant": tenant, "on": on}, reason, undoes=True)
    wanted = _OFF[step.object_type] if step.to is None else step.to
    assert step.now is not None  # noqa: S101  # a step without an object has a problem
    changed = {name: value for name, value in wanted.items() if step.now.get(name) != value}
    if not changed:
        return None
    seen = {"set": changed, "seen": tag_of(step.now)}
    return Change(step.object_type, step.object_id, seen, reason, undoes=True)


def take_back(plan: Plan, reason: str, actor: Actor, now: datetime) -> list[dict[str, Any]]:
    """Do it, step by step, each a transaction of its own with its entry; returns what became of each: ``undone``,
    ``waits`` (for approval, with the change request), ``unchanged`` or ``kept``, with why."""
    services.check_reason(reason)
    return [_take_back(step, reason, actor, now) for step in plan.steps]


def _take_back(step: Step, reason: str, actor: Actor, now: datetime) -> dict[str, Any]:
    told = {"object_type": step.object_type, "object_id": step.object_id, "entries": list(step.entries)}
    if step.problem:
        return {**told, "outcome": "kept", "why": step.problem}
    change = change_of(step, reason)
    if change is None:
        return {**told, "outcome": "unchanged", "why": "It is as it was already."}
    try:
        outcome = approvals.submit(change, actor, now)
    except ValidationError as error:
        return {**told, "outcome": "kept", "why": " ".join(error.messages)}
    except (Conflict, NotStanding, settings.Changed, settings.Missing) as error:
        return {**told, "outcome": "kept", "why": str(error)}
    if outcome.request is not None:
        return {**told, "outcome": "waits", "change_request": outcome.request.pk}
    return {**told, "outcome": "undone"}
