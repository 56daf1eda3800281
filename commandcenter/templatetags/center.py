"""How figures are shown in the Command Center. Unknown is never a 0."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from commandcenter.cards import sla_of

register = template.Library()

UNKNOWN = "—"


@register.filter
def usd(value: Decimal | str | None) -> str:
    """US dollars, with as many places as tell something."""
    if _is_unknown(value):
        return UNKNOWN
    known = Decimal(str(value))
    size = abs(known)
    places = 2 if size >= 1 else 4 if size >= Decimal("0.01") else 6
    text = f"{size:,.{places}f}"
    return f"-${text}" if known < 0 else f"${text}"


@register.filter
def percent(value: Any) -> str:
    """A share, 0 to 1."""
    return UNKNOWN if _is_unknown(value) else f"{value * 100:.1f}%"


@register.filter
def seconds(value: Any) -> str:
    """Milliseconds as seconds."""
    if _is_unknown(value):
        return UNKNOWN
    return f"{value / 1000:.1f} s" if value < 100_000 else f"{value / 1000:,.0f} s"


@register.filter
def count(value: Any) -> str:
    """A number of things; fewer than ten of them with a tenth."""
    if _is_unknown(value):
        return UNKNOWN
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _is_unknown(value: Any) -> bool:
    # A template's member of nothing is an empty string.
    return value is None or value == ""


@register.simple_tag
def age(at: datetime | None) -> SafeString | str:
    """ "40 s ago", with the time itself in UTC; the page's script adds the viewer's own."""
    if at is None:
        return UNKNOWN
    passed = (timezone.now() - at).total_seconds()
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        at.isoformat(),
        f"{at:%Y-%m-%d %H:%M:%S}",
        _ago(passed),
    )


@register.simple_tag
def moment(at: datetime | None) -> SafeString | str:
    """A time in UTC; the page's script adds the viewer's own."""
    if at is None:
        return UNKNOWN
    return format_html(
        '<time datetime="{}" data-moment>{} UTC</time>', at.isoformat(), f"{at:%Y-%m-%d %H:%M}"
    )


def _ago(passed: float) -> str:
    ahead = passed < 0
    passed = abs(passed)
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if passed >= length * (2 if unit == "d" else 1):
            text = f"{int(passed // length)} {unit}"
            break
    else:
        text = f"{int(passed)} s"
    return f"in {text}" if ahead else f"{text} ago"


@register.simple_tag(takes_context=True)
def query(context: dict[str, Any], **changes: Any) -> str:
    """The page's query string with some of it changed; None leaves a parameter out."""
    asked = context["request"].GET.copy()
    for name, value in changes.items():
        if value is None or value == "":
            asked.pop(name, None)
        else:
            asked[name] = str(value)
    text = asked.urlencode()
    return f"?{text}" if text else "?"


@register.filter
def change(value: float) -> str:
    """A share as a change: "▲ 4.2%"."""
    if abs(value) < 0.0005:
        return "= 0%"
    return f"{'▲' if value > 0 else '▼'} {abs(value) * 100:.1f}%"


@register.filter
def is_worse(value: float, good: str) -> bool:
    """Whether a change is for the worse by more than noise; ``good`` is the better direction, up or down."""
    return value < -0.05 if good == "up" else value > 0.05


@register.filter
def verdict(card: Any) -> str:
    """What a scorecard says of the SLA: meets, unproven, misses or unknown."""
    return sla_of(card)
