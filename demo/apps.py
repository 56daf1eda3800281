from django.apps import AppConfig


class DemoConfig(AppConfig):
    """What we show: a catalogue and telemetry made from recorded LLM outcomes. Absent in PRODUCTION."""

    name = "demo"
    verbose_name = "Demo"
