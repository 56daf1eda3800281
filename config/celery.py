"""The Celery app and the whole beat table: everything that runs by itself, and how often."""

import os
from typing import Any

from celery import Celery
from celery.signals import beat_init, celeryd_init, import_modules, worker_ready
from django.apps import apps

from config import apart

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("selection")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# Of these the worker and the beat inside config.embedded send the second only, where it does nothing.
celeryd_init.connect(apart.begin_worker, weak=False, dispatch_uid="config.apart")
beat_init.connect(apart.begin_beat, weak=False, dispatch_uid="config.apart")
worker_ready.connect(apart.serve_metrics, weak=False, dispatch_uid="config.apart")


def _listen(**_: Any) -> None:
    from observability import pulses  # its models are there once Django is set up

    pulses.connect()


# A worker and a beat set Django up when they import their tasks. A web process comes here when it first sends one:
# most never do, and Celery takes memory.
if apps.ready:
    _listen()
else:
    import_modules.connect(_listen, weak=False, dispatch_uid="config.celery")


def _every(seconds: float, task: str) -> dict[str, Any]:
    # A task that could not start before its successor is due is dropped, so a slow or absent worker
    # finds one of each waiting, not a day's worth.
    return {"task": task, "schedule": seconds, "options": {"expires": max(seconds, 5)}}


# In memory, so a beat starts from nothing each time. Celery's default is a file, which nothing here needs.
app.conf.beat_scheduler = "celery.beat:Scheduler"
app.conf.beat_schedule = {
    "drain-spool": _every(1, "telemetry.tasks.drain_spool"),
    "roll-up-dirty-buckets": _every(5, "telemetry.tasks.roll_up_dirty_buckets"),
    "write-snapshot": _every(60, "routing.tasks.write_snapshot"),
    "publish-selections": _every(1, "routing.tasks.publish_selections"),
    "send-webhooks": _every(2, "routing.tasks.send_webhooks"),
    "check-alerts": _every(30, "routing.tasks.check_alerts"),
    "watch-profiles": _every(10, "routing.tasks.watch_profiles"),
    "record-expiries": _every(30, "overrides.tasks.record_expiries"),
    "write-audit-checkpoint": _every(300, "overrides.tasks.write_audit_checkpoint"),
    "prune-idempotency-keys": _every(3600, "overrides.tasks.prune_idempotency_keys"),
    "advance-rollouts": _every(60, "routing.tasks.advance_rollouts"),
    "measure-overrides": _every(300, "routing.tasks.measure_overrides"),
    "update-savings": _every(120, "routing.tasks.update_savings"),
    "revisit-savings": _every(21_600, "routing.tasks.revisit_savings"),
    "prune-decisions": _every(3600, "routing.tasks.prune_decisions"),
    "trim-quarantine": _every(3600, "telemetry.tasks.trim_quarantine"),
    "recount-buckets": _every(300, "telemetry.tasks.recount_buckets"),
    "apply-retention": _every(3600, "telemetry.tasks.apply_retention"),
    "prune-sign-ins": _every(3600, "commandcenter.tasks.prune_sign_ins"),
    "clear-sessions": _every(3600, "commandcenter.tasks.clear_sessions"),
}
