"""Admin page of snapshots: to look."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from routing.models import ScoreSnapshot


@admin.register(ScoreSnapshot)
class ScoreSnapshotAdmin(admin.ModelAdmin[ScoreSnapshot]):
    list_display = ["id", "created_at", "scopes", "policy_version", "checksum"]
    date_hierarchy = "created_at"
    exclude = ["payload"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ScoreSnapshot]:
        return super().get_queryset(request).defer("payload")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
