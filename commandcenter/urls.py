"""Addresses of the Command Center's pages, below the admin's."""

from collections.abc import Callable
from typing import Any

from django.urls import URLPattern, path

from commandcenter import activity, shell
from commandcenter.views import bulk, overview, panel, providers, scope, selection

_SCOPE = "center/scopes/<str:tenant>/<str:persona>"


def pages(signed_in: Callable[[Any], Any]) -> list[URLPattern]:
    """``signed_in`` is the site's: it leads to the login page, and marks views as never cached."""
    views = {
        "center/state": (shell.header, "center_state"),
        "center/": (overview.overview, "overview"),
        f"{_SCOPE}/": (scope.scope, "center_scope"),
        f"{_SCOPE}/candidates": (scope.candidates, "center_scope_candidates"),
        f"{_SCOPE}/live": (scope.live, "center_scope_live"),
        f"{_SCOPE}/charts": (scope.charts, "center_scope_charts"),
        "center/selections/<uuid:decision_id>/": (selection.selection, "center_selection"),
        "center/providers/": (providers.providers, "center_providers"),
        f"{_SCOPE}/override": (panel.panel, "center_panel"),
        f"{_SCOPE}/override/preview": (panel.panel_preview, "center_preview"),
        "center/overrides/<int:pk>/undo": (panel.undo, "center_undo"),
        "center/overrides/<int:pk>/revoke": (panel.revoke, "center_revoke"),
        "center/bulk": (bulk.bulk, "center_bulk"),
        "center/activity": (activity.activity, "center_activity"),
    }
    return [path(route, signed_in(view), name=name) for route, (view, name) in views.items()]
