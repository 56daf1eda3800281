from django.apps import AppConfig
from django.db.models.signals import post_migrate


class OverridesConfig(AppConfig):
    """What people decided: feature flags now, overrides of a scope's profile later."""

    name = "overrides"
    verbose_name = "Flags"

    def ready(self) -> None:
        from overrides.flags import ensure_flag

        post_migrate.connect(ensure_flag, sender=self)
