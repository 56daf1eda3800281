"""Every write of profile quarantines: with its audit entry and the policy's version in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from catalog.models import ModelProfile
from overrides import audit
from overrides.audit import SYSTEM, Actor
from overrides.hangers import named
from overrides.models import AuditEntry
from overrides.services import NotStanding, check_reason
from routing.quarantining.models import ProfileQuarantine
from routing.sentinels.findings import Finding, Sentinel

OBJECT_TYPE = "profile_quarantine"
State = ProfileQuarantine.State
Verb = AuditEntry.Verb


class Conflict(Exception):
    """Somebody, or the system, changed it meanwhile; ``current`` is what it is now."""

    def __init__(self, current: ProfileQuarantine) -> None:
        super().__init__(f"Quarantine {current.pk} is at version {current.version} now.")
        self.current = current


@dataclass(frozen=True, slots=True)
class _Times:
    expires_at: datetime
    probe_at: datetime | None = None


def standing(now: datetime) -> QuerySet[ProfileQuarantine]:
    """Neither closed nor expired."""
    found = ProfileQuarantine.objects.select_related("profile")
    return found.filter(closed_at=None, expires_at__gt=now)


def describe(row: ProfileQuarantine, now: datetime, figures: bool) -> dict[str, Any]:
    """JSON values. Without ``figures`` nothing is told that is measured over all tenants."""
    by_hand = row.sentinel == Sentinel.BY_HAND
    hidden = f"Sentinel {row.sentinel} fired; its figures are of all tenants."
    return {
        "id": row.pk,
        "profile": row.profile.slug,
        "sentinel": row.sentinel,
        "state": state_at(row, now),
        "opened_at": row.opened_at.isoformat(),
        "opened_by": row.opened_by,
        "reason": row.reason if figures or by_hand else hidden,
        "figures": row.figures if figures else None,
        "probe_at": row.probe_at.isoformat() if row.probe_at else None,
        "probes": row.probes,
        "expires_at": row.expires_at.isoformat(),
        "closed_at": row.closed_at.isoformat() if row.closed_at else None,
        "closed_by": row.closed_by or None,
        "close_reason": row.close_reason or None,
        "version": row.version,
    }


def state_at(row: ProfileQuarantine, now: datetime) -> str:
    """As decisions see it, whatever was told of it last."""
    if row.closed_at is not None or now >= row.expires_at:
        return State.CLOSED.value
    half = row.probe_at is not None and now >= row.probe_at
    return (State.HALF_OPEN if half else State.OPEN).value


def open_by_sentinel(slug: str, finding: Finding, now: datetime) -> ProfileQuarantine | None:
    """None: it is in this sentinel's quarantine already, or it left the catalogue."""
    profile = ModelProfile.objects.filter(slug=slug).first()
    if profile is None:
        return None
    times = _Times(now + _lasts(), now + timedelta(seconds=settings.PROFILE_QUARANTINE_COOLDOWN_SECONDS))
    try:
        return _open(profile, finding.sentinel, finding.sentence, finding.figures, SYSTEM, now, times)
    except NotStanding:
        return None


def open_by_hand(
    slug: str, reason: str, actor: Actor, now: datetime, expires_at: datetime | None = None
) -> ProfileQuarantine:
    """A person takes a profile from everybody, for PROFILE_QUARANTINE_EXPIRY_SECONDS at most; nobody probes it. Raises
    ValidationError by field, NotStanding when it is there already."""
    check_reason(reason)
    profile = named(ModelProfile, "profile", slug)
    ends = now + _lasts() if expires_at is None else expires_at
    if not now < ends <= now + _lasts():
        hours = _lasts() / timedelta(hours=1)
        raise ValidationError({"expires_at": f"A time that is to come, in {hours:g} hours at most."})
    return _open(profile, Sentinel.BY_HAND, reason.strip(), {}, actor, now, _Times(ends))


def _lasts() -> timedelta:
    return timedelta(seconds=settings.PROFILE_QUARANTINE_EXPIRY_SECONDS)


def _open(
    profile: ModelProfile,
    sentinel: Sentinel,
    reason: str,
    figures: Mapping[str, Any],
    actor: Actor,
    now: datetime,
    times: _Times,
) -> ProfileQuarantine:
    already = NotStanding(f"{profile.slug} is in this quarantine already.")
    with transaction.atomic():
        _expire(ProfileQuarantine.objects.filter(profile=profile, sentinel=sentinel), now)
        row = ProfileQuarantine(
            profile=profile,
            sentinel=sentinel.value,
            opened_at=now,
            opened_by=actor.name[:160],
            reason=reason[:500],
            figures=dict(figures),
            probe_at=times.probe_at,
            expires_at=times.expires_at,
        )
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError:
            raise already from None
        _note(actor, Verb.CREATE, row, None, row.reason, now)
    return row


def record_clock(now: datetime) -> int:
    """Tell the audit log what the clock did: who became half-open, who expired; returns how many. It did so without
    this: decisions look at the time themselves."""
    with transaction.atomic():
        halves = ProfileQuarantine.objects.filter(
            closed_at=None, state=State.OPEN, probe_at__lte=now, expires_at__gt=now
        )
        count = 0
        for row in halves.select_for_update(of=("self",)).order_by("id"):
            before = describe(row, row.opened_at, figures=True)
            row.state = State.HALF_OPEN
            _save(row)
            _note(SYSTEM, Verb.UPDATE, row, before, "Half-open: its cool-down is over.", now)
            count += 1
        return count + _expire(ProfileQuarantine.objects.all(), now)


def _expire(rows: QuerySet[ProfileQuarantine], now: datetime) -> int:
    ended = rows.filter(closed_at=None, expires_at__lte=now).select_for_update(of=("self",)).order_by("id")
    count = 0
    for row in ended:
        _close(row, SYSTEM, Verb.EXPIRE, "It expired.", row.expires_at, now)
        count += 1
    return count


def reopen(pk: int, why: str, now: datetime) -> ProfileQuarantine | None:
    """Probes were bad: open again, for twice as long as before, but never beyond its expiry. None: it is closed by
    now."""
    with transaction.atomic():
        row = _locked(pk, now)
        if row is None:
            return None
        before = describe(row, now, figures=True)
        row.probes += 1
        wait = settings.PROFILE_QUARANTINE_COOLDOWN_SECONDS * 2 ** min(row.probes, 20)
        row.probe_at, row.state = now + timedelta(seconds=wait), State.OPEN
        _save(row)
        _note(SYSTEM, Verb.UPDATE, row, before, why, now)
        return row


def heal(pk: int, why: str, now: datetime) -> ProfileQuarantine | None:
    """Probes were good: it is over. None: it was by then."""
    with transaction.atomic():
        row = _locked(pk, now)
        if row is not None:
            _close(row, SYSTEM, Verb.REVOKE, why, now, now)
        return row


def release(pk: int, version: int, reason: str, actor: Actor, now: datetime) -> ProfileQuarantine:
    """A person ends it. Raises ValidationError, Conflict, NotStanding, ProfileQuarantine.DoesNotExist."""
    check_reason(reason)
    with transaction.atomic():
        row = ProfileQuarantine.objects.select_for_update(of=("self",)).get(pk=pk)
        if row.version != version:
            raise Conflict(row)
        if state_at(row, now) == State.CLOSED:
            raise NotStanding("It is over already.")
        _close(row, actor, Verb.REVOKE, reason.strip(), now, now)
        return row


def _locked(pk: int, now: datetime) -> ProfileQuarantine | None:
    rows = ProfileQuarantine.objects.select_for_update(of=("self",))
    return rows.filter(Q(expires_at__gt=now), pk=pk, closed_at=None).first()


def _close(
    row: ProfileQuarantine, actor: Actor, verb: AuditEntry.Verb, why: str, closed_at: datetime, now: datetime
) -> None:
    before = describe(row, row.opened_at, figures=True)
    row.state, row.closed_at = State.CLOSED, closed_at
    row.closed_by, row.close_reason = actor.name[:160], why[:500]
    _save(row)
    _note(actor, verb, row, before, why, now)


def _save(row: ProfileQuarantine) -> None:
    row.version += 1
    row.save()


def _note(
    actor: Actor,
    verb: AuditEntry.Verb,
    row: ProfileQuarantine,
    before: dict[str, Any] | None,
    reason: str,
    now: datetime,
) -> None:
    # Figures are of all tenants, and so is the entry: who is bound to some does not see it.
    audit.append(
        actor,
        verb,
        OBJECT_TYPE,
        str(row.pk),
        tenant=None,
        before=before,
        after=describe(row, now, figures=True),
        reason=reason[:500],
        at=now,
    )
