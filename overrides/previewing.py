"""What policy would be after a change, and the hook by which those who decide tell what that would do: overrides
cannot import routing, so routing registers here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from overrides.flags import FlagRow
from overrides.precedence import Hypothetical

__all__ = ["Hypothetical", "Previewer", "Proposal", "preview", "register"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change that might be made. What is left out stays as it is.

    ``remove``: ids of overrides that would no longer stand (one that is replaced is removed and added with its id).
    ``kill_switch``: tenant (None: everybody) to whether it would be on. ``flag``: the flag as it would be.
    ``personas``: slug to the changed values by the names of the model's fields, ``default_profile`` by slug.
    ``scope_defaults``: (tenant, persona) to the tenant's own default profile, None: it would have none.
    """

    remove: frozenset[int] = frozenset()
    add: tuple[Hypothetical, ...] = ()
    kill_switch: Mapping[str | None, bool] = field(default_factory=dict)
    flag: FlagRow | None = None
    personas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    scope_defaults: Mapping[tuple[str, str], str | None] = field(default_factory=dict)


#: Takes the proposal, the tenants that the caller may see (None: all) and the time (UTC); gives JSON values.
Previewer = Callable[[Proposal, frozenset[str] | None, datetime], dict[str, Any]]

_previewer: Previewer | None = None


def register(previewer: Previewer) -> None:
    """Have ``preview`` answered by this; once, when the apps are ready."""
    global _previewer
    _previewer = previewer


def preview(proposal: Proposal, tenants: frozenset[str] | None, now: datetime) -> dict[str, Any]:
    """What the change would do to the scopes of these tenants (None: all); docs/overrides.md explains the members.

    Raises ValidationError for values that no persona may have, ValueError for fields that it has not.
    """
    if _previewer is None:
        raise RuntimeError("Nobody has registered to preview changes: is the routing app installed?")
    return _previewer(proposal, tenants, now)
