"""How differences in money are shown: with their sign."""

from decimal import Decimal

from django import template

from commandcenter.templatetags.center import UNKNOWN, usd

register = template.Library()


@register.filter
def moved_usd(value: Decimal | str | None) -> str:
    """US dollars more or less than before."""
    if value is None or value == "":
        return UNKNOWN
    known = Decimal(str(value))
    if known == 0:
        return "$0"
    return f"{'+' if known > 0 else ''}{usd(known)}"
