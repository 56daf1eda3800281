"""Admin pages show the rows of the tenants that somebody holds the permission for, and no others.

``AdminSite.register`` mixes this in, so that no page can forget it.
"""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse

from catalog.grants import reach
from catalog.tenancy import Tenants, covers, within


class TenantBound(admin.ModelAdmin[Any]):
    """Who holds a permission for some tenants only sees and changes those tenants' rows."""

    def _reach(self, request: HttpRequest, action: str) -> Tenants:
        return reach(request.user, f"{self.opts.app_label}.{action}_{self.opts.model_name}")

    def _visible(self, request: HttpRequest) -> Tenants:
        viewed, changed = self._reach(request, "view"), self._reach(request, "change")
        return None if viewed is None or changed is None else viewed | changed

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return within(super().get_queryset(request), self._visible(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A new row could be anybody's.
        return super().has_add_permission(request) and self._reach(request, "add") is None

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._is_theirs(request, "change", obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._is_theirs(request, "delete", obj)

    def _is_theirs(self, request: HttpRequest, action: str, obj: Any) -> bool:
        return obj is None or covers(self._reach(request, action), obj)

    def get_inline_instances(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        inlines = super().get_inline_instances(request, obj)
        for inline in inlines:
            opts = inline.opts
            tenants = reach(request.user, f"{opts.app_label}.view_{opts.model_name}")
            inline.get_queryset = _bound(inline.get_queryset, tenants)  # type: ignore[method-assign]
        return inlines

    def _get_obj_does_not_exist_redirect(
        self, request: HttpRequest, opts: Any, object_id: str
    ) -> HttpResponse:
        # A foreign tenant's row and one that is not there look the same, and like nothing at all.
        raise Http404(f"There is no {opts.verbose_name} of this id that you may see.")


def _bound(rows: Any, tenants: Tenants) -> Any:
    return lambda request: within(rows(request), tenants) if tenants is not None else rows(request)
