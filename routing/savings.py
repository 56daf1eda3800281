"""What automatic selection saved, told from the holdout: its conversations against those selected for. Pure.

Both arms are drawn by a hash of the conversation (docs/decisions.md, ``holdout``), so only chance sets them apart, and
they are compared as they were drawn, whatever each conversation was given in the end: by intention to treat.
Within strata, cost per completion of the control less that of the treated, times the treated completions:
post-stratification (W. G. Cochran, *Sampling Techniques*, 1977, 5A.9; L. W. Miratrix, J. S. Sekhon and B. Yu, *J. R.
Statist. Soc. B* 75, 2013). docs/savings.md explains it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from routing.decision import Reason
from routing.savings_intervals import (
    Clustered,
    Estimate,
    Part,
    around,
    rate_difference,
    weighted_rate,
)
from telemetry.arm_sums import Arm, ArmDay, ArmSums, add

#: Conversations that each arm of a stratum must have; with fewer there is "not enough data".
MINIMUM = 30
#: Reasons of the rule that gives the control its default, and of the rules after it. What rules before it decide, both
#: arms would have been given alike.
CONTROL = frozenset({Reason.HOLDOUT})
TREATED = frozenset(
    {Reason.TELEMETRY_STALE, Reason.EXPLORE, Reason.STICKY, Reason.RANKED, Reason.NO_ELIGIBLE_CANDIDATE}
)
_NOTHING = ArmSums()
_CENTS = Decimal("1e-9")


class Verdict(StrEnum):
    """What a 95% interval proves."""

    SAVED = "saved"
    COST_MORE = "cost_more"
    NOT_PROVEN = "not_proven"
    NOT_ENOUGH_DATA = "not_enough_data"


@dataclass(frozen=True, slots=True)
class Money:
    """US dollars, with the bounds of a two-sided 95% interval."""

    value: Decimal
    lower: Decimal
    upper: Decimal


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of both arms (0 to 1), weighted alike, and the treated's less the control's with its 95% interval."""

    control: float
    treated: float
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Stratum:
    """What is compared with each other: both arms of one scope and task over adjacent days; ``task`` None: of all tasks
    that are too thin to be compared by themselves."""

    task: str | None
    control: ArmSums
    treated: ArmSums

    def least(self, counted: str) -> int:
        return int(min(getattr(self.control, counted), getattr(self.treated, counted)))


@dataclass(frozen=True, slots=True)
class Savings:
    """Of any scopes and days. What cannot be told is None.

    ``saved_usd``: what the control's cost per completion would have come to, less what was spent, on those treated
    completions that could be compared (``compared`` of the treated completions with known cost, 0 to 1; ``unadjusted``
    of them without regard to task, which was too thin). Negative: automatic selection cost more. ``saved_share`` is
    of what they would have cost. ``priced`` is the share of treated completions whose cost is known. ``days`` had
    treated completions. ``length`` is by how many completions a day the treated's conversations are longer.
    ``wanting``: without enough data the stratum that is nearest to it.
    """

    verdict: Verdict
    control: ArmSums
    treated: ArmSums
    days: int
    strata: int
    priced: float | None
    compared: float | None
    unadjusted: float | None
    saved_usd: Money | None
    saved_share: Estimate | None
    success: Rate | None
    escalation: Rate | None
    safety: Rate | None
    length: Estimate | None
    wanting: Stratum | None

    @property
    def harms(self) -> tuple[str, ...]:
        """What is proved to be worse for the treated than for the control."""
        worse = []
        if self.success and self.success.difference.upper < 0:
            worse.append("success")
        if self.escalation and self.escalation.difference.lower > 0:
            worse.append("escalation")
        if self.safety and self.safety.difference.lower > 0:
            worse.append("safety")
        return tuple(worse)


def savings(rows: Sequence[ArmDay], minimum: int = MINIMUM) -> Savings:
    """Of these rows (of any days and scopes), with at least ``minimum`` >= 2 conversations in each arm of a stratum."""
    if minimum < 2:
        raise ValueError("minimum: a variance takes two conversations")
    control = add(row.sums for row in rows if row.arm is Arm.CONTROL)
    treated = add(row.sums for row in rows if row.arm is Arm.TREATED)
    strata, thin = stratify(rows, minimum, "priced_conversations")
    money, share = _money(strata)
    compared = sum(one.treated.priced for one in strata)
    whole = strata
    if any(row.sums.priced_conversations != row.sums.conversations for row in rows):
        whole, _ = stratify(rows, minimum, "conversations")
    rates = {
        name: _rate(whole, name, squared)
        for name, squared in (
            ("successes", "successes_squared"),
            ("escalations", "escalations_squared"),
            ("safety_violations", "safety_violations_squared"),
        )
    }
    return Savings(
        verdict=_verdict(money),
        control=control,
        treated=treated,
        days=len({row.day for row in rows if row.arm is Arm.TREATED}),
        strata=len(strata),
        priced=_share(treated.priced, treated.completions),
        compared=_share(compared, treated.priced),
        unadjusted=_share(sum(one.treated.priced for one in strata if one.task is None), treated.priced),
        saved_usd=money,
        saved_share=share,
        success=rates["successes"],
        escalation=rates["escalations"],
        safety=rates["safety_violations"],
        length=_length(whole),
        wanting=None
        if strata
        else max(thin, key=lambda one: one.least("priced_conversations"), default=None),
    )


def stratify(rows: Iterable[ArmDay], minimum: int, counted: str) -> tuple[list[Stratum], list[Stratum]]:
    """The strata whose arms both have ``minimum`` conversations (``counted``: "conversations", or those with a known
    cost, "priced_conversations"), and of each scope without any what is too thin.

    A stratum is one scope and task over as few adjacent days as have enough: days stay apart where they can, because a
    holdout share that changes from one day to the next would mix dearer days into one arm more than into the other.
    Tasks that are too thin are compared together: that the arms were drawn by chance keeps it honest, if less precise.
    """
    scopes: dict[tuple[str, str], dict[str, dict[datetime, dict[Arm, ArmSums]]]] = {}
    for row in rows:
        if row.arm in (Arm.CONTROL, Arm.TREATED):
            days = scopes.setdefault((row.tenant, row.persona), {}).setdefault(row.task, {})
            days.setdefault(row.day, {})[row.arm] = row.sums
    enough: list[Stratum] = []
    thin: list[Stratum] = []
    for tasks in scopes.values():
        rest: dict[datetime, dict[Arm, ArmSums]] = {}
        for task, days in sorted(tasks.items()):
            found = _blocks(task, days, minimum, counted)
            enough += found
            if not found:
                for day, arms in days.items():
                    both = rest.setdefault(day, {})
                    for arm, sums in arms.items():
                        both[arm] = add((both[arm], sums)) if arm in both else sums
        if rest:
            found = _blocks(None, rest, minimum, counted)
            enough += found
            if not found:
                parts = (
                    add(arms[arm] for arms in rest.values() if arm in arms)
                    for arm in (Arm.CONTROL, Arm.TREATED)
                )
                thin.append(Stratum(None, *parts))
    return enough, thin


def _blocks(
    task: str | None, days: Mapping[datetime, Mapping[Arm, ArmSums]], minimum: int, counted: str
) -> list[Stratum]:
    """Adjacent days joined until each block has enough; days left at the end join the last block."""
    enough: list[Stratum] = []
    running: Stratum | None = None
    for day in sorted(days):
        arms = days[day]
        running = _joined(
            running, Stratum(task, arms.get(Arm.CONTROL, _NOTHING), arms.get(Arm.TREATED, _NOTHING))
        )
        if running.least(counted) >= minimum:
            enough.append(running)
            running = None
    if enough and running:
        enough[-1] = _joined(enough[-1], running)
    return enough


def _joined(first: Stratum | None, second: Stratum) -> Stratum:
    if first is None:
        return second
    return Stratum(second.task, add((first.control, second.control)), add((first.treated, second.treated)))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _verdict(money: Money | None) -> Verdict:
    if money is None:
        return Verdict.NOT_ENOUGH_DATA
    if money.lower > 0:
        return Verdict.SAVED
    return Verdict.COST_MORE if money.upper < 0 else Verdict.NOT_PROVEN


def _cost(arm: ArmSums) -> Clustered:
    return Clustered(
        n=arm.priced_conversations,
        x=arm.priced,
        y=float(arm.cost_usd),
        xx=arm.priced_squared,
        yy=arm.cost_squared,
        xy=arm.priced_cost,
    )


def _money(strata: Sequence[Stratum]) -> tuple[Money | None, Estimate | None]:
    """US dollars saved on the treated completions of all strata, and as a share of what they would have cost."""
    if not strata:
        return None, None
    arms = [(one.treated.priced, _cost(one.control), _cost(one.treated)) for one in strata]
    would_have_cost = sum(weight * control.ratio for weight, control, _ in arms)
    spent = sum(treated.y for _, _, treated in arms)
    kept = [Part(weight**2 * control.variance, control.n) for weight, control, _ in arms]
    chosen = [Part(weight**2 * treated.variance, treated.n) for weight, _, treated in arms]
    told = around(would_have_cost - spent, [*kept, *chosen])
    money = Money(*(Decimal(value).quantize(_CENTS) for value in (told.value, told.lower, told.upper)))
    if would_have_cost <= 0:
        return money, None
    # 1 - spent / would_have_cost; the variance of a ratio of independent sums, by the delta method.
    ratio, scale = spent / would_have_cost, would_have_cost**-2
    parts = [Part(part.variance * scale, part.n) for part in chosen]
    parts += [Part(part.variance * ratio**2 * scale, part.n) for part in kept]
    return money, around(1 - ratio, parts)


def _clustered(arm: ArmSums, name: str, squared: str) -> Clustered:
    return Clustered(
        n=arm.conversations,
        x=arm.completions,
        y=getattr(arm, name),
        xx=arm.completions_squared,
        yy=getattr(arm, squared),
        xy=getattr(arm, f"completions_{name}"),
    )


def _rate(strata: Sequence[Stratum], name: str, squared: str) -> Rate | None:
    """A rate per completion of both arms, each stratum weighted by its treated completions."""
    if not strata:
        return None
    total = sum(one.treated.completions for one in strata)
    control, treated = (
        weighted_rate(
            [
                (one.treated.completions / total, _clustered(getattr(one, arm), name, squared))
                for one in strata
            ]
        )
        for arm in ("control", "treated")
    )
    return Rate(control.value, treated.value, rate_difference(treated, control))


def _length(strata: Sequence[Stratum]) -> Estimate | None:
    """Completions per conversation and day, the treated's less the control's: a saving per completion is none if
    conversations take more of them."""
    if not strata:
        return None
    total = sum(one.treated.conversations for one in strata)
    value, parts = 0.0, []
    for one in strata:
        weight = one.treated.conversations / total
        for sign, arm in ((1, one.treated), (-1, one.control)):
            n = arm.conversations
            # The mean is a ratio, too, with one conversation below each.
            mean = Clustered(n, n, arm.completions, n, arm.completions_squared, arm.completions)
            value += sign * weight * mean.ratio
            parts.append(Part(weight**2 * mean.variance, n))
    return around(value, parts)
