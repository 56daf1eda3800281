"""The AdminSite that all pages of the Command Center live in."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from commandcenter.audited import AUDITED, Audited
from commandcenter.tabs import TAB_OF, TABS
from commandcenter.tenant_bound import TenantBound


class CommandCenterSite(admin.AdminSite):
    """Django's admin, named for what it is, and always showing the deployment mode."""

    site_header = "Automated LLM Selection"
    site_title = "Command Center"
    index_title = "Command Center"
    site_url = "/api/docs/"

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Whoever wrote its page: a row is seen by those who may see its tenant, and what decides, or grants, is
        audited."""
        listed = [model_or_iterable] if isinstance(model_or_iterable, type) else list(model_or_iterable)
        for model in listed:
            page = admin_class or admin.ModelAdmin
            mixed = (Audited, TenantBound) if model in AUDITED else (TenantBound,)
            bound = type(f"Bound{page.__name__}", (*mixed, page), {"__module__": page.__module__})
            super().register(model, bound, **options)

    def get_urls(self) -> list[Any]:
        from commandcenter.urls import pages  # it imports the site's pages, which import models

        return [*pages(self.admin_view), *super().get_urls()]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        match = request.resolver_match
        return {
            **super().each_context(request),
            "deployment_mode": settings.MODE.value,
            "tabs": [(name, label, reverse(f"admin:{name}")) for name, label in TABS],
            # Pages of the catalogue belong to its tab.
            "tab": TAB_OF.get(match.url_name or "", "index") if match else "",
        }
