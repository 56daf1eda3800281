"""`manage.py kill_switch status|on|off`: stop automatic selection from the command line, audited."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from overrides import services
from overrides.audit import Actor
from overrides.management.reasons import add_reason, told_as_errors
from overrides.models import KillSwitch

_ACTOR = Actor("command:kill_switch", "command")
_WAITS = "Stopping never waits; letting go on does."


class Command(BaseCommand):
    help = (
        "Stop automatic selection (on), or let it go on (off), for everybody or for one tenant. While it is on, scopes "
        "get their default profiles; flag and overrides stay as they are. In every process within 5 seconds."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("status", help="for whom it is on, since when, by whom and why")
        for name, told in (("on", "stop automatic selection"), ("off", "let it go on")):
            one = actions.add_parser(name, help=told)
            one.add_argument("--tenant", metavar="SLUG", help="default: everybody")
            add_reason(one)

    def handle(self, *, action: str, **options: Any) -> None:
        if action != "status":
            on, reason = action == "on", options["reason"]
            with told_as_errors(_WAITS):
                services.set_kill_switch(options["tenant"], on, reason, _ACTOR, timezone.now())
        switches = KillSwitch.objects.filter(on=True).select_related("tenant").order_by("tenant__slug")
        for switch in switches:
            self.stdout.write(
                f"ON for {switch.tenant.slug if switch.tenant else 'everybody'} since "
                f"{switch.changed_at:%Y-%m-%d %H:%M:%S} UTC by {switch.changed_by}: {switch.reason}"
            )
        if not switches:
            self.stdout.write("The kill switch is off for everybody.")
