"""The report as Markdown: its text is page.md, and the tables are made here."""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from statistics import median

from demo.report.calls import Call, Side
from demo.report.criteria import MARGIN, Criterion, judge
from demo.report.figures import LEAST, Change, change, side_of
from demo.report.figures import Side as Figures
from demo.report.run import Found
from routing.savings import Money, Rate
from routing.savings_intervals import Estimate
from routing.savings_report import Entry

#: The persona whose tasks are essay-like.
ESSAYS = "essayist"
_FEWEST_SHOWN = 0.01
_TEXT = Path(__file__).with_name("page.md")

#: Before, after, and by how much they differ.
Pair = tuple[Figures, Figures, Change]


def page(found: Found) -> str:
    """All of it, ending in a new line."""
    everything = _pair(found, found.calls)
    essays = _pair(found, [call for call in found.calls if call.scope.persona == ESSAYS])
    scopes = {
        scope: _pair(found, [call for call in found.calls if call.scope == scope])
        for scope in sorted({call.scope for call in found.calls}, key=str)
    }
    named = {"all": everything, "essay-like": essays, **{str(scope): pair for scope, pair in scopes.items()}}
    given = [
        (str(scope), found.defaults[scope.persona], _parts(after.shares), _parts(after.reasons))
        for scope, (_, after, _) in scopes.items()
    ]
    before, after, _ = everything
    held_out = _side(found, found.calls, Side.HELD_OUT)
    return _TEXT.read_text(encoding="utf-8").format(
        wanted=found.wanted,
        before=before,
        after=after,
        held_out=held_out,
        criteria=_criteria(judge(essays, everything)),
        essays=ESSAYS,
        margin=MARGIN * 100,
        least=LEAST,
        sides=_sides(named),
        changes=_changes(named),
        given=_table(("scope", "default", "profiles after", "reasons after"), given),
        ledger=_ledger(found.savings()),
        sums=_sums(found, (before, after, held_out)),
        agreement="They agree to the last digit" if found.adds_up else "**They do not agree**",
        other_seed=found.wanted.seed + 1,
        **_circumstances(found),
        **_drift(change(before, held_out)),
    )


def _pair(found: Found, calls: Sequence[Call]) -> Pair:
    before, after = (_side(found, calls, side) for side in (Side.BEFORE, Side.SELECTED))
    return before, after, change(before, after)


def _side(found: Found, calls: Iterable[Call], side: Side) -> Figures:
    return side_of([call for call in calls if call.side is side], f"{found.wanted.seed}/{side}")


def _circumstances(found: Found) -> dict[str, object]:
    delays = sorted(found.delays_ms)
    return {
        "began_at": found.began_at,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "seconds": found.seconds,
        "history": found.history,
        "reported": found.reported,
        "refused": found.refused,
        "failed": sum(call.completion.error_code is not None for call in found.calls),
        "sources": ", ".join(f"{number:,} {source}" for source, number in sorted(found.sources.items())),
        "pace": 1 / found.wanted.speed,
        "delay": median(delays),
        "delay_p95": delays[int(0.95 * (len(delays) - 1))],
    }


def _drift(one: Change) -> dict[str, str]:
    return {
        "drift_cost": _points(one.cost_share),
        "drift_success": _points(one.success),
        "drift_p95": _difference(one.p95, 0.001, 1),
    }


def _criteria(criteria: Sequence[Criterion]) -> str:
    rows = [
        (one.asked, _points(one.found), f"**{one.verdict}**{': ' + one.because if one.because else ''}")
        for one in criteria
    ]
    return _table(("asked", "change [95% interval], % or points", "verdict"), rows)


def _sides(named: Mapping[str, Pair]) -> str:
    rows = [
        (
            name,
            label,
            f"{side.conversations} / {side.completions}",
            _scaled(side.cost_per_completion, 1000, 2),
            _scaled(side.success, 100, 1),
            _scaled(side.p95, 0.001, 1),
            _scaled(side.safety, 100, 1),
            _scaled(side.escalation, 100, 1),
        )
        for name, (before, after, _) in named.items()
        for label, side in (("before", before), ("after", after))
    ]
    head = ("scope", "when", "n", "cost", "success", "p95", "safety violations", "escalations")
    return _table(head, rows)


def _changes(named: Mapping[str, Pair]) -> str:
    rows = [
        (
            name,
            _points(one.cost_share),
            _difference(one.cost, 1000, 2),
            _points(one.success),
            _difference(one.p95, 0.001, 1),
            _points(one.safety),
            _points(one.escalation),
        )
        for name, (_, _, one) in named.items()
    ]
    head = ("after less before", "cost, %", "cost", "success", "p95", "safety violations", "escalations")
    return _table(head, rows)


def _ledger(entries: Sequence[Entry]) -> str:
    head = ("scope", "verdict", "control / treated", "saved, USD", "saved, %", "success", "safety", "harms")
    return _table(head, [_ledger_row(entry) for entry in entries])


def _ledger_row(entry: Entry) -> tuple[str, ...]:
    told = entry.savings
    return (
        f"{entry.tenant} x {entry.persona}" if entry.tenant else "all that can be compared",
        told.verdict.value.replace("_", " "),
        f"{told.control.conversations} / {told.treated.conversations}",
        _money(told.saved_usd),
        _points(told.saved_share),
        _rate(told.success),
        _rate(told.safety),
        (", ".join(told.harms) or "none proved") if told.strata else "-",
    )


def _sums(found: Found, sides: Sequence[Figures]) -> str:
    counted: list[tuple[str, int, Decimal]] = [("history", found.history, found.history_usd)]
    for name, side in zip(("before", "after", "held out"), sides, strict=True):
        counted.append((name, side.completions, side.spent))
    counted.append(("together", sum(n for _, n, _ in counted), sum((usd for *_, usd in counted), Decimal(0))))
    counted.append(("ClickHouse's roll-ups", found.rolled.completions, found.rolled.cost_usd))
    return _table(
        ("completions", "count", "USD"), [(name, f"{count:,}", f"{usd:.9f}") for name, count, usd in counted]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _scaled(one: Estimate | None, by: float, digits: int) -> str:
    if one is None:
        return "-"
    value, lower, upper = (f"{x * by:.{digits}f}" for x in (one.value, one.lower, one.upper))
    return f"{value} [{lower}, {upper}]"


def _difference(one: Estimate | None, by: float, digits: int) -> str:
    if one is None:
        return "-"
    value, lower, upper = (f"{x * by:+.{digits}f}" for x in (one.value, one.lower, one.upper))
    return f"{value} [{lower}, {upper}]{'*' if one.lower > 0 or one.upper < 0 else ''}"


def _points(one: Estimate | None) -> str:
    return _difference(one, 100, 1)


def _money(one: Money | None) -> str:
    return "-" if one is None else f"{one.value:.2f} [{one.lower:.2f}, {one.upper:.2f}]"


def _rate(one: Rate | None) -> str:
    return "-" if one is None else _points(one.difference)


def _parts(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= _FEWEST_SHOWN)
