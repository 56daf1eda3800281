"""Admin pages of telemetry: to look, not to change."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from catalog.lookonly import LookOnly
from telemetry.models import IngestedFile, PipelineStage, QuarantineCount, QuarantinedEvent, SpoolBatch


@admin.register(SpoolBatch)
class SpoolBatchAdmin(LookOnly):
    list_display = ["id", "received_at", "source", "events", "attempts", "next_attempt_at", "error"]
    list_filter = ["source"]
    exclude = ["payload"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("payload")


@admin.register(QuarantinedEvent)
class QuarantinedEventAdmin(LookOnly):
    list_display = ["received_at", "code", "tenant", "detail", "source"]
    list_filter = ["code"]
    search_fields = ["detail", "raw", "tenant"]
    show_full_result_count = False


@admin.register(QuarantineCount)
class QuarantineCountAdmin(LookOnly):
    list_display = ["day", "code", "count"]
    list_filter = ["code"]
    date_hierarchy = "day"


@admin.register(PipelineStage)
class PipelineStageAdmin(LookOnly):
    list_display = ["name", "succeeded_at", "failed_at", "error_code", "error"]


@admin.register(IngestedFile)
class IngestedFileAdmin(LookOnly):
    list_display = ["path", "lines_done", "accepted", "rejected", "finished_at"]
