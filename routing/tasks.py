"""What Celery beat runs for routing (the table is in config.celery)."""

import logging
from datetime import datetime, timedelta
from typing import Any

from celery import shared_task
from django.conf import settings
from django.utils import timezone

import config.celery  # noqa: F401  # whose broker they are sent to
from routing import archive, delivering, events, health, metering, snapshots, webhooks
from routing.guarding import machine
from routing.journal import journal
from routing.quarantining import services, watching
from routing.savings import CONTROL, TREATED
from routing.scoring_runs import services as scoring_runs
from telemetry.arms import LOOKBACK, RECENT, update_arms
from telemetry.clickhouse import ClickHouseError, get_clickhouse
from telemetry.lease import lease

log = logging.getLogger(__name__)

_DECISIONS_PER_BLOCK = 2_000
#: How often beat asks for a snapshot (config.celery).
SNAPSHOT_SECONDS = 60


@shared_task
def write_snapshot() -> int | None:
    """Score every scope. While ClickHouse is away the last snapshot stands, and grows stale by itself. With
    SCORING_PARTITIONS > 1 the parts are sent to workers instead, and the last one of them stores the snapshot."""
    now = timezone.now()
    with lease("snapshot", now) as won:
        if not won:
            return None
        try:
            if settings.SCORING_PARTITIONS > 1:
                _send_parts(now)
                return None
            scoring_runs.drop(now)  # what a time with more partitions left behind
            return snapshots.write_snapshot(get_clickhouse(), now).pk
        except ClickHouseError as error:
            log.warning("snapshot: %s", error)
            return None


def _send_parts(now: datetime) -> None:
    """Those of a new run, or those that are still missing of the one under way: their worker may be dead. Who works on
    one holds its lease, so a part that was sent twice is not scored twice."""
    deadline = timedelta(seconds=settings.SCORING_DEADLINE_SECONDS)
    run, missing = scoring_runs.begin(get_clickhouse(), now, settings.SCORING_PARTITIONS, deadline)
    for number in missing:
        score_part.apply_async((run.pk, number), expires=SNAPSHOT_SECONDS)


@shared_task
def score_part(run: int, number: int) -> int | None:
    """Score one part of a run; the snapshot's id, if it was the last one. While ClickHouse is away it is left for the
    next time."""
    with lease(f"score-part-{number}", timezone.now()) as won:
        if not won:
            return None
        try:
            stored = scoring_runs.score_part(
                get_clickhouse(), run, number, alive=lambda: won.renew(timezone.now())
            )
        except (ClickHouseError, archive.DamagedArchiveError) as error:
            log.warning("part %d of scoring run %d: %s", number, run, error)
            return None
        return None if stored is None else stored.pk


@shared_task
def publish_selections() -> int:
    """Send decisions to ClickHouse. While it is away they wait, and the next run tries again."""
    with lease("publish", timezone.now()) as won:
        if not won:
            return 0
        journal.carry_left_behind()
        sent = 0
        try:
            while block := events.publish(get_clickhouse(), _DECISIONS_PER_BLOCK):
                sent += block
                won.renew(timezone.now())
        except ClickHouseError as error:
            log.warning("selection events: %s", error)
        return sent


@shared_task
def send_webhooks() -> int:
    """Make deliveries of new decisions, then try those that are due."""
    with lease("webhooks", timezone.now()) as won:
        if not won:
            return 0
        while webhooks.fan_out(timezone.now(), _DECISIONS_PER_BLOCK):
            won.renew(timezone.now())
        return delivering.deliver(timezone.now())


@shared_task
def check_alerts() -> bool:
    """Whether the alert of the flag's safety holds."""
    with lease("alerts", timezone.now()) as won:
        if not won:
            return False
        repeat = timedelta(seconds=settings.ALERT_REPEAT_SECONDS)
        return health.check_alert(timezone.now(), repeat) is not None


@shared_task
def advance_rollouts() -> list[str]:
    """Look at every rollout that is due: hold, advance, complete or roll back."""
    now = timezone.now()
    with lease("rollouts", now) as won:
        if not won:
            return []
        done = machine.advance_all(
            get_clickhouse(),
            now,
            timedelta(seconds=settings.ALERT_REPEAT_SECONDS),
            renew=lambda: won.renew(timezone.now()),
        )
        return [f"{pk}: {action}" for pk, action in done.items()]


@shared_task
def watch_profiles() -> int:
    """Judge profiles by what they did in the last minutes; returns how many went into quarantine. While ClickHouse is
    away none does, and those that are in one leave it by the clock."""
    now = timezone.now()
    with lease("sentinels", now) as won:
        if not won:
            return 0
        services.record_clock(now)
        opened: list[Any] = []
        if settings.SENTINELS_ENABLED:
            try:
                opened = watching.watch(get_clickhouse(), now)
            except ClickHouseError as error:
                log.warning("sentinels: %s", error)
        watching.tell_alerts(now, timedelta(seconds=settings.ALERT_REPEAT_SECONDS))
        return len(opened)


@shared_task
def measure_overrides() -> int:
    """Measure what standing overrides have cost or saved. While ClickHouse is away the last figures stay."""
    now = timezone.now()
    with lease("meter", now) as won:
        if not won:
            return 0
        try:
            return metering.measure_standing(get_clickhouse(), now, renew=lambda: won.renew(timezone.now()))
        except ClickHouseError as error:
            log.warning("meter: %s", error)
            return 0


@shared_task
def update_savings() -> int:
    """Sum up the holdout's arms of the last days, where anything changed. While ClickHouse is away the sums stay."""
    return _update_arms(RECENT)


@shared_task
def revisit_savings() -> int:
    """The same for all days whose raw events are kept: events that waited while ClickHouse was away may be days old."""
    kept = min(settings.RETENTION_DAYS[table] for table in ("completions", "selections"))
    # A day whose decisions are partly gone must not be summed up again without them.
    return _update_arms(timedelta(days=kept - 1) - LOOKBACK)


def _update_arms(back: timedelta) -> int:
    now = timezone.now()
    with lease("arms", now) as won:
        if not won:
            return 0
        try:
            days = update_arms(
                get_clickhouse(),
                now - back,
                now,
                control=CONTROL,
                treated=TREATED,
                renew=lambda: won.renew(timezone.now()),
            )
        except ClickHouseError as error:
            log.warning("savings: %s", error)
            return 0
        return len(days)


@shared_task
def prune_decisions() -> None:
    """Delete decisions past SELECTION_KEEP_DAYS, then what only they were made from."""
    now = timezone.now()
    before = now - timedelta(days=settings.SELECTION_KEEP_DAYS)
    webhooks.prune(before)
    events.prune(before)
    snapshots.prune(now - timedelta(days=settings.SNAPSHOT_KEEP_DAYS))
    archive.prune(before)
