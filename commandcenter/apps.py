from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class CommandCenterConfig(AppConfig):
    """What operators see."""

    name = "commandcenter"
    verbose_name = "Command Center"


class CommandCenterAdminConfig(AdminConfig):
    """Django's admin with the Command Center as its site, so that every app's admin lands in it."""

    default_site = "commandcenter.site.CommandCenterSite"
