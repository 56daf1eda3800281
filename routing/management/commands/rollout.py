"""`manage.py rollout`: guarded rollouts from the command line, audited."""

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from overrides.approvals import Refused
from overrides.audit import Actor
from overrides.management.reasons import add_reason, told_as_errors
from routing.guarding import services
from routing.guarding.models import Rollout
from routing.guarding.services import Wish, plan_of
from routing.guarding.telling import waits_for

_ACTOR = Actor("command:rollout", "command")
_WAITS = "Pausing and rolling back never wait; starting and resuming do."
_ACTS = {
    "pause": (services.pause, "stay at the step; a proved regression still rolls back"),
    "rollback": (services.roll_back, "turn the flag off there, at once"),
    "acknowledge": (services.acknowledge, "end the alert of a roll-back, which stays"),
    "cancel": (services.cancel, "end it; the flag's share stays as it is"),
}


class Command(BaseCommand):
    help = (
        "Guarded rollouts: each raises the flag's share of a tenant, or of one of its personas, step by step while "
        "nothing gets worse, and rolls back by itself when something does (docs/rollout.md)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        status = actions.add_parser("status", help="what runs, and what it waits for")
        status.add_argument(
            "id", type=int, nargs="?", help="of one rollout, with its bounds; default: unfinished ones"
        )
        start = actions.add_parser("start", help="begin one")
        start.add_argument("--tenant", metavar="SLUG", required=True)
        start.add_argument("--persona", metavar="SLUG", help="default: all without a share of their own")
        start.add_argument("--step", type=int, default=0, help="where to begin, from 0")
        start.add_argument(
            "--plan", type=json.loads, default={}, metavar="JSON", help='such as {"steps": [10, 100]}'
        )
        add_reason(start)
        resume = actions.add_parser("resume", help="go on after a pause or a roll-back")
        resume.add_argument("id", type=int)
        resume.add_argument("--step", type=int, help="begin there anew; default: go on as it stands")
        add_reason(resume)
        for name, (_, told) in _ACTS.items():
            one = actions.add_parser(name, help=told)
            one.add_argument("id", type=int)
            add_reason(one)

    def handle(self, *, action: str, **options: Any) -> None:
        if action == "status":
            self._status(options["id"])
            return
        now, reason = timezone.now(), options["reason"]
        with _refusals():
            if action == "start":
                plan = options["plan"]
                if not isinstance(plan, dict):
                    raise CommandError("--plan: a JSON object.")
                wish = Wish(options["tenant"], options["persona"], reason, plan, options["step"])
                done = services.start(wish, _ACTOR, now)
            elif action == "resume":
                seen = _row(options["id"])
                done = services.resume(seen.pk, seen.version, options["step"], reason, _ACTOR, now)
            else:
                seen = _row(options["id"])
                done = _ACTS[action][0](seen.pk, seen.version, reason, _ACTOR, now)
        self._tell(done)

    def _status(self, pk: int | None) -> None:
        if pk is not None:
            self._tell(_row(pk), bounds=True)
            return
        rows = Rollout.objects.filter(state__in=Rollout.UNFINISHED).select_related("tenant", "persona")
        for rollout in rows:
            self._tell(rollout)
        if not rows:
            self.stdout.write("No rollout is under way.")

    def _tell(self, rollout: Rollout, bounds: bool = False) -> None:
        steps = len(plan_of(rollout).steps)
        stopped = rollout.by_itself and rollout.state in (Rollout.State.PAUSED, Rollout.State.ROLLED_BACK)
        state = f"{rollout.get_state_display()}{' by itself' if stopped else ''}"
        self.stdout.write(
            f"{rollout.pk} {rollout.scope}: {state}, step {rollout.step + 1} of {steps} at {float(rollout.share):g}%, "
            f"since {rollout.changed_at:%Y-%m-%d %H:%M:%S} UTC by {rollout.changed_by}: {rollout.reason}"
        )
        for waiting in waits_for(rollout):
            self.stdout.write(f"  waits for {waiting}")
        verdict = (rollout.look or {}).get("verdict") if bounds else None
        for measure, bound in (verdict or {}).get("bounds", {}).items():
            self.stdout.write(
                f"  {measure}: harm from {bound['lower'] * 100:.2f} to {bound['upper'] * 100:.2f} points, margin "
                f"{bound['margin'] * 100:.2f}: {bound['state'].replace('_', ' ')}"
            )


def _row(pk: int) -> Rollout:
    found = Rollout.objects.select_related("tenant", "persona").filter(pk=pk).first()
    if found is None:
        raise CommandError(f"There is no rollout {pk}: see manage.py rollout status.")
    return found


@contextmanager
def _refusals() -> Iterator[None]:
    with told_as_errors(_WAITS):
        try:
            yield
        except Refused as error:
            raise CommandError(str(error)) from None
