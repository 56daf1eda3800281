"""Addresses of the Command Center's pages, below the admin's."""

from collections.abc import Callable
from typing import Any

from django.urls import URLPattern, path

from commandcenter import activity, shell
from commandcenter.views import (
    audit,
    bulk,
    conversations,
    flags,
    overview,
    panel,
    providers,
    quarantines,
    requests,
    rollouts,
    savings,
    scope,
    selection,
    telemetry,
    undo,
    whatif,
)

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
        "center/flags/": (flags.flags, "center_flags"),
        "center/flags/panel": (flags.panel, "center_flag_panel"),
        "center/flags/preview": (flags.panel_preview, "center_flag_preview"),
        "center/rollouts/": (rollouts.rollouts, "center_rollouts"),
        "center/rollouts/start": (rollouts.start, "center_rollout_start"),
        "center/rollouts/preview": (rollouts.panel_preview, "center_rollout_preview"),
        "center/rollouts/<int:pk>/<slug:what>": (rollouts.act, "center_rollout_act"),
        "center/whatif/": (whatif.what_if_page, "center_whatif"),
        "center/savings/": (savings.savings, "center_savings"),
        "center/requests/": (requests.requests, "center_requests"),
        "center/requests/<int:pk>/": (requests.request_page, "center_request"),
        "center/requests/<int:pk>/preview": (requests.request_preview, "center_request_preview"),
        "center/requests/<int:pk>/<slug:step>": (requests.request_step, "center_request_step"),
        "center/audit/": (audit.audit, "center_audit"),
        "center/audit/verify": (audit.verify, "center_audit_verify"),
        "center/audit/export": (audit.export, "center_audit_export"),
        "center/audit/undo": (undo.undo_actor, "center_undo_actor"),
        "center/audit/<int:seq>/undo": (undo.undo_entry, "center_audit_undo"),
        "center/telemetry/": (telemetry.telemetry, "center_telemetry"),
        "center/quarantines": (quarantines.quarantines, "center_quarantines"),
        "center/quarantines/put": (quarantines.put, "center_quarantine_put"),
        "center/quarantines/<int:pk>/release": (quarantines.release, "center_quarantine_release"),
        "center/telemetry/quarantine": (telemetry.quarantine, "center_quarantine"),
        "center/conversations/": (conversations.conversations, "center_conversations"),
    }
    return [path(route, signed_in(view), name=name) for route, (view, name) in views.items()]
