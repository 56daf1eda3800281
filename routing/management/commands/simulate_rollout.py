"""`manage.py simulate_rollout`: what a plan would do to a change whose harm is known."""

from argparse import ArgumentParser, ArgumentTypeError
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress

from routing.rollout.evidence import Measure
from routing.rollout.plan import Plan, PlanError

if TYPE_CHECKING:
    from routing.rollout.simulating import Scene

_FORMATS = ("text", "json", "csv")
_DROPS = (0.02, 0.03, 0.05, 0.1)


class Command(BaseCommand):
    help = (
        "Simulate guarded rollouts of a change whose harm is known, judged as the product judges them: how often they "
        "are rolled back without need, and after how many conversations with it. Nothing is read or stored; needs "
        "numpy. docs/rollout-statistics.md explains the method."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            *("--drop", "--harm"),
            action="append",
            type=_share,
            metavar="SHARE",
            help="harm, 0.05 is five points; repeatable; default: 0.02, 0.03, 0.05, 0.1. None is simulated, too",
        )
        parser.add_argument(
            "--measure", choices=[one.value for one in Measure], default="success", help="what is harmed"
        )
        parser.add_argument("--base", type=_share, default=0.9, help="success of control")
        parser.add_argument("--safety-violations", type=_share, default=0.002, metavar="SHARE")
        parser.add_argument("--escalations", type=_share, default=0.03, metavar="SHARE")
        parser.add_argument(
            "--slow", type=_share, default=0.04, metavar="SHARE", help="slower than the SLA's p95"
        )
        parser.add_argument("--conversations-per-hour", type=_positive, default=1000.0, metavar="N")
        parser.add_argument("--completions", type=_count, default=1, metavar="N", help="per conversation")
        parser.add_argument(
            "--likeness",
            type=_share,
            default=0.2,
            help="intraclass correlation of a conversation's completions",
        )
        parser.add_argument(
            "--drift", type=_share, default=0.0, help="daily swing of all rates, a share of themselves"
        )
        parser.add_argument("--holdout", type=_share, default=0.02, help="share kept on the default at 100%%")
        parser.add_argument("--steps", type=_steps, default=Plan().steps, metavar="1,5,25,50,100")
        parser.add_argument("--min-minutes", type=int, default=Plan().min_minutes)
        parser.add_argument("--min-conversations", type=int, default=Plan().min_conversations)
        parser.add_argument("--alpha", type=float, default=Plan().alpha)
        parser.add_argument("--runs", type=_count, default=1000)
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--look-minutes", type=_count, default=1, metavar="N", help="between two looks")
        parser.add_argument(
            "--max-hours", type=_positive, default=336.0, metavar="H", help="then a run is unfinished"
        )
        parser.add_argument("--format", choices=_FORMATS, default="text")
        parser.add_argument("--no-progress", action="store_true", help="print no progress bar")

    def handle(self, *args: Any, **options: Any) -> None:
        plan, measure = _plan(options), Measure(options["measure"])
        try:
            from routing.rollout import simulation_report
            from routing.rollout.simulation_study import study
        except ModuleNotFoundError as error:
            raise CommandError(f"{error.name} is missing: install requirements-dev.txt") from None
        scene = _scene(options)
        harms = [0.0, *(harm for harm in options["drop"] or _DROPS if harm)]
        # The report goes to standard output, so the bar must not.
        with Progress(console=Console(stderr=True), disable=options["no_progress"]) as progress:
            bars = {
                harm: progress.add_task(f"{harm * 100:g} points", total=options["runs"]) for harm in harms
            }
            findings = study(
                plan,
                scene,
                measure,
                harms,
                runs=options["runs"],
                seed=options["seed"],
                look_minutes=options["look_minutes"],
                max_hours=options["max_hours"],
                told=lambda harm, over, hours: progress.update(
                    bars[harm], completed=over, description=f"{harm * 100:g} points, {hours} h"
                ),
            )
        setting = simulation_report.Setting(
            plan, scene, measure, options["seed"], options["look_minutes"], options["max_hours"]
        )
        told = {
            "text": simulation_report.as_text,
            "json": simulation_report.as_json,
            "csv": simulation_report.as_csv,
        }[options["format"]]
        self.stdout.write(told(findings, setting))


def _plan(options: dict[str, Any]) -> Plan:
    try:
        return Plan(
            steps=options["steps"],
            min_minutes=options["min_minutes"],
            min_conversations=options["min_conversations"],
            alpha=options["alpha"],
        )
    except PlanError as error:
        raise CommandError(f"{error.field}: {error.message}") from None


def _scene(options: dict[str, Any]) -> "Scene":
    from routing.rollout.simulating import Scene

    if options["holdout"] == 0 and options["steps"][-1] == 100:
        raise CommandError("holdout: without one, 100% has no control and no run would complete")
    return Scene(
        rates={
            Measure.SUCCESS: 1 - options["base"],
            Measure.SAFETY: options["safety_violations"],
            Measure.ESCALATION: options["escalations"],
            Measure.SLOW: options["slow"],
        },
        per_hour=options["conversations_per_hour"],
        holdout=options["holdout"],
        completions=options["completions"],
        likeness=options["likeness"],
        drift=options["drift"],
    )


def _share(text: str) -> float:
    value = _float(text)
    if not 0 <= value < 1:
        raise ArgumentTypeError(f"{text!r} is no share: 0 to below 1")
    return value


def _positive(text: str) -> float:
    value = _float(text)
    if not 0 < value < 1e9:
        raise ArgumentTypeError(f"{text!r}: a number above 0 is wanted")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise ArgumentTypeError(f"{text!r}: a whole number from 1 to 1,000,000 is wanted")
    return int(text)


def _steps(text: str) -> tuple[float, ...]:
    return tuple(_float(part) for part in text.split(","))


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no number") from None
