"""An evaluation told: a table for people, JSON and CSV for programs. Pure."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from routing.evaluating.candidate import Candidate
from routing.evaluating.estimators import MIN_EFFECTIVE, Estimate, Estimator
from routing.evaluating.evaluation import ALLOWED, Evaluation, Figure
from routing.evaluating.observations import FIGURES
from routing.evaluating.observing import LeftOut, Observed
from routing.evaluating.overlap import POOR_EFFECTIVE, POOR_PART, Overlap, Verdict
from routing.logged.scope import Scope, Span


@dataclass(frozen=True, slots=True)
class Setting:
    """What a report says of how it came about."""

    scope: Scope
    span: Span
    candidate: Candidate
    observed: Observed
    clip: float | None
    pool: bool


#: Heading, how a value is written, and the factor before that.
_WRITTEN: Mapping[str, tuple[str, str, float]] = {
    "cost_per_decision": ("$ per 1k decisions", "{:.3f}", 1000.0),
    "success_rate": ("success %", "{:.1f}", 100.0),
    "safety_violation_rate": ("unsafe %", "{:.2f}", 100.0),
    "escalation_rate": ("escalated %", "{:.2f}", 100.0),
}
_LEFT_OUT = {
    LeftOut.NO_COMPLETION: "without a completion",
    LeftOut.NOT_ARCHIVED: "whose policy or snapshot is not kept",
    LeftOut.NOT_REPRODUCED: "that came out otherwise when they were decided again",
    LeftOut.INTERRUPTED: "of conversations that cannot be followed from their first decision on",
    LeftOut.REFUSED: "of which a share would get a problem",
}
_COLUMNS = (
    *("figure", "estimator", "decisions", "value", "standard_error", "lower", "upper"),
    *("difference", "difference_standard_error", "difference_lower", "difference_upper"),
)


def as_text(evaluation: Evaluation, setting: Setting) -> str:
    """Brackets hold 95% intervals; differences are the candidate less what was logged."""
    return "\n".join(
        [
            *_preface(evaluation, setting),
            "",
            f"Logged gave: {_told_shares(evaluation.gave)}",
            f"Candidate gives: {_told_shares(evaluation.gives)}",
            *_warnings(evaluation.overlap, setting),
            "",
            *_table(evaluation, "value"),
            "",
            "Candidate less logged:",
            *_table(evaluation, "difference"),
            *([] if (told := _saving(evaluation)) is None else ["", told]),
        ]
    )


def as_json(evaluation: Evaluation, setting: Setting) -> str:
    """Everything; keys in a fixed order, null is unknown or cannot be told."""
    overlap, observed, candidate = evaluation.overlap, setting.observed, setting.candidate
    return json.dumps(
        {
            "tenant": setting.scope.tenant,
            "persona": setting.scope.persona,
            "from": setting.span.start.isoformat(),
            "to": setting.span.end.isoformat(),
            "candidate": {**asdict(candidate), "rules": candidate.rules.to_dict()},
            "clip": setting.clip,
            "pooled": setting.pool,
            "left_out": {reason.value: observed.left_out[reason] for reason in LeftOut},
            "called_elsewhere": observed.elsewhere,
            "unpriced": observed.unpriced,
            "overlap": {"verdict": overlap.verdict.value, **asdict(overlap)},
            "gave": dict(evaluation.gave),
            "gives": dict(evaluation.gives),
            "figures": {name: _figure(evaluation.figures[name]) for name in FIGURES},
        },
        indent=2,
    )


def as_csv(evaluation: Evaluation, setting: Setting) -> str:
    """One line per figure and estimator, ``logged`` first; an empty cell cannot be told."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for name in FIGURES:
        figure = evaluation.figures[name]
        blank = [None] * 4
        writer.writerow((name, "logged", figure.decisions, *asdict(figure.logged).values(), *blank))
        for estimator, told in figure.told.items():
            value, less = asdict(told.value).values(), asdict(told.difference).values()
            writer.writerow((name, estimator.value, figure.decisions, *value, *less))
    return out.getvalue().rstrip("\n")


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "decisions": figure.decisions,
        "logged": asdict(figure.logged),
        **{estimator.value: asdict(told) for estimator, told in figure.told.items()},
    }


def _preface(evaluation: Evaluation, setting: Setting) -> Iterator[str]:
    overlap, observed = evaluation.overlap, setting.observed
    yield f"{setting.scope}, {setting.span}:"
    yield f"{overlap.decisions} logged decisions of {overlap.conversations} conversations are evaluated."
    for reason, told in _LEFT_OUT.items():
        if count := observed.left_out[reason]:
            yield f"  {count} {told} are left out."
    if observed.elsewhere:
        yield f"  Of {observed.elsewhere} a completion is of another profile than was given; it counts all the same."
    if observed.unpriced:
        yield f"  Of {observed.unpriced} the cost is not known; they tell nothing of costs."
    yield _candidate(setting.candidate)
    if setting.pool:
        yield "Pooled: a profile's outcomes at a task are taken to stay the same over the whole range."


def _candidate(candidate: Candidate) -> str:
    rules, sla, weights = candidate.rules, candidate.rules.sla, candidate.rules.weights
    return (
        f"Candidate: default {candidate.default}. SLA: success >= {sla.min_success_rate:g}, p95 <= "
        f"{sla.max_latency_p95_ms} ms, unsafe <= {sla.max_safety_violation_rate:g}; confidence {rules.confidence:g}, "
        f"min_samples {rules.min_samples}; weights {weights.cost:g}/{weights.success:g}/{weights.latency:g}; "
        f"exploration {candidate.exploration:g}, holdout {candidate.holdout:g}."
    )


def _warnings(overlap: Overlap, setting: Setting) -> Iterator[str]:
    yield (
        f"Overlap {overlap.verdict.value}: worth {overlap.effective:.0f} of {overlap.conversations} conversations; "
        f"largest weight {overlap.largest_weight:.1f}, {overlap.largest_part:.1%} of all; mean weight "
        f"{overlap.mean_weight:.2f}{_clipped(overlap, setting)}."
    )
    if overlap.unsupported:
        shares = _told_shares(overlap.unsupported)
        yield f"  CANNOT BE TOLD without assumptions: the candidate gives what the log could not have given: {shares}."
        if overlap.unsupported_share <= ALLOWED[Estimator.DR]:
            yield "  DR lets its model stand for them, and its intervals hold all that they could come to."
        if overlap.certain:
            yield "  Nothing was left to chance: raise the persona's exploration or holdout share, and log again."
        elif not setting.pool:
            yield "  If other decisions for the same task could have given it, --pool tells, on its assumption."
    elif overlap.effective < MIN_EFFECTIVE:
        yield f"  Below {MIN_EFFECTIVE:.0f} conversations nothing vouches for an interval: log for longer."
    elif overlap.effective < POOR_EFFECTIVE:
        yield f"  Few decisions tell it all: below {POOR_EFFECTIVE:.0f} conversations intervals may be too narrow."
    if overlap.largest_part > POOR_PART:
        yield f"  One decision has more than {POOR_PART:.0%} of all weight."
    if overlap.off:
        yield "  The mean weight is far from what it should be: propensities and what was given do not fit together."


def _clipped(overlap: Overlap, setting: Setting) -> str:
    if setting.clip is None:
        return ""
    return f"; {overlap.clipped} weights cut to {setting.clip:g}"


def _table(evaluation: Evaluation, what: str) -> list[str]:
    """Lines of aligned cells: a heading, then the logged policy (of values only) and a line per estimator."""
    figures = [evaluation.figures[name] for name in FIGURES]
    rows = [("", *(_WRITTEN[name][0] for name in FIGURES))]
    if what == "value":
        rows.append(("logged", *_cells([figure.logged for figure in figures], "{}")))
    for estimator in Estimator:
        sign = "{}" if what == "value" else "{:+}"
        found = [getattr(figure.told[estimator], what) for figure in figures]
        rows.append((estimator.name, *_cells(found, sign)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _cells(estimates: Sequence[Estimate], sign: str) -> Iterator[str]:
    for estimate, (_, form, factor) in zip(estimates, _WRITTEN.values(), strict=True):
        signed = form if sign == "{}" else form.replace("{:", "{:+")
        yield _cell(estimate, signed, factor)


def _cell(estimate: Estimate, form: str, factor: float) -> str:
    if estimate.value is None:
        return "cannot be told"
    told = form.format(estimate.value * factor)
    if estimate.lower is None or estimate.upper is None:
        return f"{told} [no interval]"
    return f"{told} [{form.format(estimate.lower * factor)}, {form.format(estimate.upper * factor)}]"


def _saving(evaluation: Evaluation) -> str | None:
    """The doubly robust difference of cost, in words. None: cannot be told."""
    less = evaluation.figures["cost_per_decision"].told[Estimator.DR].difference
    if less.value is None or less.lower is None or less.upper is None:
        return None
    more = less.lower > 0
    value, *ends = (1000 * (one if more else -one) for one in (less.value, less.lower, less.upper))
    told = f"${value:.3f} [{min(ends):.3f}, {max(ends):.3f}]"
    if more:
        sentence = f"DR: the candidate costs {told} more per 1,000 decisions."
    elif less.upper < 0:
        sentence = f"DR: the candidate saves {told} per 1,000 decisions."
    else:
        sentence = f"DR: whether the candidate saves is not proved: {told} per 1,000 decisions."
    poor = evaluation.overlap.verdict is Verdict.POOR
    return f"{sentence} Overlap is poor: take it as a hint." if poor else sentence


def _told_shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{profile} {share:.2%}" for profile, share in shares.items())
