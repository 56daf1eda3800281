"""What rollouts do by themselves: look at the evidence, advance, complete, roll back, or pause where somebody else
changed the flag. Two runners at once do no harm: each change is made of the version that was judged."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F

from catalog.models import Persona
from overrides.approvals import Refused
from overrides.audit import SYSTEM
from overrides.models import AuditEntry
from overrides.states import describe as described
from routing.alerting import clear_alert, hold_alert
from routing.bundle import current_bundle
from routing.guarding import evidence, services
from routing.guarding.models import Rollout
from routing.guarding.scopes import flag_row, governed, why_not_its_own
from routing.models import Alert
from routing.rollout.judging import judge
from routing.rollout.verdict import Action, Verdict
from telemetry.clickhouse import ClickHouse, ClickHouseError
from telemetry.freshness_state import STALE_AFTER, Freshness, state

log = logging.getLogger(__name__)

Verb = AuditEntry.Verb

ALERT = "rollout_rolled_back:"
#: Looked at this often at first, and as a step grows old at every hundredth of its age, but never less often than the
#: second: reading a long step costs more, and tells little more than it did a minute ago.
EVERY, RARELY = timedelta(seconds=50), timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Look:
    """What was found of a running step. ``found`` None: the evidence could not be read. ``holds``: what keeps it from
    going on, whatever the evidence says."""

    found: evidence.Found | None
    verdict: Verdict | None
    holds: tuple[str, ...]


def advance_all(
    clickhouse: ClickHouse, now: datetime, repeat: timedelta, renew: Callable[[], None] = lambda: None
) -> dict[int, str]:
    """Attend to every rollout that is due, those first that were looked at longest ago; returns what was done, by
    id. ``repeat``: how often an alert that holds is told again."""
    waiting = Rollout.objects.filter(state__in=(Rollout.State.RUNNING, Rollout.State.PAUSED))
    rows = waiting.select_related("tenant", "persona").order_by(F("looked_at").asc(nulls_first=True), "pk")
    done = {}
    for rollout in rows:
        if _is_due(rollout, now):
            try:
                done[rollout.pk] = attend(rollout, clickhouse, now)
            except Refused as error:  # somebody was faster
                log.info("rollout %s: %s", rollout.pk, error)
            renew()
    keep_alerts(now, repeat)
    return done


def _is_due(rollout: Rollout, now: datetime) -> bool:
    if rollout.looked_at is None:
        return True
    return now - rollout.looked_at >= min(max(EVERY, (now - rollout.step_began_at) / 100), RARELY)


def attend(rollout: Rollout, clickhouse: ClickHouse, now: datetime) -> str:
    """Look at one and do what is to be done: an action's or ``pause``'s name. Raises Refused when it was changed
    meanwhile."""
    flag = described(flag_row())
    if why := why_not_its_own(rollout, flag):
        return _pause(rollout, why, now)
    look = look_at(rollout, governed(rollout, flag), clickhouse, now)
    _keep(rollout, look, now)
    action = look.verdict.action if look.verdict else Action.HOLD
    if action is Action.ROLL_BACK:
        return _act(rollout, Verb.ROLL_BACK, look, now)
    if action is Action.HOLD or look.holds or rollout.state == Rollout.State.PAUSED:
        return Action.HOLD.value
    return _act(rollout, Verb.ADVANCE if action is Action.ADVANCE else Verb.COMPLETE, look, now)


def look_at(rollout: Rollout, personas: list[Persona], clickhouse: ClickHouse, now: datetime) -> Look:
    """Read and judge the running step; changes nothing."""
    holds = _holds(rollout, personas, now)
    try:
        found = evidence.read(clickhouse, rollout, personas, now)
        held_out = any(persona.holdout_share > 0 for persona in personas)
        verdict = judge(services.plan_of(rollout), rollout.step, found.steps, now, holdout=held_out)
    except ClickHouseError as error:
        log.warning("rollout %s: %s", rollout.pk, error)
        return Look(None, None, ("ClickHouse to answer: the evidence could not be read", *holds))
    except ValueError as error:  # sums that cannot be: whatever made them so, nothing may follow from them
        log.error("rollout %s: %s", rollout.pk, error)
        return Look(None, None, (f"evidence that can be judged: {error}"[:300], *holds))
    return Look(found, verdict, (*_silence(found, rollout, now), *holds))


def _silence(found: evidence.Found, rollout: Rollout, now: datetime) -> tuple[str, ...]:
    """Nothing goes on upon silence: what does not come may be what fails."""
    last = found.newest or rollout.step_began_at
    if now - last <= STALE_AFTER:
        return ()
    minutes = int((now - last).total_seconds() // 60)
    return (f"a completion of the step's conversations: there was none for {minutes} minutes",)


def _holds(rollout: Rollout, personas: list[Persona], now: datetime) -> tuple[str, ...]:
    bundle, tenant = current_bundle(), rollout.tenant.slug
    if not personas:
        return ("a persona that it decides about: all of the tenant's have a share of their own",)
    holds = []
    if bundle.standing.is_killed(tenant):
        holds.append("the kill switch to be off")
    trusted = (Freshness.FRESH, Freshness.DEGRADED)
    found = (bundle.scores(tenant, persona.slug) for persona in personas if persona.slug in bundle.personas)
    if not any(scores is not None and state(scores.as_of, now) in trusted for scores in found):
        holds.append("metrics that are fresh enough to steer by: decisions give the default")
    return tuple(holds)


def _keep(rollout: Rollout, look: Look, now: datetime) -> None:
    """Store what was found. While nothing can be read, the last evidence stays, with its time."""
    told: dict[str, Any] = dict(rollout.look or {}) | {"holds": list(look.holds)}
    if look.found is not None and look.verdict is not None:
        told |= {
            "at": now.isoformat(),
            "evidence": evidence.stored(look.found.running),
            "verdict": look.verdict.to_dict(),
            "newest": look.found.newest.isoformat() if look.found.newest else None,
        }
    rollout.look, rollout.looked_at = told, now
    # No change of what was decided: the version stays, and of another one nothing is overwritten.
    Rollout.objects.filter(pk=rollout.pk, version=rollout.version).update(look=told, looked_at=now)


def _act(seen: Rollout, verb: AuditEntry.Verb, look: Look, now: datetime) -> str:
    assert look.verdict is not None  # noqa: S101  # there is no action without
    with transaction.atomic():
        rollout = services.locked(seen.pk, seen.version)
        if why := why_not_its_own(rollout, described(flag_row(lock=True))):
            return _pause_locked(rollout, why, now)
        before = services.describe(rollout)
        services.end_step(rollout, verb.value, now)
        if verb is Verb.ROLL_BACK:
            rollout.state, rollout.share = Rollout.State.ROLLED_BACK, Decimal(0)
        elif verb is Verb.COMPLETE:
            rollout.state = Rollout.State.COMPLETED
        else:
            services.begin_step(rollout, rollout.step + 1, now)
            rollout.look = rollout.looked_at = None
        services.write(rollout, verb, before, look.verdict.reason, SYSTEM, now, by_itself=True)
    log.log(
        logging.ERROR if verb is Verb.ROLL_BACK else logging.INFO,
        "rollout %s of %s: %s",
        rollout.pk,
        rollout.scope,
        look.verdict.reason,
    )
    return verb.value


def _pause(seen: Rollout, why: str, now: datetime) -> str:
    if seen.state == Rollout.State.PAUSED:
        return Action.HOLD.value
    with transaction.atomic():
        return _pause_locked(services.locked(seen.pk, seen.version), why, now)


def _pause_locked(rollout: Rollout, why: str, now: datetime) -> str:
    if rollout.state == Rollout.State.PAUSED:
        return Action.HOLD.value
    before = services.describe(rollout)
    rollout.state = Rollout.State.PAUSED
    services.write(rollout, Verb.PAUSE, before, f"Paused: {why}", SYSTEM, now, by_itself=True)
    return Verb.PAUSE.value


def keep_alerts(now: datetime, repeat: timedelta) -> None:
    """Of each rollout that rolled back by itself an alert holds until a person acts."""
    back = Rollout.objects.filter(state=Rollout.State.ROLLED_BACK, by_itself=True)
    names = set()
    for rollout in back.select_related("tenant", "persona"):
        name = alert_name(rollout)
        names.add(name)
        sentence = f"Rollout {rollout.pk} of {rollout.scope} is rolled back, and stays so. {rollout.reason}"
        hold_alert(name, sentence, now, repeat)
    holding = Alert.objects.filter(name__startswith=ALERT, cleared_at=None).values_list("name", flat=True)
    for name in sorted(set(holding) - names):
        clear_alert(name, "A person saw to it.", now)


def alert_name(rollout: Rollout) -> str:
    return f"{ALERT}{rollout.tenant.slug}/{rollout.persona.slug if rollout.persona else '*'}"
