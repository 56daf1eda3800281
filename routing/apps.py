from django.apps import AppConfig


class RoutingConfig(AppConfig):
    """What the machine decides: scores, snapshots, decisions."""

    name = "routing"
    verbose_name = "Routing"

    def ready(self) -> None:
        from overrides import previewing
        from routing import checks  # noqa: F401  # registers them
        from routing.guarding import kinds
        from routing.preview import preview

        previewing.register(preview)
        kinds.register()
