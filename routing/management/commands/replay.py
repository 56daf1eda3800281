"""`manage.py replay FILE`: recorded outcomes under a policy, beside its baselines.

Not `manage.py explain`, which decides a stored decision again.
"""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from catalog.models import Persona
from routing.replaying.frontier import SWEEP, Frontier, frontier
from routing.replaying.live import incumbent_of, persona_of, policy_of
from routing.replaying.outcomes import BadOutcomesError, Recording, read_outcomes, record
from routing.replaying.report import Setting, as_csv, as_json, as_text
from routing.replaying.run import Feedback, Policy
from routing.replaying.study import Study, study, work_of

_FORMATS = {"text": as_text, "json": as_json, "csv": as_csv}
#: Option, the persona's field, and what it is.
_CHANGES = (
    ("min-success", "min_success_rate", "SLA: the least success rate, 0 to 1"),
    ("max-safety", "max_safety_violation_rate", "SLA: the largest safety violation rate, 0 to 1"),
    ("min-accuracy", "min_accuracy", "SLA: the least mean score, 0 to 1"),
    ("max-cost", "max_cost_per_completion", "US dollars per completion, the yardstick of cost"),
    ("confidence", "confidence", "of the bounds that the SLA is judged by, 0.5 to 0.9999"),
    ("exploration", "exploration_share", "share of conversations that may try an unproven model, 0 to 1"),
)


class Command(BaseCommand):
    help = (
        "Replay recorded outcomes in order of time through the scoring and the engine, and report cost, success, p95, "
        "safety, SLA misses and regret beside baselines. Nothing is stored."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="CSV, may be gzipped; docs/replay.md lists the columns")
        parser.add_argument("--category", action="append", help="only this category; may be repeated")
        parser.add_argument("--models", type=Path, help="a file with the candidates, one a line")
        parser.add_argument("--persona", help="replay this persona's live policy; options below change it")
        parser.add_argument("--incumbent", help="a recorded model, or 'each' for one report per model")
        for option, field, told in _CHANGES:
            parser.add_argument(f"--{option}", dest=field, type=_decimal, help=told)
        parser.add_argument("--max-p95-ms", dest="max_latency_p95_ms", type=int, help="SLA: milliseconds")
        parser.add_argument("--min-samples", dest="min_samples", type=int, help="fewer prove nothing")
        parser.add_argument("--weights", type=_weights, help="cost,success,latency; they sum to 1")
        parser.add_argument(
            "--feedback",
            type=Feedback,
            choices=list(Feedback),
            default=Feedback.RECORDED,
            help="which outcomes of past conversations were seen: all recorded, or only of what was chosen",
        )
        parser.add_argument("--rescore-every", type=_count(1), default=1, help="conversations, 1 or more")
        parser.add_argument("--splits", type=_count(0), default=0, help="random halves; 0: one, by time")
        parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same report")
        parser.add_argument("--resamples", type=_count(1), default=1000, help="of the bootstrap")
        parser.add_argument(
            "--aiq", action="store_true", help="also RouterBench's AIQ: replays 11 weights of cost"
        )
        parser.add_argument("--format", choices=list(_FORMATS), default="text")
        parser.add_argument("--no-progress", action="store_true", help="print no progress bar")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            recording = record(
                read_outcomes(options["file"]), _models(options["models"]), options["category"]
            )
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
    wanted = options["incumbent"] or incumbent_of(persona, recording.models)
    if wanted is None:
        raise CommandError("Name the incumbent with --incumbent: a recorded model, or 'each'.")
    incumbents = recording.models if wanted == "each" else (wanted,)
    return [policy_of(persona, name, options["feedback"], options["rescore_every"]) for name in incumbents]


def _persona(options: dict[str, Any]) -> Persona:
    fields = [*(field for _, field, _ in _CHANGES), "max_latency_p95_ms", "min_samples"]
    changes = {field: options[field] for field in fields if options[field] is not None}
    if options["weights"]:
        changes |= dict(
            zip(("weight_cost", "weight_success", "weight_latency"), options["weights"], strict=True)
        )
    needed = ("min_success_rate", "max_latency_p95_ms", "max_safety_violation_rate")
    if options["persona"] is None and any(name not in changes for name in needed):
        raise CommandError("Give --persona, or the whole SLA: --min-success, --max-p95-ms and --max-safety.")
    try:
        return persona_of(options["persona"], changes)
    except Persona.DoesNotExist:
        raise CommandError(f"There is no persona '{options['persona']}'.") from None


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


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError(f"{text!r} is no number") from None
    if not value.is_finite():
        raise ArgumentTypeError(f"{text!r} is no number")
    return value


def _weights(text: str) -> list[Decimal]:
    weights = [_decimal(part) for part in text.split(",")]
    if len(weights) != 3:
        raise ArgumentTypeError("three weights are wanted: cost,success,latency")
    return weights


def _count(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise ArgumentTypeError(f"{text!r} is not a whole number, {least} or more")
        return int(text)

    return parse
