from django.apps import AppConfig


class ObservabilityConfig(AppConfig):
    """What the service says of itself: probes, heartbeats, meters, logs, traces."""

    name = "observability"
    verbose_name = "Observability"
