"""`manage.py webhooks status|retry`: what did not arrive, and sending it now."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Count, Max, Min, Q
from django.utils import timezone

from routing import webhooks
from routing.models import Webhook, WebhookDelivery

_WAITING = Q(state=WebhookDelivery.State.WAITING)
_DEAD = Q(state=WebhookDelivery.State.DEAD)
#: So many to a statement.
_AT_ONCE = 500


class Command(BaseCommand):
    help = "Show what waits for each webhook and what was given up; have it tried again now."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("status", help="per webhook: what waits, was given up, and the last error")
        retry = actions.add_parser("retry", help="try what waits or was given up now, all attempts anew")
        retry.add_argument("--webhook", metavar="NAME", help="only this one's; default: all that are enabled")

    def handle(self, *, action: str, **options: Any) -> None:
        if action == "status":
            self._status()
        else:
            self._retry(options["webhook"])

    def _status(self) -> None:
        hooks = Webhook.objects.all()
        for hook in hooks:
            open_ = hook.deliveries.filter(_WAITING | _DEAD)
            told = open_.aggregate(
                waiting=Count("pk", filter=_WAITING),
                given_up=Count("pk", filter=_DEAD),
                oldest=Min("created_at"),
                error=Max("error"),
            )
            words = f"{told['waiting']} waiting, {told['given_up']} given up"
            if told["oldest"] is not None:
                words += f", the oldest since {told['oldest']:%Y-%m-%d %H:%M:%S} UTC"
            if told["error"]:
                words += f": {told['error']}"
            self.stdout.write(f"{hook.name}{'' if hook.enabled else ' (switched off)'}: {words}")
        if not hooks:
            self.stdout.write("There are no webhooks.")

    def _retry(self, name: str | None) -> None:
        deliveries = WebhookDelivery.objects.filter(_WAITING | _DEAD, webhook__enabled=True)
        if name is not None:
            if not Webhook.objects.filter(name=name, enabled=True).exists():
                raise CommandError(f"There is no webhook '{name[:80]}' that is switched on.")
            deliveries = deliveries.filter(webhook__name=name)
        now, found = timezone.now(), list(deliveries.only("pk"))
        count = sum(
            webhooks.send_again(found[start : start + _AT_ONCE], now)
            for start in range(0, len(found), _AT_ONCE)
        )
        self.stdout.write(f"{count} deliveries are tried again within seconds, while worker and beat run.")
