"""What somebody lacks to change something, in words for the pages."""

from catalog.access import Caller
from overrides.rights import VERB_OF, needed

__all__ = ["VERB_OF", "missing"]


def missing(who: Caller, kind: str, tenant: str | None) -> str | None:
    """What somebody lacks to change an object of this kind that belongs to the tenant (None: to all); None: nothing."""
    if kind not in VERB_OF:
        return "This cannot be changed from here."
    lacking = needed(who, kind, tenant)
    if lacking is None:
        return None
    verb, where = lacking
    if verb in ("catalogue", "access"):
        return f"This takes the right “{verb}” at all tenants."
    if where is not None:
        return f"This takes the right “{verb}” at {where}."
    return f"This takes the rights “{verb}” and “all tenants at once”."
