"""Admin pages of what the machine decided, and of webhooks."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from catalog.lookonly import LookOnly
from routing import webhooks
from routing.models import Alert, PolicyRevision, ScoreSnapshot, Selection, Webhook, WebhookDelivery


class ArchivedAdmin(LookOnly):
    date_hierarchy = "created_at"
    exclude = ["payload"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("payload")


@admin.register(ScoreSnapshot)
class ScoreSnapshotAdmin(ArchivedAdmin):
    list_display = ["id", "created_at", "scopes", "policy_version", "checksum"]


@admin.register(PolicyRevision)
class PolicyRevisionAdmin(ArchivedAdmin):
    list_display = ["name", "created_at", "checksum"]


@admin.register(Selection)
class SelectionAdmin(LookOnly):
    list_display = ["decision_id", "decided_at", "tenant", "persona", "profile", "reason", "source", "replay"]
    list_filter = ["reason", "source", "replay", "in_clickhouse"]
    search_fields = ["=conversation_id", "=tenant", "=request_id"]
    search_help_text = "A conversation's id, a tenant or a request id, exactly."
    show_full_result_count = False


@admin.register(Alert)
class AlertAdmin(LookOnly):
    list_display = ["name", "since", "cleared_at", "times_told", "detail"]
    list_filter = ["name"]


@admin.register(Webhook)
class WebhookAdmin(admin.ModelAdmin[Webhook]):
    list_display = ["name", "url", "enabled", "selections", "alerts", "tenant"]
    autocomplete_fields = ["tenant"]
    search_fields = ["name", "url"]
    list_select_related = ["tenant"]

    def save_model(self, request: HttpRequest, obj: Webhook, form: Any, change: bool) -> None:
        if not change:
            obj.secret = webhooks.new_secret()
            told = f"The signing secret, shown this once: {obj.secret}"
            self.message_user(request, told, level=messages.WARNING)
        super().save_model(request, obj, form, change)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(LookOnly):
    list_display = [
        "event_id",
        "event_type",
        "webhook",
        "state",
        "attempts",
        "created_at",
        "next_attempt_at",
        "error",
    ]
    list_filter = ["state", "event_type", "webhook"]
    search_fields = ["=event_id"]
    list_select_related = ["webhook"]
    actions = ["send_again"]
    show_full_result_count = False

    @admin.action(description="Send again, with all attempts anew", permissions=["resend"])
    def send_again(self, request: HttpRequest, chosen: QuerySet[WebhookDelivery]) -> None:
        count = webhooks.send_again(chosen, timezone.now())
        self.message_user(request, f"{count} deliveries wait to be sent again.", level=messages.SUCCESS)

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("routing.change_webhookdelivery")
