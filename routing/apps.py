from django.apps import AppConfig


class RoutingConfig(AppConfig):
    """What the machine decides: scores, snapshots, decisions."""

    name = "routing"
    verbose_name = "Routing"
