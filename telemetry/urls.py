from django.urls import path

from telemetry import api

urlpatterns = [
    path("telemetry/completions", api.CompletionsView.as_view(), name="completions"),
    path("metrics/profiles", api.ProfileMetricsView.as_view(), name="profile-metrics"),
    path("metrics/freshness", api.FreshnessView.as_view(), name="freshness"),
    path("schemas/completion-event/v1", api.completion_event_schema, name="completion-event-v1"),
]
