"""What Celery beat runs for telemetry (the table is in config.celery)."""

import logging

from celery import shared_task
from django.conf import settings
from django.utils import timezone

import config.celery  # noqa: F401  # whose broker they are sent to
from telemetry import ingest, recount, retention, rollups, spool
from telemetry.clickhouse import ClickHouseError, get_clickhouse
from telemetry.lease import lease

log = logging.getLogger(__name__)

#: A day's worth: well within the lease, and a backlog is done newest first, a day every few seconds.
_BUCKETS_PER_RUN = 288


@shared_task
def drain_spool() -> int:
    """Send waiting events to ClickHouse. While it is away they wait, and the next second tries again."""
    now = timezone.now()
    with lease("drain", now) as won:
        if not won:
            return 0
        try:
            clickhouse = get_clickhouse()
            sent = 0
            while block := spool.drain(clickhouse, timezone.now(), settings.DRAIN_BLOCK_ROWS, max_blocks=1):
                sent += block
                won.renew(timezone.now())
            if not sent:
                # An empty spool proves nothing about ClickHouse; a ping does.
                clickhouse.ping()
        except ClickHouseError as error:
            log.warning("drain: %s", error)
            spool.note_failure("drain", timezone.now(), error)
            return 0
        # An idle second is no news, unless the last news was bad.
        if sent or spool.is_failing("drain"):
            spool.note_success("drain", timezone.now())
        return sent


@shared_task
def roll_up_dirty_buckets() -> int:
    """Recompute what changed. A failure leaves the marks, so the next run does it."""
    now = timezone.now()
    with lease("rollup", now) as won:
        if not won:
            return 0
        try:
            clickhouse = get_clickhouse()
            clickhouse.ping()
            count = rollups.roll_up_dirty(clickhouse, timezone.now, most=_BUCKETS_PER_RUN)
        except ClickHouseError as error:
            log.warning("roll-up: %s", error)
            spool.note_failure("rollup", timezone.now(), error)
            return 0
        spool.note_success("rollup", timezone.now())
        return count


@shared_task
def recount_buckets() -> int:
    """On a cluster: ask for roll-ups that do not add up, since a replica came back with events."""
    now = timezone.now()
    with lease("recount", now) as won:
        clickhouse = get_clickhouse()
        if not won or not clickhouse.cluster:
            return 0
        try:
            count = recount.recount(clickhouse, now, settings.RETENTION_DAYS["completions"])
        except ClickHouseError as error:
            log.warning("recount: %s", error)
            return 0
        if count:
            log.warning("recount: %d five-minute buckets did not add up and will be rolled up again", count)
        return count


@shared_task
def apply_retention() -> None:
    """Drop partitions past their age."""
    try:
        for dropped in retention.apply_retention(get_clickhouse(), timezone.now(), settings.RETENTION_DAYS):
            log.info("retention: dropped %s partition %s", dropped.table, dropped.partition)
    except ClickHouseError as error:
        log.warning("retention: %s", error)


@shared_task
def trim_quarantine() -> int:
    """Keep the newest QUARANTINE_KEEP refused events."""
    return ingest.trim_quarantine(settings.QUARANTINE_KEEP)
