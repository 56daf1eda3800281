from django.urls import path

from overrides.api import audit, kill_switch, overrides, requests, settings, undo

_ONE = "settings/overrides/<int:pk>"
_REQUEST = "settings/change-requests/<int:pk>"

urlpatterns = [
    path("settings/overrides", overrides.OverridesView.as_view(), name="overrides"),
    path(_ONE, overrides.OverrideView.as_view(), name="override"),
    path(f"{_ONE}/revoke", overrides.RevokeView.as_view(), name="override-revoke"),
    path(f"{_ONE}/undo", overrides.UndoView.as_view(), name="override-undo"),
    path(f"{_ONE}/history", overrides.HistoryView.as_view(), name="override-history"),
    path("settings/personas", settings.PersonasView.as_view(), name="settings-personas"),
    path("settings/personas/<str:slug>", settings.PersonaView.as_view(), name="settings-persona"),
    path("settings/flags", settings.FlagsView.as_view(), name="settings-flags"),
    path("settings/flags/<str:name>", settings.FlagView.as_view(), name="settings-flag"),
    path("settings/kill-switch", kill_switch.KillSwitchView.as_view(), name="kill-switch"),
    path("settings/change-requests", requests.ChangeRequestsView.as_view(), name="change-requests"),
    path(_REQUEST, requests.ChangeRequestView.as_view(), name="change-request"),
    path(f"{_REQUEST}/approve", requests.ApproveView.as_view(), name="change-request-approve"),
    path(f"{_REQUEST}/apply", requests.ApplyView.as_view(), name="change-request-apply"),
    path(f"{_REQUEST}/reject", requests.RejectView.as_view(), name="change-request-reject"),
    path("settings/undo", undo.UndoActorView.as_view(), name="undo-actor"),
    path("audit", audit.AuditView.as_view(), name="audit"),
    path("audit/<int:seq>/undo", undo.UndoEntryView.as_view(), name="audit-undo"),
]
