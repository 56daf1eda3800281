"""`manage.py telemetry status|score`: how fresh telemetry is and where it is held up; score it now."""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from routing import snapshots
from routing.bundle import current_bundle
from routing.health import flag_safety
from telemetry import freshness, spool
from telemetry.clickhouse import ClickHouseError, get_clickhouse
from telemetry.freshness import Pipeline
from telemetry.freshness_state import Freshness
from telemetry.models import Lease, PipelineStage

_TRUSTED = (Freshness.FRESH, Freshness.DEGRADED)


class Command(BaseCommand):
    help = "Tell how fresh telemetry is and, when it is not, where it is held up; or score it now."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        status = actions.add_parser(
            "status",
            help="spool, roll-ups, ClickHouse, scopes and scores, from the Django database alone; exits with 1 when "
            "scores are too old to steer by",
        )
        status.add_argument("--tenant", metavar="SLUG", help="only this tenant's scopes")
        actions.add_parser(
            "score",
            help="score every scope and write a snapshot, which decisions use within 5 seconds; Celery does so every "
            "minute, and once more does no harm",
        )

    def handle(self, *, action: str, **options: Any) -> None:
        if action == "status":
            self._status(options["tenant"], timezone.now())
            return
        try:
            snapshot = snapshots.write_snapshot(get_clickhouse(), timezone.now())
        except ClickHouseError as error:
            raise CommandError(f"ClickHouse: {error}. The last snapshot stands.") from None
        self.stdout.write(f"snapshot {snapshot.pk}: {snapshot.scopes} scopes scored")

    def _status(self, tenant: str | None, now: datetime) -> None:
        waiting, stages = spool.backlog(), list(PipelineStage.objects.order_by("name"))
        pipeline = freshness.pipeline_of(waiting, stages)
        self._pipeline(pipeline, waiting, now)
        for stage in stages:
            self._stage(stage, now)
        for lease in Lease.objects.filter(expires_at__gt=now).order_by("name"):
            self.stdout.write(f"running: {lease.name}, for {_age(now, lease.expires_at)} more at most")
        scopes = freshness.read_scopes(now, None if tenant is None else frozenset({tenant}))
        for scope in scopes:
            age = _age(scope.as_of, now)
            self.stdout.write(f"scope: {scope.tenant} x {scope.persona} is {scope.state}, {age} old")
        safety = flag_safety(current_bundle(), now)
        age = "none" if safety.age_seconds is None else f"{safety.age_seconds:.0f} s old"
        told = f"scores that decisions use: {safety.freshness} ({age}), flag {'on' if safety.on else 'off'}"
        cause = pipeline.cause(now).value
        if safety.freshness in _TRUSTED:
            self.stdout.write(told if safety.freshness is Freshness.FRESH else f"{told}, cause: {cause}")
        else:
            raise CommandError(
                f"{told}, cause: {cause}. Decisions give the defaults while the flag is on.", returncode=1
            )

    def _pipeline(self, pipeline: Pipeline, waiting: spool.Backlog, now: datetime) -> None:
        self.stdout.write(f"clickhouse: {'DOWN' if pipeline.clickhouse_down else 'reached'}")
        oldest = f", the oldest {_age(waiting.oldest, now)} old" if waiting.oldest else ""
        self.stdout.write(f"spool: {waiting.events} events in {waiting.batches} batches{oldest}")
        if waiting.retrying:
            self.stdout.write(f"refused by ClickHouse: {waiting.retrying} batches: {waiting.refusal}")
        oldest = f", the oldest {_age(pipeline.oldest_dirty, now)} old" if pipeline.oldest_dirty else ""
        self.stdout.write(f"buckets to roll up: {pipeline.dirty_buckets}{oldest}")

    def _stage(self, stage: PipelineStage, now: datetime) -> None:
        if stage.is_failing:
            ago = _age(stage.failed_at, now)
            self.stdout.write(f"{stage.name}: FAILING, last {ago} ago: {stage.error_code}: {stage.error}")
        else:
            self.stdout.write(f"{stage.name}: well, last success {_age(stage.succeeded_at, now)} ago")


def _age(since: datetime | None, now: datetime) -> str:
    return "never" if since is None else f"{(now - since).total_seconds():.0f} s"
