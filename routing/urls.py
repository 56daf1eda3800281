from django.urls import path

from routing import api, health_api, policy_api, savings_api, settings_api, whatif_api
from routing.guarding import api as rollout_api
from routing.quarantining import api as quarantine_api

_ROLLOUT = "rollouts/<int:pk>"

urlpatterns = [
    path("selections", api.SelectionsView.as_view(), name="selections"),
    path("selections/batch", policy_api.BatchView.as_view(), name="selections-batch"),
    path("selections/<uuid:decision_id>", api.SelectionView.as_view(), name="selection"),
    path(
        "conversations/<path:conversation_id>/selection",
        api.ConversationView.as_view(),
        name="conversation-selection",
    ),
    path("policy", policy_api.PolicyView.as_view(), name="policy"),
    path("savings", savings_api.SavingsView.as_view(), name="savings"),
    path("rollouts", rollout_api.RolloutsView.as_view(), name="rollouts"),
    path(_ROLLOUT, rollout_api.RolloutView.as_view(), name="rollout"),
    path(f"{_ROLLOUT}/pause", rollout_api.PauseView.as_view(), name="rollout-pause"),
    path(f"{_ROLLOUT}/resume", rollout_api.ResumeView.as_view(), name="rollout-resume"),
    path(f"{_ROLLOUT}/roll-back", rollout_api.RollBackView.as_view(), name="rollout-roll-back"),
    path(f"{_ROLLOUT}/acknowledge", rollout_api.AcknowledgeView.as_view(), name="rollout-acknowledge"),
    path(f"{_ROLLOUT}/cancel", rollout_api.CancelView.as_view(), name="rollout-cancel"),
    path("rankings", api.RankingsView.as_view(), name="rankings"),
    path("settings/overrides/<int:pk>/regret", settings_api.RegretView.as_view(), name="override-regret"),
    path("quarantines", quarantine_api.QuarantinesView.as_view(), name="quarantines"),
    path("quarantines/<int:pk>", quarantine_api.QuarantineView.as_view(), name="quarantine"),
    path("quarantines/<int:pk>/release", quarantine_api.ReleaseView.as_view(), name="quarantine-release"),
    path("whatif", whatif_api.WhatIfView.as_view(), name="whatif"),
    path("schemas/router-selection/v1", health_api.router_selection_schema, name="router-selection-v1"),
    path("schemas/router-alert/v1", health_api.router_alert_schema, name="router-alert-v1"),
]
