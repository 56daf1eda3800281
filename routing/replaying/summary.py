"""Several studies, one per incumbent, in a few figures: what the policy saves, and at whose expense. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from routing.replaying.metrics import Figure
from routing.replaying.study import Result, Study
from routing.replaying.tally import MARGIN

#: The policy, and what people do by hand: the cheapest model whose plain averages meet the SLA on the training half.
COMPARED = ("policy", "cheapest-within-sla")


@dataclass(frozen=True, slots=True)
class Line:
    """One policy against one incumbent. ``saving`` is a share of the incumbent's cost, ``success`` this policy's less
    the incumbent's; ``kept_*``: success at most two points below it, p95 and safety no worse than the SLA or than it,
    whichever is worse. None: cannot be told."""

    incumbent: str
    saving: Figure
    success: Figure
    latency_p95_ms: Figure
    incumbent_p95_ms: Figure
    safety_violation_rate: Figure
    incumbent_safety: Figure
    kept_success: bool | None
    kept_p95: bool | None
    kept_safety: bool | None
    halves: int
    swaps: int
    swaps_worse: int


@dataclass(frozen=True, slots=True)
class Summary:
    """One policy over all incumbents. ``swapped`` and ``worse`` are shares of all test halves: those where another
    model than the incumbent was given, and those of them that succeeded more than two points less than it."""

    name: str
    lines: tuple[Line, ...]
    median_saving: float | None
    mean_success: float | None
    kept_success: int
    kept_p95: int
    kept_safety: int
    swapped: float
    worse: float


def summaries(studies: Sequence[Study]) -> list[Summary]:
    """Of each of COMPARED, over the studies of one recording and setting."""
    return [_summary(name, [_line(name, study) for study in studies]) for name in COMPARED]


def _summary(name: str, lines: Sequence[Line]) -> Summary:
    savings = [line.saving.value for line in lines if line.saving.value is not None]
    gaps = [line.success.value for line in lines if line.success.value is not None]
    halves = sum(line.halves for line in lines)
    return Summary(
        name=name,
        lines=tuple(lines),
        median_saving=median(savings) if savings else None,
        mean_success=fmean(gaps) if gaps else None,
        kept_success=sum(line.kept_success is True for line in lines),
        kept_p95=sum(line.kept_p95 is True for line in lines),
        kept_safety=sum(line.kept_safety is True for line in lines),
        swapped=sum(line.swaps for line in lines) / halves,
        worse=sum(line.swaps_worse for line in lines) / halves,
    )


def _line(name: str, study: Study) -> Line:
    of = {result.name: result for result in study.results}
    mine, usual, sla = of[name], of["incumbent"], study.policy.rules.sla
    success = mine.figures["success_to_incumbent"]
    return Line(
        incumbent=study.policy.incumbent,
        saving=_rest(mine.figures["cost_to_incumbent"]),
        success=success,
        latency_p95_ms=mine.figures["latency_p95_ms"],
        incumbent_p95_ms=usual.figures["latency_p95_ms"],
        safety_violation_rate=mine.figures["safety_violation_rate"],
        incumbent_safety=usual.figures["safety_violation_rate"],
        kept_success=None if success.value is None else success.value >= -MARGIN,
        kept_p95=_is_kept(mine, usual, "latency_p95_ms", sla.max_latency_p95_ms),
        kept_safety=_is_kept(mine, usual, "safety_violation_rate", sla.max_safety_violation_rate),
        halves=mine.splits,
        swaps=mine.swaps,
        swaps_worse=mine.swaps_worse,
    )


def _rest(share: Figure) -> Figure:
    """What is left of 1: the interval turns round."""
    value, lower, upper = (None if x is None else 1 - x for x in (share.value, share.upper, share.lower))
    return Figure(value, lower, upper)


def _is_kept(mine: Result, usual: Result, name: str, limit: float) -> bool | None:
    value, own = mine.figures[name].value, usual.figures[name].value
    return None if value is None else value <= max(limit, own or 0.0)


def as_lines(found: Sequence[Summary]) -> list[str]:
    """For people: a row per incumbent, then each policy's figures in a sentence or two."""
    policy, by_hand = found
    head = ("incumbent", "saves %", "success, points", "p95 s (its)", "unsafe % (its)", "swapped", "worse")
    rows = [(*head, "by hand: saves %", "points", "worse")]
    for line, hand in zip(policy.lines, by_hand.lines, strict=True):
        rows.append(
            (
                line.incumbent,
                _told(line.saving, 100, "{:.0f}"),
                _told(line.success, 100, "{:+.1f}"),
                f"{_plain(line.latency_p95_ms, 0.001)} ({_plain(line.incumbent_p95_ms, 0.001)})",
                f"{_plain(line.safety_violation_rate, 100)} ({_plain(line.incumbent_safety, 100)})",
                f"{line.swaps} of {line.halves}",
                str(line.swaps_worse),
                _plain(hand.saving, 100),
                "unknown" if hand.success.value is None else f"{hand.success.value * 100:+.1f}",
                str(hand.swaps_worse),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"Over {len(policy.lines)} incumbents in turn ('worse': success more than two points below the incumbent's):",
        *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows),
        *(_sentence(summary) for summary in found),
    ]


def _sentence(summary: Summary) -> str:
    count = len(summary.lines)
    saving = "unknown" if summary.median_saving is None else f"{summary.median_saving:.1%}"
    success = "unknown" if summary.mean_success is None else f"{summary.mean_success * 100:+.1f} points"
    return (
        f"{summary.name}: median saving {saving}, success {success} on average; success kept for "
        f"{summary.kept_success}, p95 for {summary.kept_p95}, safety for {summary.kept_safety} of {count}; swapped in "
        f"{summary.swapped:.0%} of halves, worse in {summary.worse:.0%}."
    )


def _told(figure: Figure, factor: float, form: str) -> str:
    if figure.value is None:
        return "unknown"
    told = form.format(figure.value * factor)
    if figure.lower is None or figure.upper is None:
        return told
    return f"{told} [{form.format(figure.lower * factor)}, {form.format(figure.upper * factor)}]"


def _plain(figure: Figure, factor: float) -> str:
    return "unknown" if figure.value is None else f"{figure.value * factor:.0f}"
