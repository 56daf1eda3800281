"""Tells the audit log what code without an actor of its own changes: commands, shells, the demo's seeding.

One entry per changed row and transaction, appended just before the commit, with what the row was and what it is then.
Rows that a service has told of meanwhile are not told twice. ``save``, ``delete``, ``update``, the bulk methods and
many-to-many changes are seen; raw SQL is not.
"""

import os
import pwd
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.db import models, transaction
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save
from django.utils import timezone

from catalog.models import TenantGrant
from catalog.versions import VersionedModel, bump_version
from overrides import audit, services, states
from overrides.audit import Actor
from overrides.models import AuditEntry, FlagScope, FlagTenant, KillSwitch, Override
from overrides.states import State

#: Told as part of the row that this field names.
_HANGING: dict[type[models.Model], str] = {
    FlagTenant: "flag",
    FlagScope: "flag",
    TenantGrant: "user",
}
#: Changes of these alone are no news.
_BOOKKEEPING = {"last_login", "updated_at", "modified"}


@dataclass(frozen=True, slots=True)
class _Sight:
    """A row as it was found; all None: it was not there. ``values`` show whether it changed, secrets too; they are
    compared and thrown away."""

    name: tuple[str, str] | None = None
    tenant: str | None = None
    state: State | None = None
    values: dict[str, Any] | None = None


class _Transaction(threading.local):
    """What a thread's transaction touched: rows as they were before, and what was told of already."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.before: dict[tuple[type[models.Model], Any], _Sight] = {}
        self.told: set[tuple[str, str]] = set()


@contextmanager
def recorded(name: str, command: str) -> Iterator[None]:
    """Audit what is changed until this ends, as done by ``command:name``; ``command`` is what was run. Only for a
    process that does nothing else meanwhile: all of its threads are listened to."""
    recorder = _Recorder(Actor(f"command:{name}", "command"), f"{command}, run by the OS user {_os_user()}")
    with recorder.listening():
        yield


def _os_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # containers run as numbers that nobody is named by
        return str(os.getuid())


class _Recorder:
    def __init__(self, actor: Actor, reason: str) -> None:
        self._actor, self._reason = actor, reason
        self._now = _Transaction()
        self._watched: set[type[models.Model]] = {*states.TOLD, Override, KillSwitch}
        self._heard: set[type[models.Model]] = {*self._watched, *_HANGING}

    @contextmanager
    def listening(self) -> Iterator[None]:
        with ExitStack() as until:
            for model in self._heard:
                _listen(until, pre_save, self._changing, model)
                _listen(until, post_save, self._saved, model)
                _listen(until, pre_delete, self._changing, model)
            for model in self._watched:
                for field in model._meta.many_to_many:
                    _listen(until, m2m_changed, self._relating, field.remote_field.through)
            _listen(until, post_save, self._appended, AuditEntry)
            # A plain model's save is no transaction, and these methods send no signals.
            _wrap(until, models.Model, "save_base", self._saving)
            _wrap(until, models.QuerySet, "update", self._updating)
            _wrap(until, models.QuerySet, "bulk_create", self._creating)
            _wrap(until, transaction.Atomic, "__exit__", self._leaving)
            yield
            if self._now.before:  # of a transaction that was opened by hand
                with transaction.atomic():
                    self._tell()

    # What is touched

    def _touch(self, model: type[models.Model], pk: Any) -> None:
        if model in self._watched and (model, pk) not in self._now.before:
            self._now.before[model, pk] = _sight(model, pk)

    def _touch_all(self, model: type[models.Model], rows: models.QuerySet[Any]) -> None:
        of, column = (_owner(model), f"{_HANGING[model]}_id") if model in _HANGING else (model, "pk")
        for pk in set(rows.order_by().values_list(column, flat=True)):
            self._touch(of, pk)

    def _changing(self, sender: type[models.Model], instance: Any, **_: Any) -> None:
        if sender in _HANGING:
            self._touch(_owner(sender), getattr(instance, f"{_HANGING[sender]}_id"))
        elif instance.pk is not None:
            self._touch(sender, instance.pk)

    def _saved(self, sender: type[models.Model], instance: Any, raw: bool = False, **_: Any) -> None:
        if sender in self._watched:
            self._now.before.setdefault((sender, instance.pk), _Sight())
        if raw and issubclass(sender, VersionedModel):
            bump_version()  # fixtures go round the model's own save()

    def _relating(
        self, sender: Any, instance: Any, action: str, reverse: bool, model: Any, pk_set: Any, **_: Any
    ) -> None:
        if not action.startswith("pre_"):
            return
        if not reverse:
            self._touch(type(instance), instance.pk)
            return
        if pk_set is None:  # all are taken away
            ours, theirs = _column(sender, model), _column(sender, type(instance))
            pk_set = sender._default_manager.filter(**{theirs: instance.pk}).values_list(ours, flat=True)
        for pk in set(pk_set):
            self._touch(model, pk)

    def _appended(self, instance: AuditEntry, **_: Any) -> None:
        self._now.told.add((instance.object_type, instance.object_id))

    # What is wrapped

    def _saving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def save_base(row: models.Model, *args: Any, **kwargs: Any) -> Any:
            if type(row) not in self._heard:
                return original(row, *args, **kwargs)
            with transaction.atomic(savepoint=False):
                return original(row, *args, **kwargs)

        return save_base

    def _updating(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def update(rows: models.QuerySet[Any], **values: Any) -> Any:
            if rows.model not in self._heard:
                return original(rows, **values)
            with transaction.atomic(savepoint=False):
                self._touch_all(rows.model, rows)
                return original(rows, **values)

        return update

    def _creating(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def bulk_create(rows: models.QuerySet[Any], objs: Any, *args: Any, **kwargs: Any) -> Any:
            if rows.model not in self._heard:
                return original(rows, objs, *args, **kwargs)
            with transaction.atomic(savepoint=False):
                made = list(objs)
                for row in made:
                    self._changing(rows.model, row)
                made = original(rows, made, *args, **kwargs)
                for row in made:
                    self._saved(rows.model, row)
                return made

        return bulk_create

    def _leaving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def leave(block: Any, kind: Any, error: Any, trace: Any) -> Any:
            connection = transaction.get_connection(block.using)
            if connection.savepoint_ids:  # an inner block
                return original(block, kind, error, trace)
            try:
                if kind is None and not connection.needs_rollback:
                    self._tell()
            except BaseException:
                # Both or neither: what cannot be told is not done.
                original(block, *sys.exc_info())
                raise
            else:
                return original(block, kind, error, trace)
            finally:
                self._now.forget()

        return leave

    # What is told

    def _tell(self) -> None:
        told = frozenset(self._now.told)
        for (model, pk), before in self._now.before.items():
            after = _sight(model, pk)
            name = after.name or before.name
            if name is not None and after != before and name not in told:
                self._append(name, before, after)
        self._now.before = {}

    def _append(self, name: tuple[str, str], before: _Sight, after: _Sight) -> None:
        verb = AuditEntry.Verb.UPDATE
        if before.state is None:
            verb = AuditEntry.Verb.CREATE
        elif after.state is None:
            verb = AuditEntry.Verb.DELETE
        secret = "; what changed is secret" if before.state == after.state else ""
        audit.append(
            self._actor,
            verb,
            *name,
            tenant=after.tenant or before.tenant,
            before=before.state,
            after=after.state,
            reason=f"{self._reason}{secret}"[:500],
            at=timezone.now(),
        )


def _sight(model: type[models.Model], pk: Any) -> _Sight:
    row: Any = model._base_manager.filter(pk=pk).first()
    if row is None:
        return _Sight()
    own = [field for field in model._meta.concrete_fields if field.name not in _BOOKKEEPING]
    values = {field.attname: getattr(row, field.attname) for field in own}
    for field in model._meta.many_to_many:
        values[field.name] = set(getattr(row, field.name).values_list("pk", flat=True))
    return _Sight(_name(row), states.tenant_of(row), _state(row), values)


def _name(row: Any) -> tuple[str, str]:
    """Object type and id, as the services name them."""
    if isinstance(row, Override):
        return services.OBJECT_TYPE, str(row.pk)
    if isinstance(row, KillSwitch):
        return "kill_switch", row.tenant.slug if row.tenant else "*"
    return states.object_type(row), states.object_id(row)


def _state(row: Any) -> State:
    if isinstance(row, Override):
        return services.describe(row)
    if isinstance(row, KillSwitch):
        return {"on": row.on}
    return states.describe(row)


def _owner(model: type[models.Model]) -> Any:
    return model._meta.get_field(_HANGING[model]).related_model


def _column(through: type[models.Model], model: type[models.Model]) -> str:
    return next(field.attname for field in through._meta.concrete_fields if field.related_model is model)


def _listen(until: ExitStack, signal: Any, receiver: Callable[..., None], sender: Any) -> None:
    signal.connect(receiver, sender=sender, weak=False)
    until.callback(signal.disconnect, receiver, sender=sender)


def _wrap(until: ExitStack, owner: Any, name: str, make: Callable[..., Callable[..., Any]]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, wraps(original)(make(original)))
    until.callback(setattr, owner, name, original)
