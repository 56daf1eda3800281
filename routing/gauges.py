"""What is known now of the whole deployment, as gauges: read from the database, so the same in every process, and a
restart loses nothing. docs/metrics.md tells what each is."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge

from observability import heartbeats
from observability.models import Heartbeat
from overrides import checkpoints
from overrides.models import AuditHead
from routing.bundle import current_bundle
from routing.health import FlagSafety, Outboxes, flag_safety, read_outboxes
from routing.models import Alert
from routing.readiness import free_bytes
from routing.scoring_runs import services as scoring_runs
from telemetry.freshness import Pipeline, read_pipeline
from telemetry.freshness_state import Freshness

#: What stands before the colon of an alert's name; always told, 0 while none holds.
ALERTS = ("flag_on_without_telemetry", "profile_quarantined", "rollout_rolled_back")
_MOST_ALERTS = 20
_FRESHNESS = list(Freshness)


@dataclass(frozen=True, slots=True)
class Reading:
    """A gauge's name, help and value (None: unknown, so absent). ``alert``: the only label there is."""

    name: str
    text: str
    value: float | None
    alert: str | None = None


def collect(now: datetime) -> CollectorRegistry:
    """All gauges. Raises DatabaseError."""
    registry = CollectorRegistry()
    labelled: dict[str, Gauge] = {}
    for one in readings(now):
        if one.value is None:
            continue
        if one.alert is None:
            Gauge(one.name, one.text, registry=registry).set(float(one.value))
            continue
        gauge = labelled.get(one.name)
        if gauge is None:
            gauge = labelled[one.name] = Gauge(one.name, one.text, ["alert"], registry=registry)
        gauge.labels(one.alert).set(float(one.value))
    return registry


def readings(now: datetime) -> Iterator[Reading]:
    """Every gauge there can be, unknown ones too."""
    yield from _steering(flag_safety(current_bundle(), now))
    yield from _scoring(now)
    yield from _pipeline(read_pipeline(), now)
    yield from _outboxes(read_outboxes())
    yield from _processes(now)
    yield from _alerts()
    yield from _audit(now)
    yield Reading("selection_disk_free_bytes", "Left on the disk of this process's DATA_DIR.", _disk())


def _steering(safety: FlagSafety) -> Iterator[Reading]:
    yield Reading(
        "selection_flag_on", "1 while AUTO_MODEL_SELECTION_ENABLED is on for some conversation.", safety.on
    )
    yield Reading(
        "selection_flag_on_without_telemetry",
        "1 while the flag is on and telemetry is stale or blind: the alert holds.",
        not safety.is_safe,
    )
    yield Reading(
        "selection_telemetry_freshness",
        "0 fresh, 1 degraded, 2 stale, 3 blind.",
        _FRESHNESS.index(safety.freshness),
    )
    yield Reading(
        "selection_telemetry_age_seconds", "Age of the newest scored completion.", safety.age_seconds
    )
    yield Reading("selection_scopes", "Scopes with scores of their own.", safety.scopes)
    yield Reading(
        "selection_scopes_stale",
        "Of these, scopes whose metrics are too old to steer.",
        safety.scopes_stale,
    )


def _scoring(now: datetime) -> Iterator[Reading]:
    run = scoring_runs.current()
    yield Reading(
        "selection_scoring_run_age_seconds",
        "Since the scoring run in parts that is under way began.",
        None if run is None else _age(run.created_at, now),
    )


def _pipeline(pipeline: Pipeline, now: datetime) -> Iterator[Reading]:
    yield Reading(
        "selection_spool_events",
        "Accepted completions that ClickHouse has not got.",
        pipeline.waiting_events,
    )
    yield Reading(
        "selection_spool_age_seconds", "Age of the oldest of them.", _age(pipeline.oldest_waiting, now)
    )
    yield Reading("selection_dirty_buckets", "Buckets that wait for their roll-up.", pipeline.dirty_buckets)
    yield Reading(
        "selection_dirty_age_seconds", "How long the first of them waits.", _age(pipeline.oldest_dirty, now)
    )
    yield Reading(
        "selection_clickhouse_down", "1 while the pipeline cannot reach ClickHouse.", pipeline.clickhouse_down
    )


def _outboxes(outboxes: Outboxes) -> Iterator[Reading]:
    yield Reading(
        "selection_outbox_decisions",
        "Decisions that ClickHouse has not got.",
        outboxes.decisions_for_clickhouse,
    )
    yield Reading(
        "selection_outbox_webhook_decisions",
        "Decisions without webhook deliveries yet.",
        outboxes.decisions_for_webhooks,
    )
    yield Reading(
        "selection_webhook_deliveries_waiting", "Deliveries under way.", outboxes.deliveries_waiting
    )
    yield Reading("selection_webhook_deliveries_dead", "Deliveries given up.", outboxes.deliveries_dead)
    yield Reading(
        "selection_journal_files",
        "Files of decisions made while the database was away, on this host.",
        outboxes.journal_files,
    )


def _processes(now: datetime) -> Iterator[Reading]:
    beat, worker = heartbeats.last(Heartbeat.Kind.BEAT), heartbeats.last(Heartbeat.Kind.WORKER)
    yield Reading("selection_beat_silent_seconds", "Since beat last sent a task.", beat.silent_seconds(now))
    yield Reading(
        "selection_beat_lag_seconds",
        "By how much beat's longest pause before that was too long.",
        beat.lag_seconds,
    )
    yield Reading(
        "selection_worker_silent_seconds",
        "Since a Celery worker last ended a task.",
        worker.silent_seconds(now),
    )


def _alerts() -> Iterator[Reading]:
    """Names may go on after a colon, with a tenant or a profile: that part is no label."""
    holding = Counter(
        _family(name) for name in Alert.objects.filter(cleared_at=None).values_list("name", flat=True)
    )
    for known in ALERTS:
        holding.setdefault(known, 0)
    kept = {*ALERTS, *sorted(set(holding) - {"other"})[:_MOST_ALERTS]}
    for family in sorted(kept):
        yield Reading("selection_alerts", "Alerts that hold.", holding.pop(family), family)
    if holding:
        yield Reading("selection_alerts", "Alerts that hold.", holding.total(), "other")


def _family(name: str) -> str:
    family = name.partition(":")[0]
    return family if re.fullmatch(r"[a-z][a-z0-9_]{0,40}", family) else "other"


def _audit(now: datetime) -> Iterator[Reading]:
    """The end of the checkpoint file against the log. Unknown where this process does not see the file."""
    broken: bool | None = None
    unsigned: int | None = None
    at: datetime | None = None
    try:
        last = checkpoints.last()
    except OSError:
        last = None
    if last is not None:
        at = datetime.fromisoformat(last.at)
        head = AuditHead.objects.filter(id=1).values_list("seq", flat=True).first() or 0
        unsigned = max(0, head - last.seq)
        try:
            checkpoints.check([last], checkpoints.trusted_keys())
            broken = False
        except checkpoints.Misfit:
            broken = True
    yield Reading(
        "selection_audit_broken", "1 while the last signed checkpoint does not fit the audit log.", broken
    )
    yield Reading("selection_audit_unsigned_entries", "Audit entries since that checkpoint.", unsigned)
    yield Reading("selection_audit_checkpoint_age_seconds", "Since that checkpoint.", _age(at, now))


def _disk() -> float | None:
    try:
        return free_bytes()
    except OSError:
        return None


def _age(at: datetime | None, now: datetime) -> float | None:
    return None if at is None else (now - at).total_seconds()
