"""The savings ledger as its page shows it: sentences, harm beside savings, and intervals drawn to one scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from commandcenter.templatetags.center import percent, usd
from routing.savings import MINIMUM, Money, Rate, Savings, Verdict
from routing.savings_intervals import Estimate
from routing.savings_report import Entry

#: Of the drawing that an interval has in each row.
WIDTH, HEIGHT, MARGIN = 200, 20, 4
WORDS = {
    Verdict.SAVED: "saved",
    Verdict.COST_MORE: "cost more",
    Verdict.NOT_PROVEN: "no proven difference",
    Verdict.NOT_ENOUGH_DATA: "not enough data",
}
TONES = {Verdict.SAVED: "good", Verdict.COST_MORE: "bad"}


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval's ends, its value and zero on the x axis of ``WIDTH``, and in words."""

    lower: str
    value: str
    upper: str
    zero: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A scope or a day. ``usd`` is per day; None: not enough data, and ``wanting`` says how much there is."""

    tenant: str | None
    persona: str | None
    day: date | None
    told: Savings
    words: str
    tone: str
    usd: Money | None
    bar: Bar | None
    wanting: str


@dataclass(frozen=True, slots=True)
class Harm:
    """One rate of both arms, and in words whether the treated fare worse."""

    name: str
    control: float
    treated: float
    difference: str
    words: str
    tone: str


def rows_of(entries: Sequence[Entry]) -> list[Row]:
    """With bars on one scale, which the widest interval sets."""
    daily = [(one, per_day(one.savings)) for one in entries]
    ends = [abs(float(end)) for _, money in daily if money for end in (money.lower, money.upper)]
    reach = max(ends, default=0.0)
    return [
        Row(
            tenant=one.tenant,
            persona=one.persona,
            day=one.day,
            told=one.savings,
            words=WORDS[one.savings.verdict],
            tone=TONES.get(one.savings.verdict, "quiet"),
            usd=money,
            bar=_bar(money, reach) if money else None,
            wanting=wanting(one.savings),
        )
        for one, money in daily
    ]


def per_day(told: Savings) -> Money | None:
    """US dollars a day, over the days that had treated completions."""
    money = told.saved_usd
    if money is None:
        return None
    return Money(*(value / told.days for value in (money.value, money.lower, money.upper)))


def _bar(money: Money, reach: float) -> Bar:
    def x(value: Decimal | float) -> str:
        share = float(value) / reach if reach else 0.0
        return f"{WIDTH / 2 + share * (WIDTH / 2 - MARGIN):.1f}"

    text = f"{usd(money.value)} a day, 95% interval {usd(money.lower)} to {usd(money.upper)}"
    return Bar(x(money.lower), x(money.value), x(money.upper), x(0), text)


def headline(told: Savings) -> str:
    """What it comes to, in a sentence that claims no more than the interval proves."""
    money = per_day(told)
    if money is None:
        return f"Not enough data: {wanting(told)}."
    # One day is as a rule today, which is not over.
    span = "a day" if told.days > 1 else "on one day"
    size = usd(abs(money.value))
    low, high = sorted((abs(money.lower), abs(money.upper)))
    if told.verdict is Verdict.SAVED:
        return f"Saved {size} {span} [{usd(low)}, {usd(high)}]."
    if told.verdict is Verdict.COST_MORE:
        return f"Cost {size} more {span} [{usd(low)}, {usd(high)}]."
    return f"No proven difference: {usd(money.value)} saved {span} [{usd(money.lower)}, {usd(money.upper)}]."


def wanting(told: Savings) -> str:
    """How far it is to enough data, where it is nearest: "12 of 30 holdout conversations"."""
    if told.saved_usd is not None:
        return ""
    near = told.wanting
    control = near.control.priced_conversations if near else 0
    treated = near.treated.priced_conversations if near else 0
    text = f"{control:,} of {MINIMUM} holdout conversations"
    return text if treated >= MINIMUM else f"{text} and {treated:,} of {MINIMUM} selected for"


def harms_of(told: Savings) -> list[Harm]:
    """Success, escalations and safety violations per completion; none without enough data."""
    shown = (
        ("Success", told.success, 1),
        ("Escalations", told.escalation, -1),
        ("Safety violations", told.safety, -1),
    )
    return [_harm(name, rate, good) for name, rate, good in shown if rate]


def _harm(name: str, rate: Rate, good: int) -> Harm:
    low, high = sorted((good * rate.difference.lower, good * rate.difference.upper))
    words, tone = (
        ("worse", "bad") if high < 0 else ("better", "good") if low > 0 else ("no proven difference", "quiet")
    )
    return Harm(name, rate.control, rate.treated, points(rate.difference), words, tone)


def points(one: Estimate) -> str:
    """A difference of rates: "+1.2 points [-0.4, +2.8]"."""
    value, lower, upper = (f"{number * 100:+.1f}" for number in (one.value, one.lower, one.upper))
    return f"{value} points [{lower}, {upper}]"


def share_of(told: Savings) -> str:
    """Of what the default would have cost: "34.1% [28.0%, 40.2%]"; empty where it cannot be told."""
    one = told.saved_share
    return f"{percent(one.value)} [{percent(one.lower)}, {percent(one.upper)}]" if one else ""


def length_of(told: Savings) -> tuple[str, bool] | None:
    """By how many completions a day conversations are longer, and whether that is proved. None: not enough data."""
    one = told.length
    if one is None:
        return None
    return f"{one.value:+.2f} [{one.lower:+.2f}, {one.upper:+.2f}]", one.lower > 0
