"""Alerts: conditions that people must know of, told by log, webhook and metric while they hold."""

import logging
import uuid
from datetime import datetime, timedelta

import orjson
from django.db import IntegrityError, transaction

from routing import webhooks
from routing.events import envelope
from routing.models import Alert

log = logging.getLogger(__name__)


def hold_alert(name: str, sentence: str, now: datetime, repeat: timedelta) -> Alert | None:
    """The condition holds: told when it begins, and every ``repeat`` while it does. None: another runner was faster to
    begin it, and tells."""
    holding = Alert.objects.filter(name=name, cleared_at=None).first()
    if holding is None:
        try:
            with transaction.atomic():
                holding = Alert.objects.create(name=name, detail=sentence[:500], since=now, told_at=now)
        except IntegrityError:
            return None
        _tell(holding, "began", sentence, now)
    elif now - holding.told_at >= repeat:
        holding.told_at, holding.detail, holding.times_told = now, sentence[:500], holding.times_told + 1
        holding.save(update_fields=["told_at", "detail", "times_told"])
        _tell(holding, "holds", sentence, now)
    return holding


def clear_alert(name: str, sentence: str, now: datetime) -> bool:
    """The condition holds no more, as ``sentence`` says; whether it did."""
    holding = Alert.objects.filter(name=name, cleared_at=None).first()
    if holding is None:
        return False
    holding.cleared_at = now
    holding.save(update_fields=["cleared_at"])
    _tell(holding, "cleared", sentence, now)
    return True


def _tell(alert: Alert, what: str, sentence: str, now: datetime) -> None:
    log.log(
        logging.INFO if what == "cleared" else logging.ERROR, "alert %s %s: %s", alert.name, what, sentence
    )
    event_id = str(uuid.uuid4())
    data = {"name": alert.name, "status": what, "detail": sentence, "since": alert.since.isoformat()}
    body = envelope(
        webhooks.ALERT_TYPE, event_id, alert.name, now.isoformat(), "/api/v1/schemas/router-alert/v1", data
    )
    webhooks.tell(event_id, webhooks.ALERT_TYPE, orjson.dumps(body).decode(), now)
