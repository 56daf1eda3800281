"""`manage.py replay`: recorded outcomes, of a file or of a scope's telemetry, under a policy, beside its baselines.

Not `manage.py explain`, which decides a stored decision again.
"""

from argparse import ArgumentParser
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from catalog.models import Persona, ScopeDefault
from routing.logged.completions import completions_by_day
from routing.logged.scope import Scope
from routing.management.arguments import (
    add_policy_arguments,
    add_range_arguments,
    changed_persona,
    changes_of,
    count,
    points,
    scope_of,
    span_of,
)
from routing.replaying.frontier import SWEEP, Frontier, frontier
from routing.replaying.live import incumbent_of, policy_of
from routing.replaying.outcomes import BadOutcomesError, Outcome, Recording, read_outcomes, record
from routing.replaying.report import Setting, as_csv, as_json, as_text
from routing.replaying.run import Feedback, Policy
from routing.replaying.study import Study, study, work_of
from routing.replaying.telemetry import outcomes_of
from telemetry.clickhouse import ClickHouseError, get_clickhouse

_FORMATS = {"text": as_text, "json": as_json, "csv": as_csv}


class Command(BaseCommand):
    help = (
        "Replay recorded outcomes in order of time through the scoring and the engine, and report cost, success, p95, "
        "safety, SLA misses and regret beside baselines. Nothing is stored."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file", nargs="?", type=Path, help="CSV, may be gzipped; docs/replay.md lists the columns"
        )
        parser.add_argument("--tenant", help="in place of FILE: completions of this tenant and --persona")
        add_range_arguments(parser)
        parser.add_argument("--category", action="append", help="only this category or task; may be repeated")
        parser.add_argument("--models", type=Path, help="a file with the candidates, one a line")
        parser.add_argument("--persona", help="replay this persona's live policy; options below change it")
        parser.add_argument("--incumbent", help="a recorded model, or 'each' for one report per model")
        add_policy_arguments(parser)
        parser.add_argument(
            "--within",
            type=points,
            metavar="POINTS",
            help="SLA: success at most so many points below the incumbent's on the training half, for --min-success",
        )
        parser.add_argument(
            "--no-lending",
            action="store_true",
            help="let the other categories, as other personas, lend no samples",
        )
        parser.add_argument(
            "--feedback",
            type=Feedback,
            choices=list(Feedback),
            default=Feedback.RECORDED,
            help="which outcomes of past conversations were seen: all recorded, or only of what was chosen",
        )
        parser.add_argument("--rescore-every", type=count(1), default=1, help="conversations, 1 or more")
        parser.add_argument("--splits", type=count(0), default=0, help="random halves; 0: one, by time")
        parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same report")
        parser.add_argument("--resamples", type=count(1), default=1000, help="of the bootstrap")
        parser.add_argument(
            "--aiq", action="store_true", help="also RouterBench's AIQ: replays 11 weights of cost"
        )
        parser.add_argument("--format", choices=list(_FORMATS), default="text")
        parser.add_argument("--no-progress", action="store_true", help="print no progress bar")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            recording = record(_outcomes(options), _models(options["models"]), options["category"])
            if options["no_lending"]:
                recording = replace(recording, elsewhere=())
            policies = _policies(recording, options)
            studies, frontiers = _replayed(recording, policies, options)
        except (BadOutcomesError, ValueError) as error:
            raise CommandError(str(error)) from None
        setting = Setting(
            recording, options["splits"], options["seed"], options["resamples"], tuple(frontiers)
        )
        self.stdout.write(_FORMATS[options["format"]](studies, setting))


def _replayed(
    recording: Recording, policies: list[Policy], options: dict[str, Any]
) -> tuple[list[Study], list[Frontier]]:
    splits, seed, resamples = options["splits"], options["seed"], options["resamples"]
    work = work_of(recording, splits, resamples) + (len(SWEEP) if options["aiq"] else 0)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    studies, frontiers = [], []
    # The report goes to standard output, so the bar must not.
    with Progress(*columns, console=Console(stderr=True), disable=options["no_progress"]) as progress:
        task = progress.add_task("replay", total=len(policies) * work)

        def tick() -> None:
            progress.advance(task)

        for policy in policies:
            studies.append(study(recording, policy, splits=splits, seed=seed, resamples=resamples, tick=tick))
            if options["aiq"]:
                frontiers.append(frontier(recording, policy, splits=splits, seed=seed, tick=tick))
    return studies, frontiers


def _policies(recording: Recording, options: dict[str, Any]) -> list[Policy]:
    persona = _persona(options)
    wanted = options["incumbent"] or _incumbent(persona, recording, options)
    if wanted is None:
        raise CommandError("Name the incumbent with --incumbent: a recorded model, or 'each'.")
    incumbents = recording.models if wanted == "each" else (wanted,)
    within, how = options["within"], (options["feedback"], options["rescore_every"])
    return [replace(policy_of(persona, name, *how), within=within) for name in incumbents]


def _incumbent(persona: Persona, recording: Recording, options: dict[str, Any]) -> str | None:
    """The live default as the recording calls it; telemetry names profiles by their slugs. None: not recorded."""
    if options["tenant"] is None:
        return incumbent_of(persona, recording.models)
    own = ScopeDefault.objects.filter(tenant__slug=options["tenant"], persona__slug=options["persona"])
    default = own.values_list("profile__slug", flat=True).first() or persona.default_profile.slug
    return default if default in recording.models else None


def _outcomes(options: dict[str, Any]) -> list[Outcome]:
    if options["file"] is not None:
        if any(options[name] is not None for name in ("tenant", "start", "end")):
            raise CommandError("Give FILE, or --tenant, --persona and --from; not both.")
        return read_outcomes(options["file"])
    if options["tenant"] is None:
        raise CommandError("Give FILE, or --tenant, --persona and --from to replay a scope's own telemetry.")
    return _completed(scope_of(options), options)


def _completed(scope: Scope, options: dict[str, Any]) -> list[Outcome]:
    span = span_of(options)
    found: list[Outcome] = []
    with Progress(console=Console(stderr=True), disable=options["no_progress"]) as progress:
        task = progress.add_task("days read", total=span.count_of_days)
        try:
            for completions in completions_by_day(get_clickhouse(), scope, span):
                found += outcomes_of(completions)
                progress.advance(task)
        except ClickHouseError as error:
            raise CommandError(f"ClickHouse: {error}") from None
    if not found:
        raise CommandError(f"There are no completions of {scope} from {span}.")
    return found


def _persona(options: dict[str, Any]) -> Persona:
    if options["within"] is not None:
        if options["min_success_rate"] is not None:
            raise CommandError("Give --within or --min-success, not both.")
        # Each half has its own; this one only stands until then.
        options["min_success_rate"] = Decimal(0)
    needed = ("min_success_rate", "max_latency_p95_ms", "max_safety_violation_rate")
    if options["persona"] is None and any(name not in changes_of(options) for name in needed):
        raise CommandError(
            "Give --persona, or the whole SLA: --min-success (or --within), --max-p95-ms and --max-safety."
        )
    return changed_persona(options["persona"], options)


def _models(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        models = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: cannot be read: {error}") from None
    if not models:
        raise CommandError(f"{path}: names no model.")
    return models
