"""A simulation told: a table for people, JSON and CSV for programs. Pure."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from routing.rollout.evidence import Measure
from routing.rollout.plan import Plan
from routing.rollout.simulating import Scene
from routing.rollout.simulation_study import CURVE, Finding, Share, Spread

_WHAT = {
    Measure.SUCCESS: "drop of success",
    Measure.SAFETY: "rise of violations",
    Measure.ESCALATION: "rise of escalations",
    Measure.SLOW: "rise of slow",
}
_BAR = 40


@dataclass(frozen=True, slots=True)
class Setting:
    """What a report says of how it came about."""

    plan: Plan
    scene: Scene
    measure: Measure
    seed: int
    look_minutes: int
    max_hours: float


def as_text(findings: Sequence[Finding], setting: Setting) -> str:
    """Brackets hold 95% intervals of shares; else median and 95th percentile."""
    heading = ("points", "runs", "rolled back %", "completed %", "falsely advanced %")
    rows = [
        (
            f"{finding.harm * 100:g}",
            f"{finding.runs:,}",
            _told_share(finding.rolled_back),
            _told_share(finding.completed),
            _told_share(finding.falsely_advanced),
        )
        for finding in findings
    ]
    caught = ("points", "treated until caught", "all until caught", "hours until caught", "hours to complete")
    times = [
        (
            f"{finding.harm * 100:g}",
            _told_spread(finding.caught_treated),
            _told_spread(finding.caught_conversations),
            _told_spread(finding.caught_hours),
            _told_spread(finding.completed_hours),
        )
        for finding in findings
    ]
    let_on = ("points", *(f"{step:g}%" for step in setting.plan.steps))
    steps = [
        (f"{finding.harm * 100:g}", *(f"{share * 100:.1f}" for share in finding.advanced))
        for finding in findings
    ]
    return "\n".join(
        [
            *_preface(setting),
            "",
            f"By {_WHAT[setting.measure]}, with 95% intervals:",
            *_table(heading, rows),
            "",
            "Conversations and hours, median (95th percentile):",
            *_table(caught, times),
            "",
            "Runs that each step let on, %:",
            *_table(let_on, steps),
            *_curves(findings),
        ]
    )


def as_json(findings: Sequence[Finding], setting: Setting) -> str:
    """Everything; keys in a fixed order, null where no run tells."""
    return json.dumps(
        {
            "plan": setting.plan.to_dict(),
            "scene": asdict(setting.scene),
            "measure": setting.measure,
            "seed": setting.seed,
            "look_minutes": setting.look_minutes,
            "max_hours": setting.max_hours,
            "curve_treated": CURVE,
            "findings": [asdict(finding) for finding in findings],
        },
        indent=2,
    )


def as_csv(findings: Sequence[Finding], setting: Setting) -> str:
    """One line per harm; empty where no run tells."""
    shares = ("rolled_back", "completed", "unfinished", "falsely_advanced")
    spreads = (
        *("caught_treated", "caught_conversations", "caught_hours"),
        *("completed_hours", "completed_conversations"),
    )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            *("measure", "harm", "runs"),
            *(f"{name}{end}" for name in shares for end in ("", "_lower", "_upper")),
            *(f"{name}_{end}" for name in spreads for end in ("median", "p95")),
        ]
    )
    for finding in findings:
        row: list[object] = [setting.measure.value, finding.harm, finding.runs]
        for name in shares:
            share: Share = getattr(finding, name)
            row += [share.value, share.lower, share.upper]
        for name in spreads:
            spread: Spread | None = getattr(finding, name)
            row += [spread.median, spread.p95] if spread else ["", ""]
        writer.writerow(row)
    return out.getvalue().rstrip("\n")


def _preface(setting: Setting) -> list[str]:
    plan, scene = setting.plan, setting.scene
    rates = ", ".join(
        f"{measure.value} {(1 - rate if measure is Measure.SUCCESS else rate) * 100:g}%"
        for measure, rate in scene.rates.items()
    )
    completions = (
        f"{scene.completions} completions each, alike by {scene.likeness:g}"
        if scene.completions > 1
        else "one completion each"
    )
    drift = f"; rates swing by {scene.drift * 100:g}% of themselves within a day" if scene.drift else ""
    steps = " -> ".join(f"{step:g}" for step in plan.steps)
    looks = f"looked at every {setting.look_minutes} min for up to {setting.max_hours:g} h"
    least = f"at least {plan.min_minutes} min and {plan.min_conversations} conversations per arm and step"
    kept = f"holdout {scene.holdout * 100:g}%{drift}"
    return [
        f"Plan {steps}%, {least}, alpha {plan.alpha:g}; {looks}.",
        f"Truth: {rates}; {scene.per_hour:g} conversations per hour, {completions}, {kept}. Seed {setting.seed}.",
    ]


def _curves(findings: Sequence[Finding]) -> list[str]:
    lines = []
    for finding in findings:
        if not finding.harm:
            continue
        lines += ["", f"Rolled back within so many treated conversations, {finding.harm * 100:g} points:"]
        for most, share in zip(CURVE, finding.caught_curve, strict=True):
            lines.append(f"{most:>8,} {share * 100:5.1f}% {'#' * round(share * _BAR)}".rstrip())
    return lines


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in (heading, *rows)) for at in range(len(heading))]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (heading, *rows)
    ]


def _told_share(share: Share) -> str:
    return f"{share.value * 100:.1f} [{share.lower * 100:.1f}, {share.upper * 100:.1f}]"


def _told_spread(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    digits = 0 if spread.median >= 100 else 1
    return f"{spread.median:,.{digits}f} ({spread.p95:,.{digits}f})"
