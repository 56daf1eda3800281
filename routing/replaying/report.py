"""A study told: a table for people, JSON and CSV for programs. Pure."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from routing.replaying.frontier import Frontier
from routing.replaying.metrics import FIGURES, Figure
from routing.replaying.outcomes import Recording
from routing.replaying.study import Result, Study
from routing.replaying.summary import as_lines, summaries


@dataclass(frozen=True, slots=True)
class Setting:
    """What a report says of how it came about."""

    recording: Recording
    splits: int
    seed: int
    resamples: int
    #: Of each study, in their order, when they were asked for.
    frontiers: tuple[Frontier, ...] = ()

    def frontier_of(self, number: int) -> Frontier | None:
        return self.frontiers[number] if self.frontiers else None


#: Heading, figure, how it is written, and the factor before that; two tables, so that lines stay readable.
_Column = tuple[str, str, str, float]
_ABSOLUTE: tuple[_Column, ...] = (
    ("$ per 1k", "cost_per_completion", "{:.3f}", 1000.0),
    ("success %", "success_rate", "{:.1f}", 100.0),
    ("p95 s", "latency_p95_ms", "{:.1f}", 0.001),
    ("unsafe %", "safety_violation_rate", "{:.1f}", 100.0),
)
_RELATIVE: tuple[_Column, ...] = (
    ("cost, % of incumbent's", "cost_to_incumbent", "{:.1f}", 100.0),
    ("success, points to it", "success_to_incumbent", "{:+.1f}", 100.0),
    ("regret, $ per 1k", "regret_cost", "{:+.3f}", 1000.0),
    ("regret, success points", "regret_success", "{:+.1f}", 100.0),
    ("RouterArena %", "routerarena", "{:.1f}", 100.0),
)


def as_text(studies: Sequence[Study], setting: Setting) -> str:
    """One block per study; brackets hold 95% bootstrap intervals."""
    blocks = [_block(study, setting.frontier_of(number)) for number, study in enumerate(studies)]
    over_all = ["\n".join(as_lines(summaries(studies)))] if len(studies) > 1 else []
    return "\n\n".join([_preface(setting), *blocks, *over_all])


def as_json(studies: Sequence[Study], setting: Setting) -> str:
    """Everything, money that was added up as text; keys in a fixed order."""
    return json.dumps(
        {
            "recording": _recording(setting),
            "studies": [_study(study, setting.frontier_of(number)) for number, study in enumerate(studies)],
            "summaries": [asdict(summary) for summary in summaries(studies)],
        },
        indent=2,
    )


def as_csv(studies: Sequence[Study], setting: Setting) -> str:
    """One line per incumbent, policy and figure; an empty cell is unknown. Counts and shares have no interval. Lines
    without an incumbent are over all of them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("incumbent", "policy", "figure", "value", "lower", "upper"))
    for number, study in enumerate(studies):
        frontier = setting.frontier_of(number)
        if frontier is not None:
            writer.writerow((study.policy.incumbent, "policy", "aiq", frontier.policy, None, None))
            writer.writerow((study.policy.incumbent, "zero-router", "aiq", frontier.zero_router, None, None))
        for result in study.results:
            key = (study.policy.incumbent, result.name)
            for name in FIGURES:
                figure = result.figures[name]
                writer.writerow((*key, name, figure.value, figure.lower, figure.upper))
            for name, value in _plain(result).items():
                writer.writerow((*key, name, value, None, None))
    for summary in summaries(studies):
        for name in (
            "median_saving",
            "mean_success",
            "kept_success",
            "kept_p95",
            "kept_safety",
            "swapped",
            "worse",
        ):
            writer.writerow(("", summary.name, name, getattr(summary, name), None, None))
    return out.getvalue().rstrip("\n")


def _plain(result: Result) -> dict[str, object]:
    return {
        "conversations": result.conversations,
        "without_support": result.without_support,
        "cost_usd": format(result.cost_usd, "f"),
        "splits": result.splits,
        "splits_breaching": result.splits_breaching,
        "swaps": result.swaps,
        "swaps_worse": result.swaps_worse,
        **{f"breaches:{clause}": count for clause, count in result.breaches.items()},
        **{f"share:{model}": share for model, share in result.shares.items()},
        **{f"reason:{reason}": share for reason, share in result.reasons.items()},
    }


def _recording(setting: Setting) -> dict[str, Any]:
    recording = setting.recording
    return {
        "conversations": len(recording.conversations),
        "outcomes": recording.outcomes,
        "models": list(recording.models),
        "repeated_left_out": recording.repeated,
        "averages_of_several_calls": recording.averaged,
        "splits": setting.splits,
        "seed": setting.seed,
        "resamples": setting.resamples,
    }


def _study(study: Study, frontier: Frontier | None) -> dict[str, Any]:
    policy = study.policy
    return {
        **({"frontier": asdict(frontier)} if frontier else {}),
        "policy": {
            "rules": policy.rules.to_dict(),
            "incumbent": policy.incumbent,
            "exploration": policy.exploration,
            "feedback": policy.feedback.value,
            "rescore_every": policy.rescore_every,
            "within": policy.within,
        },
        "results": [_result(result) for result in study.results],
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "conversations": result.conversations,
        "without_support": result.without_support,
        "unsupported": dict(result.unsupported),
        "cost_usd": format(result.cost_usd, "f"),
        "figures": {name: asdict(figure) for name, figure in result.figures.items()},
        "splits": result.splits,
        "splits_breaching": result.splits_breaching,
        "swaps": result.swaps,
        "swaps_worse": result.swaps_worse,
        "breaches": dict(result.breaches),
        "shares": dict(result.shares),
        "reasons": dict(result.reasons),
    }


def _preface(setting: Setting) -> str:
    recording = setting.recording
    how = f"{setting.splits} random halves" if setting.splits else "the later half, after the earlier one"
    what = f"{len(recording.conversations)} conversations, {len(recording.models)} models"
    lines = [
        f"{recording.outcomes} recorded outcomes: {what}; {recording.repeated} repeated recordings left out.",
        f"Tried on {how} (seed {setting.seed}). [95% bootstrap intervals, {setting.resamples} resamples.]",
    ]
    if recording.elsewhere:
        lines.append(f"{len(recording.elsewhere)} conversations of other categories lend, as other personas.")
    if recording.averaged:
        lines.append(f"{recording.averaged} outcomes are averages of several calls: tails are understated.")
    return "\n".join(lines)


def _block(study: Study, frontier: Frontier | None) -> str:
    policy, sla = study.policy, study.policy.rules.sla
    weights = policy.rules.weights
    success = f">= {sla.min_success_rate:g}"
    if policy.within is not None:
        success = f"at most {policy.within * 100:g} points below it on the training half"
    title = (
        f"Incumbent {policy.incumbent}. SLA: success {success}, p95 <= {sla.max_latency_p95_ms} ms, "
        f"unsafe <= {sla.max_safety_violation_rate:g}; confidence {policy.rules.confidence:g}, "
        f"min_samples {policy.rules.min_samples}; weights {weights.cost:g}/{weights.success:g}/{weights.latency:g}; "
        f"exploration {policy.exploration:g}; feedback {policy.feedback.value}."
    )
    counts = [("SLA missed", "no support")]
    for result in study.results:
        missed = f"{result.splits_breaching} of {result.splits}"
        counts.append((missed, f"{result.without_support} of {result.conversations}"))
    return "\n".join(
        [
            title,
            *_table(_ABSOLUTE, study.results, counts),
            "",
            *_table(_RELATIVE, study.results, [() for _ in counts]),
            *([_aiq(frontier)] if frontier else []),
            "",
            *(_missed(result) for result in study.results if result.breaches),
            *(f"{result.name} gave: {_shares(result.shares)}" for result in study.results),
        ]
    )


def _table(
    columns: Sequence[_Column], results: Sequence[Result], more: Sequence[tuple[str, ...]]
) -> list[str]:
    """Lines of aligned cells: the heading, then a line per result; ``more`` are cells to end each line with."""
    rows = [("", *(head for head, *_ in columns))]
    for result in results:
        cells = (_cell(result.figures[name], form, factor) for _, name, form, factor in columns)
        rows.append((result.name, *cells))
    rows = [(*row, *end) for row, end in zip(rows, more, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _aiq(frontier: Frontier) -> str:
    if frontier.policy is None or frontier.zero_router is None:
        return "AIQ: unknown, for the models' costs give no range"
    return (
        f"AIQ: policy {frontier.policy:.1%}, zero router {frontier.zero_router:.1%}, over "
        f"${(frontier.cheapest or 0.0) * 1000:.3f} to ${(frontier.dearest or 0.0) * 1000:.3f} per 1k (no interval)"
    )


def _missed(result: Result) -> str:
    clauses = ", ".join(f"{clause} {count}" for clause, count in result.breaches.items())
    return f"{result.name} missed, of {result.splits}: {clauses}"


def _cell(figure: Figure, form: str, factor: float) -> str:
    if figure.value is None:
        return "unknown"
    told = form.format(figure.value * factor)
    if figure.lower is None or figure.upper is None:
        return told
    return f"{told} [{form.format(figure.lower * factor)}, {form.format(figure.upper * factor)}]"


def _shares(shares: Mapping[str, float]) -> str:
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{model} {share:.1%}" for model, share in ordered)
