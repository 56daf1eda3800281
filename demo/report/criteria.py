"""The mission's criteria, judged by intervals alone: met, not met, or not to be told from so few. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from demo.report.figures import Change, Side
from routing.savings_intervals import Estimate

#: A completion that is essay-like shall cost less by this share at least.
SAVING = 0.15
#: A rate did not rise when it is proved to have risen by less than this, as success is kept in a replay.
MARGIN = 0.02


class Verdict(StrEnum):
    """What a 95% interval shows."""

    MET = "met"
    NOT_MET = "not met"
    CANNOT_TELL = "cannot be told at this n"
    #: However many conversations there are.
    NOT_RECORDED = "cannot be told"


@dataclass(frozen=True, slots=True)
class Criterion:
    """What was asked, the figure that answers it (a share of the cost, or a difference of rates), and why it is judged
    so when that is not plain."""

    asked: str
    found: Estimate | None
    verdict: Verdict
    because: str = ""


def judge(essays: tuple[Side, Side, Change], everything: tuple[Side, Side, Change]) -> Sequence[Criterion]:
    """Each is (before, after, change)."""
    _, _, essay = essays
    before, after, whole = everything
    return [
        Criterion(
            "essay-like completions cost 15% less or better", essay.cost_share, cheaper(essay.cost_share)
        ),
        Criterion("no more safety violations", whole.safety, no_more(whole.safety)),
        _escalations(before, after, whole),
        Criterion("besides: no fewer essay-like completions succeed", essay.success, no_fewer(essay.success)),
        Criterion("besides: no fewer of all completions succeed", whole.success, no_fewer(whole.success)),
    ]


def cheaper(share: Estimate | None) -> Verdict:
    """``share``: by how much of the cost it changed; -0.2 is 20% less."""
    if share is None:
        return Verdict.CANNOT_TELL
    if share.upper <= -SAVING:
        return Verdict.MET
    return Verdict.NOT_MET if share.lower > -SAVING else Verdict.CANNOT_TELL


def no_more(difference: Estimate | None) -> Verdict:
    """Of a rate of bad things. Not met: it is proved to have risen; met: not by MARGIN."""
    if difference is None:
        return Verdict.CANNOT_TELL
    if difference.lower > 0:
        return Verdict.NOT_MET
    return Verdict.MET if difference.upper <= MARGIN else Verdict.CANNOT_TELL


def no_fewer(difference: Estimate | None) -> Verdict:
    """The same of a rate of good things."""
    if difference is None:
        return Verdict.CANNOT_TELL
    return no_more(Estimate(-difference.value, -difference.upper, -difference.lower))


def _escalations(before: Side, after: Side, whole: Change) -> Criterion:
    asked = "no more escalations"
    if not before.escalated + after.escalated:
        # Nothing can rise where nothing is ever told of: zeros of no recording prove nothing.
        return Criterion(
            asked,
            None,
            Verdict.NOT_RECORDED,
            "the recorded outcomes tell of no escalation, whatever is chosen",
        )
    return Criterion(asked, whole.escalation, no_more(whole.escalation))
