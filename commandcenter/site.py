"""The AdminSite that all pages of the Command Center live in."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest


class CommandCenterSite(admin.AdminSite):
    """Django's admin, named for what it is, and always showing the deployment mode."""

    site_header = "Automated LLM Selection"
    site_title = "Command Center"
    index_title = "Command Center"
    site_url = "/api/docs/"

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "deployment_mode": settings.MODE.value}
