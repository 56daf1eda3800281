"""Reads forms out of pages."""

from html.parser import HTMLParser


class _Inputs(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "input" and told.get("type") == "hidden" and told.get("name"):
            self.found[str(told["name"])] = told.get("value") or ""


def hidden(page: str) -> dict[str, str]:
    """Name to value of the hidden inputs; of a name that occurs more than once, the last."""
    parser = _Inputs()
    parser.feed(page)
    return parser.found
