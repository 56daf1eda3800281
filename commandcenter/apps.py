from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig


class CommandCenterConfig(AppConfig):
    """What operators see."""

    default = True
    name = "commandcenter"
    verbose_name = "Command Center"


class CommandCenterAdminConfig(SimpleAdminConfig):
    """Django's admin with the Command Center as its site, so that every app's admin lands in it."""

    default = False
    default_site = "commandcenter.site.CommandCenterSite"

    def ready(self) -> None:
        super().ready()
        self.module.autodiscover()  # type: ignore[union-attr]  # as AdminConfig does
