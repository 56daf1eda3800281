from django.apps import AppConfig


class TelemetryConfig(AppConfig):
    """What happened: completion events, their roll-ups, metrics and freshness."""

    name = "telemetry"
    verbose_name = "Telemetry"
