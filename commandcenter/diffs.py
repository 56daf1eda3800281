"""Two states of an object as lines to compare, and what of a state somebody may see."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from catalog.tenancy import Tenants
from overrides.foreign import seen

#: More lines than this help nobody; how many there are is said.
MOST = 40
_LONGEST = 600
#: Told of elsewhere, or about the bookkeeping alone.
_LEFT_OUT = {"version", "id", "diff_hash"}


@dataclass(frozen=True, slots=True)
class Line:
    """``old`` and ``new`` are texts; None: the member is not there."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    lines: tuple[Line, ...]
    more: int


def difference(before: Any, after: Any, tenants: Tenants = None) -> Difference:
    """The members that differ, by name; those of mappings one by one, so that of 5,000 shares one is shown.
    ``tenants``: those that the reader may see (None: all)."""
    old, new = dict(_flat(seen(before, tenants))), dict(_flat(seen(after, tenants)))
    names = [*new, *(name for name in old if name not in new)]
    changed = [name for name in names if name not in _LEFT_OUT and _differ(name, old, new)]
    lines = (Line(name, _text(old, name), _text(new, name)) for name in changed[:MOST])
    return Difference(tuple(lines), max(0, len(changed) - MOST))


def _differ(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if name in old and name in new:
        return bool(old[name] != new[name])
    # What is made new with nothing in it tells nothing.
    return old.get(name, new.get(name)) not in (None, "", [])


def _flat(state: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(state, Mapping):
        if prefix:
            yield prefix, state
        return
    for name, value in state.items():
        inner = f"{prefix} › {name}" if prefix else str(name)
        if isinstance(value, Mapping) and value:
            yield from _flat(value, inner)
        else:
            yield inner, None if value == {} else value


def _text(state: Mapping[str, Any], name: str) -> str | None:
    if name not in state:
        return None
    value = state[name]
    if value is None or value == []:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = ", ".join(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def reader(tenants: Tenants) -> Callable[[Any], Any]:
    """``seen`` for one reader."""
    return lambda state: seen(state, tenants)
