"""What people do with rollouts: each in one transaction with the flag's share, the audit entries and the bump of the
policy version. What happens by itself is ``routing.guarding.machine``'s."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q

from catalog.models import Persona, Tenant
from overrides import audit, four_eyes, settings
from overrides.approvals import Refused
from overrides.audit import Actor
from overrides.hangers import named
from overrides.models import AuditEntry
from overrides.services import check_reason
from overrides.states import State
from overrides.states import describe as described
from routing.guarding.models import Rollout, RolloutStep
from routing.guarding.scopes import flag_row, share_now, told, why_not_its_own, with_share
from routing.rollout.plan import Plan, PlanError

OBJECT_TYPE = "rollout"

Verb = AuditEntry.Verb


@dataclass(frozen=True, slots=True)
class Wish:
    """A rollout as somebody wants it. ``persona`` None: all of the tenant's. ``plan``: what it says otherwise than the
    default one. ``step``: where to begin, from 0."""

    tenant: str
    persona: str | None
    reason: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0


def plan_of(rollout: Rollout) -> Plan:
    return Plan.from_dict(rollout.plan)


def percent_of(plan: Plan, step: int) -> Decimal:
    return Decimal(repr(float(plan.steps[step]))).quantize(Decimal("0.01"))


def describe(rollout: Rollout) -> dict[str, Any]:
    """JSON values, as the API and the audit log show it; without what was last looked at, which changes by itself."""
    return {
        "id": rollout.pk,
        "tenant": rollout.tenant.slug,
        "persona": rollout.persona.slug if rollout.persona else None,
        "state": rollout.state,
        "by_itself": rollout.by_itself,
        "reason": rollout.reason,
        "plan": rollout.plan,
        "attempt": rollout.attempt,
        "step": rollout.step,
        "share": float(rollout.share),
        "step_began_at": rollout.step_began_at.isoformat(),
        "created_by": rollout.created_by,
        "created_at": rollout.created_at.isoformat(),
        "changed_by": rollout.changed_by,
        "changed_at": rollout.changed_at.isoformat(),
        "version": rollout.version,
    }


def scope_of(rollout: Rollout) -> four_eyes.Scope:
    return rollout.tenant.slug, rollout.persona.slug if rollout.persona else None


def read_plan(wanted: Mapping[str, Any]) -> Plan:
    """Raises ValidationError by field."""
    try:
        plan = Plan.from_dict(wanted)
    except PlanError as error:
        raise ValidationError({f"plan.{error.field}": error.message}) from None
    if any(round(step, 2) != step for step in plan.steps):
        raise ValidationError({"plan.steps": "Percentages have two decimals at most."})
    return plan


def start(wish: Wish, actor: Actor, now: datetime) -> Rollout:
    """Begin a rollout. Raises ValidationError by field, Refused, NeedsApproval."""
    check_reason(wish.reason)
    plan = read_plan(wish.plan)
    if not 0 <= wish.step < len(plan.steps):
        raise ValidationError({"step": f"The plan's steps are 0 to {len(plan.steps) - 1}."})
    with transaction.atomic():
        # Locked, so that of two that would overlap the second sees the first.
        tenant = Tenant.objects.select_for_update().filter(slug=wish.tenant).first()
        tenant = tenant or named(Tenant, "tenant", wish.tenant)
        persona = named(Persona, "persona", wish.persona) if wish.persona else None
        _check_overlap(tenant, persona)
        _check_share(wish, plan)
        four_eyes.guard(actor, [(wish.tenant, wish.persona)])
        percent = percent_of(plan, wish.step)
        rollout = Rollout(
            tenant=tenant,
            persona=persona,
            plan=plan.to_dict(),
            reason=wish.reason.strip()[:500],
            step=wish.step,
            step_began_at=now,
            share=percent,
            created_by=actor.name[:160],
            created_at=now,
            changed_by=actor.name[:160],
            changed_at=now,
        )
        _save_new(rollout)
        _begin_step(rollout, now)
        set_share(rollout, wish.reason, actor, now)
        note(actor, Verb.START, rollout, None, wish.reason, now)
        return rollout


def _save_new(rollout: Rollout) -> None:
    try:
        with transaction.atomic():
            rollout.save()
    except IntegrityError:
        raise Refused("overlap", f"Somebody else began one of {rollout.scope} at this moment.") from None


def _check_overlap(tenant: Tenant, persona: Persona | None) -> None:
    found = Rollout.objects.filter(tenant=tenant, state__in=Rollout.UNFINISHED)
    if persona is not None:
        found = found.filter(Q(persona=persona) | Q(persona=None))
    other = found.select_related("tenant", "persona").first()
    if other is not None:
        raise Refused(
            "overlap",
            f"Rollout {other.pk} of {other.scope} is {other.get_state_display()}: finish or cancel it first.",
        )


def _check_share(wish: Wish, plan: Plan) -> None:
    flag = described(flag_row())
    if flag["everyone"] is not None:
        raise Refused(
            "flag_not_by_percentages",
            f"The flag is {'on' if flag['everyone'] else 'off'} for everybody: have it go by percentages first.",
        )
    share, percent = share_now(flag, wish.tenant, wish.persona), percent_of(plan, wish.step)
    if share > percent:
        raise Refused(
            "share_above_step",
            f"The flag is on for {told(share)} there already, and this would lower it to {told(percent)}: begin at a "
            "later step, or lower the share first.",
        )


def pause(pk: int, version: int, reason: str, actor: Actor, now: datetime) -> Rollout:
    """Stay at the step: nothing advances, a proved regression still rolls back. Raises ValidationError, Refused,
    Rollout.DoesNotExist."""
    return _change(pk, version, Verb.PAUSE, (Rollout.State.RUNNING,), _paused, reason, actor, now)


def _paused(rollout: Rollout) -> None:
    rollout.state = Rollout.State.PAUSED


def resume(pk: int, version: int, step: int | None, reason: str, actor: Actor, now: datetime) -> Rollout:
    """Go on. ``step``: begin there anew, with new evidence; None: go on with the step as it stands, which after a roll
    back means the first one. Raises as ``pause``, and NeedsApproval."""
    check_reason(reason)
    with transaction.atomic():
        rollout = locked(pk, version)
        _must_be(rollout, (Rollout.State.PAUSED, Rollout.State.ROLLED_BACK))
        four_eyes.guard(actor, [scope_of(rollout)])
        before = describe(rollout)
        flag = described(flag_row(lock=True))
        if flag["everyone"] is not None:
            raise Refused(
                "flag_not_by_percentages", "The flag does not go by percentages: have it do so first."
            )
        back = rollout.state == Rollout.State.ROLLED_BACK
        if step is None and back:
            step = 0
        if step is None and (why := why_not_its_own(rollout, flag)):
            raise Refused("share_changed", f"{why} Say at which step to begin anew.")
        if step is not None:
            if not 0 <= step <= rollout.step:
                raise Refused(
                    "step_not_reached", f"Steps 0 to {rollout.step} were reached: name one of these."
                )
            end_step(rollout, "resume", now)
            rollout.step, rollout.attempt = step, rollout.attempt + 1
            rollout.share, rollout.step_began_at = percent_of(plan_of(rollout), step), now
            rollout.look = rollout.looked_at = None
            _begin_step(rollout, now)
        rollout.state = Rollout.State.RUNNING
        write(rollout, Verb.RESUME, before, reason, actor, now)
        return rollout


def roll_back(pk: int, version: int, reason: str, actor: Actor, now: datetime) -> Rollout:
    """Turn the flag off there, at once. It never waits for a second person: it gives what the scope had before there
    was a machine. Raises as ``pause``."""
    states = (Rollout.State.RUNNING, Rollout.State.PAUSED)

    def change(rollout: Rollout) -> None:
        rollout.state, rollout.share = Rollout.State.ROLLED_BACK, Decimal(0)
        end_step(rollout, Verb.ROLL_BACK.value, now)

    return _change(pk, version, Verb.ROLL_BACK, states, change, reason, actor, now)


def acknowledge(pk: int, version: int, reason: str, actor: Actor, now: datetime) -> Rollout:
    """Say that one knows of a roll-back: it stays, and alerts no more. Raises as ``pause``."""

    def change(rollout: Rollout) -> None:
        if not rollout.by_itself:
            raise Refused("not_possible", "Somebody knows of it already.")

    return _change(pk, version, Verb.UPDATE, (Rollout.State.ROLLED_BACK,), change, reason, actor, now)


def cancel(pk: int, version: int, reason: str, actor: Actor, now: datetime) -> Rollout:
    """End it; the flag's share stays as it is. Raises as ``pause``."""

    def change(rollout: Rollout) -> None:
        rollout.state = Rollout.State.CANCELLED
        end_step(rollout, Verb.CANCEL.value, now)

    return _change(pk, version, Verb.CANCEL, Rollout.UNFINISHED, change, reason, actor, now)


def _change(
    pk: int,
    version: int,
    verb: AuditEntry.Verb,
    states: tuple[str, ...],
    change: Callable[[Rollout], None],
    reason: str,
    actor: Actor,
    now: datetime,
) -> Rollout:
    check_reason(reason)
    with transaction.atomic():
        rollout = locked(pk, version)
        _must_be(rollout, states)
        before = describe(rollout)
        change(rollout)
        write(rollout, verb, before, reason, actor, now)
        return rollout


def locked(pk: int, version: int | None = None) -> Rollout:
    """The row, until the transaction ends. Raises Refused when it is at another version, Rollout.DoesNotExist."""
    rows = Rollout.objects.select_for_update(of=("self",)).select_related("tenant", "persona")
    rollout = rows.get(pk=pk)
    if version is not None and rollout.version != version:
        raise Refused(
            "version_conflict",
            f"Rollout {pk} is at version {rollout.version} now: it is {rollout.get_state_display()} since "
            f"{rollout.changed_by} changed it at {rollout.changed_at:%H:%M:%S} UTC.",
        )
    return rollout


def _must_be(rollout: Rollout, states: tuple[str, ...]) -> None:
    if rollout.state not in states:
        wanted = " or ".join(Rollout.State(state).label for state in states)
        raise Refused("not_possible", f"It is {rollout.get_state_display()}: only what is {wanted} can be.")


def write(
    rollout: Rollout,
    verb: AuditEntry.Verb,
    before: State,
    reason: str,
    actor: Actor,
    now: datetime,
    by_itself: bool = False,
) -> None:
    """Save a change of a locked row with its share and its entry; in the caller's transaction."""
    rollout.reason, rollout.by_itself = reason.strip()[:500], by_itself
    rollout.changed_by, rollout.changed_at = actor.name[:160], now
    rollout.version += 1
    rollout.save()
    if rollout.state not in (Rollout.State.CANCELLED, Rollout.State.PAUSED):
        set_share(rollout, reason, actor, now)
    note(actor, verb, rollout, before, reason, now)


def set_share(rollout: Rollout, reason: str, actor: Actor, now: datetime) -> None:
    """Set the flag to the rollout's share there; nothing when it has it."""
    row = flag_row(lock=True)
    tenant, persona = scope_of(rollout)
    assert tenant is not None  # noqa: S101  # a rollout has one
    wanted = with_share(described(row), tenant, persona, rollout.share)
    why = f"{reason.strip()} (rollout {rollout.pk})"
    # Whoever asks for four eyes was asked when the rollout was started or resumed; its steps are what was approved.
    approved = replace(actor, change_request=actor.change_request or 0)
    settings.change_settings("flag", str(row.pk), wanted, why, approved, now)


def _begin_step(rollout: Rollout, now: datetime) -> None:
    RolloutStep.objects.create(
        rollout=rollout, attempt=rollout.attempt, index=rollout.step, percent=rollout.share, began_at=now
    )


def begin_step(rollout: Rollout, step: int, now: datetime) -> None:
    """Of the same attempt; the row is saved by the caller."""
    rollout.step, rollout.step_began_at, rollout.share = step, now, percent_of(plan_of(rollout), step)
    _begin_step(rollout, now)


def end_step(rollout: Rollout, how: str, now: datetime) -> None:
    """Keep the running step as it was last looked at."""
    look = rollout.look or {}
    RolloutStep.objects.filter(
        rollout=rollout, attempt=rollout.attempt, index=rollout.step, ended_at=None
    ).update(ended_at=now, ended_as=how[:12], evidence=look.get("evidence"), verdict=look.get("verdict"))


def note(
    actor: Actor,
    verb: AuditEntry.Verb,
    rollout: Rollout,
    before: State | None,
    reason: str,
    now: datetime,
) -> None:
    audit.append(
        actor,
        verb,
        OBJECT_TYPE,
        str(rollout.pk),
        tenant=rollout.tenant.slug,
        before=before,
        after=describe(rollout),
        reason=reason.strip()[:500],
        at=now,
    )
