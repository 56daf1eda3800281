from django.urls import path

from overrides import api

urlpatterns = [
    path("settings/overrides", api.OverridesView.as_view(), name="overrides"),
    path("settings/overrides/<int:pk>", api.OverrideView.as_view(), name="override"),
    path("settings/overrides/<int:pk>/revoke", api.RevokeView.as_view(), name="override-revoke"),
    path("settings/overrides/<int:pk>/undo", api.UndoView.as_view(), name="override-undo"),
    path("settings/kill-switch", api.KillSwitchView.as_view(), name="kill-switch"),
    path("audit", api.AuditView.as_view(), name="audit"),
]
