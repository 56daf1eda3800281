from django.apps import AppConfig


class CatalogConfig(AppConfig):
    """What exists: tenants, personas, model profiles, prices, service keys."""

    name = "catalog"
    verbose_name = "Catalogue"
