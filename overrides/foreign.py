"""States without what they say of foreign tenants."""

from collections.abc import Mapping
from typing import Any

from catalog.tenancy import Tenants


def seen(state: Any, tenants: Tenants) -> Any:
    """The state as a caller of these tenants (None: all) may see it: a flag's names each tenant with its shares, also
    where a change was about one of them alone."""
    if tenants is None:
        return state
    if isinstance(state, Mapping):
        return {name: _member(name, value, tenants) for name, value in state.items()}
    return [seen(item, tenants) for item in state] if isinstance(state, list) else state


def _member(name: str, value: Any, tenants: frozenset[str]) -> Any:
    if name in ("tenants", "scopes") and isinstance(value, Mapping):
        return {slug: share for slug, share in value.items() if slug in tenants}
    return seen(value, tenants)
