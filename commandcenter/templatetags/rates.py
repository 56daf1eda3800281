"""How rates are shown: a little is not nothing."""

from django import template

from commandcenter.templatetags.center import count

register = template.Library()


@register.filter
def rate(value: float) -> str:
    """Per hour: "1,240", "3.5", "under 0.1"; 0 only where there is nothing at all."""
    return "under 0.1" if 0 < value < 0.1 else count(value)
