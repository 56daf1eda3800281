"""System checks that look at the database: `manage.py check --database default`, and every `migrate`."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import DatabaseError
from django.utils import timezone


@register(Tags.database)
def flag_is_safe(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """routing.W001: the flag is on, and telemetry is stale or blind."""
    from routing.bundle import current_bundle
    from routing.health import flag_safety

    if not databases:
        return []
    try:
        safety = flag_safety(current_bundle(), timezone.now())
    except DatabaseError:
        return []  # not migrated yet, or away: other checks say so
    if safety.is_safe:
        return []
    return [
        Warning(
            safety.sentence(),
            hint="Look at GET /api/v1/metrics/freshness, or turn the flag off until telemetry is back.",
            id="routing.W001",
        )
    ]
