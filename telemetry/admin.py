"""Admin pages of telemetry: to look, not to change."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from telemetry.models import IngestedFile, PipelineStage, QuarantineCount, QuarantinedEvent, SpoolBatch


class ReadOnly(admin.ModelAdmin[Any]):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(SpoolBatch)
class SpoolBatchAdmin(ReadOnly):
    list_display = ["id", "received_at", "source", "events", "attempts", "next_attempt_at", "error"]
    list_filter = ["source"]
    exclude = ["payload"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("payload")


@admin.register(QuarantinedEvent)
class QuarantinedEventAdmin(ReadOnly):
    list_display = ["received_at", "code", "tenant", "detail", "source"]
    list_filter = ["code"]
    search_fields = ["detail", "raw", "tenant"]
    show_full_result_count = False


@admin.register(QuarantineCount)
class QuarantineCountAdmin(ReadOnly):
    list_display = ["day", "code", "count"]
    list_filter = ["code"]
    date_hierarchy = "day"


@admin.register(PipelineStage)
class PipelineStageAdmin(ReadOnly):
    list_display = ["name", "succeeded_at", "failed_at", "error_code", "error"]


@admin.register(IngestedFile)
class IngestedFileAdmin(ReadOnly):
    list_display = ["path", "lines_done", "accepted", "rejected", "finished_at"]
