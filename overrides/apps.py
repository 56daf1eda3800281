from django.apps import AppConfig


class OverridesConfig(AppConfig):
    """What people decided: feature flags now, overrides of a scope's profile later."""

    name = "overrides"
    verbose_name = "Flags"
