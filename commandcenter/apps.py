from django.apps import AppConfig, apps
from django.contrib.admin.apps import SimpleAdminConfig
from django.db.models.signals import post_migrate


class CommandCenterConfig(AppConfig):
    """What operators see."""

    default = True
    name = "commandcenter"
    verbose_name = "Command Center"

    def ready(self) -> None:
        from commandcenter.roles import ensure_roles

        # Of all apps with models the last: the permissions of the others are there by then.
        post_migrate.connect(ensure_roles, sender=apps.get_app_config("routing"))


class CommandCenterAdminConfig(SimpleAdminConfig):
    """Django's admin with the Command Center as its site, so that every app's admin lands in it."""

    default = False
    default_site = "commandcenter.site.CommandCenterSite"

    def ready(self) -> None:
        super().ready()
        self.module.autodiscover()  # type: ignore[union-attr]  # as AdminConfig does
