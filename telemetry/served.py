"""Whether a provider served another model than was asked for. Pure."""

import re

# Providers answer "gpt-4.1-2025-04-14" to "gpt-4.1", and routers put the maker's name in front: the same model.
_RELEASE = re.compile(r"[-@:](\d{4}-?\d{2}-?\d{2}|\d{3,8}|latest)$")


def is_other(requested: str, served: str | None) -> bool:
    """True only for a model that is told and is another one; dates and makers' prefixes are passed over."""
    if served is None:
        return False
    return _bare(served) != _bare(requested)


def _bare(model: str) -> str:
    name = model.strip().lower().rsplit("/", 1)[-1]
    return _RELEASE.sub("", name)
