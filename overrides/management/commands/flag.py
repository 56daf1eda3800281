"""`manage.py flag status|on|off|percent|inherit`: AUTO_MODEL_SELECTION_ENABLED from the command line, audited."""

from argparse import ArgumentParser, ArgumentTypeError
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from overrides import selectors, settings
from overrides.audit import Actor
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.management.reasons import add_reason, told_as_errors
from overrides.models import AuditEntry, Flag
from overrides.states import State, describe

_ACTOR = Actor("command:flag", "command")
_WAITS = "To stop automatic selection at once: manage.py kill_switch on."


def _percentage(text: str) -> str:
    try:
        value = Decimal(text.removesuffix("%"))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not 0 <= value <= 100 or value != round(value, 2):
        raise ArgumentTypeError(f"'{text[:20]}' is no percentage: 0 to 100, with at most two decimals")
    return format(value, "f")


class Command(BaseCommand):
    help = (
        f"Show {AUTO_MODEL_SELECTION}, or change it for everybody or for one tenant. "
        "In effect in every process within 5 seconds, and in the audit log at once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("status", help="for whom it is on, who changed it last, and the kill switch")
        on = actions.add_parser("on", help="every conversation (of the tenant)")
        off = actions.add_parser("off", help="no conversation (of the tenant)")
        percent = actions.add_parser("percent", help="a stable share of conversations (of the tenant)")
        percent.add_argument("percent", type=_percentage, metavar="PERCENT", help="0 to 100")
        for one in (on, off, percent):
            one.add_argument("--tenant", metavar="SLUG", help="this tenant's own share; default: everybody")
        inherit = actions.add_parser("inherit", help="take a tenant's own share away: the general one counts")
        inherit.add_argument("--tenant", metavar="SLUG", required=True)
        for one in (on, off, percent, inherit):
            add_reason(one)

    def handle(self, *, action: str, **options: Any) -> None:
        flag = Flag.objects.filter(name=AUTO_MODEL_SELECTION).first()
        if flag is None:
            raise CommandError(f"There is no flag {AUTO_MODEL_SELECTION}: run manage.py migrate.")
        if action != "status":
            wanted = _wanted(action, options.get("tenant"), options.get("percent", ""), describe(flag))
            with told_as_errors(_WAITS):
                settings.change_settings(
                    "flag", str(flag.pk), wanted, options["reason"], _ACTOR, timezone.now()
                )
        self._tell(flag)

    def _tell(self, flag: Any) -> None:
        state = describe(Flag.objects.get(pk=flag.pk))
        self.stdout.write(f"{AUTO_MODEL_SELECTION} is {_words(state)}")
        for tenant, percent in sorted(state["tenants"].items()):
            self.stdout.write(f"  {tenant}: {percent}%")
        for tenant, shares in sorted(state["scopes"].items()):
            for persona, percent in sorted(shares.items()):
                self.stdout.write(f"  {tenant} × {persona}: {percent}%")
        if (state["tenants"] or state["scopes"]) and state["everyone"] is not None:
            self.stdout.write("  (these shares count again once it goes by percentages)")
        everybody, tenants = selectors.killed()
        stopped = ["everybody"] if everybody else sorted(tenants)
        self.stdout.write(f"Kill switch: {'ON for ' + ', '.join(stopped) if stopped else 'off'}")
        last = AuditEntry.objects.filter(object_type="flag", object_id=str(flag.pk)).first()
        if last is not None:
            self.stdout.write(
                f"Last changed at {last.at:%Y-%m-%d %H:%M:%S} UTC by {last.actor}: {last.reason}"
            )


def _wanted(action: str, tenant: str | None, percent: str, state: State) -> State:
    """The members of the flag that the action sets."""
    if tenant is None:
        if action == "percent":
            return {"everyone": None, "rollout_percent": percent}
        return {"everyone": action == "on"}
    shares = {slug: share for slug, share in state["tenants"].items() if slug != tenant}
    if action == "inherit":
        if tenant not in state["tenants"]:
            raise CommandError(f"{tenant} has no share of its own.")
        return {"tenants": shares}
    return {"tenants": shares | {tenant: {"on": "100", "off": "0"}.get(action, percent)}}


def _words(state: State) -> str:
    if state["everyone"] is None:
        return f"on for {state['rollout_percent']}% of conversations"
    return "on for everybody" if state["everyone"] else "off for everybody"
