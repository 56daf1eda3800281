"""What Celery beat runs for routing (the table is in config.celery)."""

import logging
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from routing import snapshots
from telemetry.clickhouse import ClickHouseError, get_clickhouse
from telemetry.lease import lease

log = logging.getLogger(__name__)


@shared_task
def write_snapshot() -> int | None:
    """Score every scope. While ClickHouse is away the last snapshot stands, and grows stale by itself."""
    now = timezone.now()
    with lease("snapshot", now) as won:
        if not won:
            return None
        try:
            return snapshots.write_snapshot(get_clickhouse(), now).pk
        except ClickHouseError as error:
            log.warning("snapshot: %s", error)
            return None


@shared_task
def prune_snapshots() -> int:
    """Delete snapshots older than SNAPSHOT_KEEP_DAYS, but never the newest."""
    return snapshots.prune(timezone.now() - timedelta(days=settings.SNAPSHOT_KEEP_DAYS))
