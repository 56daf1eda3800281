"""Toasts: what just happened, announced and (where it can be taken back) with Undo. They are added to the page's
region out of band, whatever else an answer swaps; the activity log repeats everything they say."""

from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string


@dataclass(frozen=True, slots=True)
class Toast:
    """``level``: success, warning or error. ``undo``: where a POST of ``fields`` takes it back."""

    text: str
    level: str = "success"
    undo: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def stays(self) -> bool:
        """Until it is dismissed: what went wrong, and what can be taken back, must not vanish while one reads."""
        return self.level == "error" or self.undo is not None


def with_toast(request: HttpRequest, answer: Any, toast: Toast) -> HttpResponse:
    """The answer, with the toast behind it."""
    if hasattr(answer, "render") and not answer.is_rendered:
        answer.render()
    told = render_to_string("center/_toast.html", {"toast": toast}, request)
    answer.content = answer.content + told.encode()
    done: HttpResponse = answer
    return done


def only_toast(request: HttpRequest, toast: Toast, status: int = 200) -> HttpResponse:
    """An answer that swaps nothing but the toast."""
    answer = HttpResponse(b"", status=status)
    answer["HX-Reswap"] = "none"
    return with_toast(request, answer, toast)
