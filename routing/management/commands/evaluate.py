"""`manage.py evaluate`: what a changed policy would have come to, from logged decisions and their propensities.

Not `manage.py replay`, which needs recorded outcomes of models that were not given.
"""

from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import replace
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress

from catalog.models import ModelProfile
from routing.evaluating.candidate import Candidate, Candidates, candidate_of
from routing.evaluating.evaluation import evaluate
from routing.evaluating.observing import LeftOut, Observed, Observer
from routing.evaluating.report import Setting, as_csv, as_json, as_text
from routing.logged.decisions import decisions_by_day
from routing.logged.scope import Scope, Span
from routing.management.arguments import (
    add_policy_arguments,
    add_range_arguments,
    changed_persona,
    decimal,
    scope_of,
    span_of,
)
from telemetry.clickhouse import ClickHouseError, get_clickhouse

_FORMATS = {"text": as_text, "json": as_json, "csv": as_csv}


class Command(BaseCommand):
    help = (
        "Estimate what a changed policy of one tenant and persona would have cost and achieved, from logged decisions "
        "and their propensities: IPS, SNIPS and doubly robust, with 95% intervals and a warning when the log cannot "
        "tell. The policy is the persona's live one with the changes given here. Nothing is stored. docs/evaluate.md "
        "explains the figures."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, help="slug")
        parser.add_argument(
            "--persona", required=True, help="slug; its live policy, changed by the options below"
        )
        add_range_arguments(parser)
        add_policy_arguments(parser)
        parser.add_argument(
            "--incumbent", metavar="PROFILE", help="another default profile; default: the live one"
        )
        parser.add_argument(
            "--holdout", type=_share, help="share kept on the default, 0 to 1; default: the live one"
        )
        parser.add_argument("--clip", type=_clip, metavar="W", help="cut weights to at most this, 1 or more")
        parser.add_argument(
            "--pool",
            action="store_true",
            help="take a profile's outcomes at a task to stay the same over the range: more can be told then",
        )
        parser.add_argument("--format", choices=list(_FORMATS), default="text")
        parser.add_argument("--no-progress", action="store_true", help="print no progress bar")

    def handle(self, *args: Any, **options: Any) -> None:
        scope, span = scope_of(options), span_of(options)
        candidate = candidate_of(
            scope, changed_persona(scope.persona, options), _default(options["incumbent"])
        )
        if options["holdout"] is not None:
            candidate = replace(candidate, holdout=options["holdout"])
        observed = _observed(scope, span, candidate, show=not options["no_progress"])
        if not observed.observations:
            raise CommandError(_nothing(scope, span, observed))
        clip = options["clip"]
        evaluation = evaluate(observed.observations, clip=clip, pool=options["pool"])
        setting = Setting(scope, span, candidate, observed, clip, options["pool"])
        self.stdout.write(_FORMATS[options["format"]](evaluation, setting))


def _observed(scope: Scope, span: Span, candidate: Candidate, show: bool) -> Observed:
    clickhouse = get_clickhouse()
    observer, observed = Observer(scope, Candidates(scope, candidate, clickhouse)), Observed()
    # The report goes to standard output, so the bar must not.
    with Progress(console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task("days", total=span.count_of_days)
        try:
            for decisions in decisions_by_day(clickhouse, scope, span):
                observer.observe(decisions, observed)
                progress.advance(task)
        except ClickHouseError as error:
            raise CommandError(f"ClickHouse: {error}") from None
    return observed


def _nothing(scope: Scope, span: Span, observed: Observed) -> str:
    if not observed.left_out:
        return f"There are no logged decisions of {scope} from {span}."
    reasons = ", ".join(
        f"{reason.value} {observed.left_out[reason]}" for reason in LeftOut if observed.left_out[reason]
    )
    return (
        f"None of the logged decisions of {scope} from {span} can be evaluated: {reasons} (docs/evaluate.md)."
    )


def _default(slug: str | None) -> str | None:
    if slug is not None and not ModelProfile.objects.filter(slug=slug).exists():
        raise CommandError(f"There is no profile '{slug}'.")
    return slug


def _share(text: str) -> float:
    value = float(decimal(text))
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text!r} is no share: 0 to 1")
    return value


def _clip(text: str) -> float:
    value = float(decimal(text))
    if value < 1:
        raise ArgumentTypeError(
            f"{text!r} would cut the weight of what both policies do alike: 1 or more is wanted"
        )
    return value
