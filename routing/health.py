"""Whether this service can do its work, and the alert when the flag is on and telemetry cannot be trusted."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from routing.alerting import clear_alert, hold_alert
from routing.bundle import current_bundle
from routing.engine import Bundle
from routing.journal import journal
from routing.models import Alert, Selection, WebhookDelivery
from telemetry.freshness import read_pipeline
from telemetry.freshness_state import Freshness, state

#: The flag is on for somebody, and no scope has metrics that are fresh enough to steer by.
UNTRUSTED = "flag_on_without_telemetry"


@dataclass(frozen=True, slots=True)
class FlagSafety:
    """What the flag steers by. ``on``: for some conversation; ``age_seconds`` of the newest scores."""

    on: bool
    freshness: Freshness
    age_seconds: float | None
    scopes_stale: int
    scopes: int
    cause: str | None

    @property
    def is_safe(self) -> bool:
        return not self.on or self.freshness in (Freshness.FRESH, Freshness.DEGRADED)

    def sentence(self) -> str:
        age = (
            "there are no metrics" if self.age_seconds is None else f"{self.age_seconds / 60:.0f} minutes old"
        )
        return (
            f"AUTO_MODEL_SELECTION_ENABLED is on and telemetry is {self.freshness.value} ({age}; cause: "
            f"{self.cause}): decisions give the defaults."
        )


def flag_is_on(bundle: Bundle) -> bool:
    """Whether some tenant's conversations, or some share of them, are selected for."""
    return any(bundle.flag.is_on_somewhere(slug) for slug, tenant in bundle.tenants.items() if tenant.enabled)


def flag_safety(bundle: Bundle, now: datetime) -> FlagSafety:
    """Judge by the scores that decisions use: a late snapshot counts as much as late telemetry."""
    snapshot = bundle.snapshot
    found = [*snapshot.scopes.values(), *snapshot.persona_scopes.values()] if snapshot else []
    ages = [scores.as_of for scores in found if scores.as_of is not None]
    newest = max(ages, default=None)
    freshness = state(newest, now)
    trusted = (Freshness.FRESH, Freshness.DEGRADED)
    stale = sum(state(s.as_of, now) not in trusted for s in snapshot.scopes.values()) if snapshot else 0
    return FlagSafety(
        on=flag_is_on(bundle),
        freshness=freshness,
        age_seconds=None if newest is None else (now - newest).total_seconds(),
        scopes_stale=stale,
        scopes=len(snapshot.scopes) if snapshot else 0,
        cause=None if freshness is Freshness.FRESH else read_pipeline().cause(now).value,
    )


def check_alert(now: datetime, repeat: timedelta) -> Alert | None:
    """Raise, repeat or clear the alert; returns it when it holds. Told by log, webhook and metric: when it
    begins, every ``repeat`` while it holds, and once when it is cleared."""
    safety = flag_safety(current_bundle(), now)
    if safety.is_safe:
        clear_alert(UNTRUSTED, "Telemetry can be trusted again, or the flag is off.", now)
        return None
    return hold_alert(UNTRUSTED, safety.sentence(), now, repeat)


@dataclass(frozen=True, slots=True)
class Outboxes:
    """What waits to be published."""

    decisions_for_clickhouse: int
    decisions_for_webhooks: int
    deliveries_waiting: int
    deliveries_dead: int
    journal_files: int


def read_outboxes() -> Outboxes:
    """Four counts on partial indexes."""
    # What waits for a webhook that is switched off is not under way.
    deliveries = WebhookDelivery.objects.filter(webhook__enabled=True)
    return Outboxes(
        decisions_for_clickhouse=Selection.objects.filter(in_clickhouse=False).count(),
        decisions_for_webhooks=Selection.objects.filter(fanned_out=False).count(),
        deliveries_waiting=deliveries.filter(state=WebhookDelivery.State.WAITING).count(),
        deliveries_dead=deliveries.filter(state=WebhookDelivery.State.DEAD).count(),
        journal_files=journal.waiting(),
    )
