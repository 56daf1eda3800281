from django.apps import AppConfig


class CatalogConfig(AppConfig):
    """What exists: tenants, personas, model profiles, prices, service keys."""

    name = "catalog"
    verbose_name = "Catalogue"

    def ready(self) -> None:
        # Registers itself with drf-spectacular by being imported.
        from catalog import schema  # noqa: F401
