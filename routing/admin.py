"""Admin pages of what the machine decided, and of webhooks."""

import uuid
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from catalog.lookonly import LookOnly
from overrides.states import tell_of
from routing import webhooks
from routing.explaining import as_text, explained
from routing.models import Alert, PolicyRevision, ScoreSnapshot, Selection, Webhook, WebhookDelivery

# Who is told of decisions is a grant as much as a key is.
tell_of(Webhook)


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
    list_display = ["short_id", "decided_at", "tenant", "persona", "profile", "reason", "replay", "source"]
    exclude = ["core"]
    readonly_fields = ["explanation"]
    list_filter = ["reason", "source", "replay", "in_clickhouse"]
    search_fields = ["=conversation_id", "=tenant", "=request_id"]
    search_help_text = "A decision's id, a conversation's, a tenant or a request id, exactly."
    show_full_result_count = False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        try:
            return queryset.filter(decision_id=uuid.UUID(search_term.strip())), False
        except ValueError:
            return super().get_search_results(request, queryset, search_term)

    @admin.display(description="decision", ordering="decision_id")
    def short_id(self, row: Selection) -> str:
        return str(row.decision_id)[:8]

    @admin.display(description="explained")
    def explanation(self, row: Selection) -> str:
        return format_html('<pre class="explained">{}</pre>', as_text(explained(row)))


@admin.register(Alert)
class AlertAdmin(LookOnly):
    list_display = ["name", "detail", "since", "cleared_at", "times_told"]
    list_filter = ["name"]


@admin.register(Webhook)
class WebhookAdmin(admin.ModelAdmin[Webhook]):
    list_display = ["name", "url", "enabled", "selections", "alerts", "tenant"]
    autocomplete_fields = ["tenant"]
    search_fields = ["name", "url"]
    list_select_related = ["tenant"]

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        shown, counts, needed, protected = super().get_deleted_objects(objs, request)
        # Its deliveries go with it; nobody may delete them by themselves.
        return shown, counts, needed - {str(WebhookDelivery._meta.verbose_name)}, protected

    def save_model(self, request: HttpRequest, obj: Webhook, form: Any, change: bool) -> None:
        if not change:
            obj.secret = webhooks.new_secret()
            told = f"The signing secret, shown this once: {obj.secret}"
            self.message_user(request, told, level=messages.WARNING)
        super().save_model(request, obj, form, change)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(LookOnly):
    list_display = ["short_id", "event_type", "webhook", "state", "attempts", "error", "next_attempt_at"]
    list_filter = ["state", "event_type", "webhook"]
    search_fields = ["=event_id"]
    list_select_related = ["webhook"]
    actions = ["send_again"]
    show_full_result_count = False

    @admin.display(description="event", ordering="event_id")
    def short_id(self, delivery: WebhookDelivery) -> str:
        return delivery.event_id[:8]

    @admin.action(description="Send again, with all attempts anew", permissions=["resend"])
    def send_again(self, request: HttpRequest, chosen: QuerySet[WebhookDelivery]) -> None:
        count = webhooks.send_again(chosen, timezone.now())
        self.message_user(request, f"{count} deliveries wait to be sent again.", level=messages.SUCCESS)

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("routing.change_webhookdelivery")
