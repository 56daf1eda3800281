"""Who may change what, for the pages that change anything of any kind: the verb that each kind of object takes."""

from catalog.access import Caller
from overrides.api.requests import VERBS

#: Kinds that only people change; the API's undo keeps the same.
_PEOPLES = {
    "tenant": "catalogue",
    "modelprofile": "catalogue",
    "pricerevision": "catalogue",
    "scopedefault": "catalogue",
    "servicekey": "access",
    "user": "access",
    "group": "access",
}
VERB_OF = {**_PEOPLES, **VERBS}


def missing(who: Caller, kind: str, tenant: str | None) -> str | None:
    """What somebody lacks to change an object of this kind that belongs to the tenant (None: to all); None: nothing."""
    verb = VERB_OF.get(kind)
    if verb is None:
        return "This cannot be changed from here."
    if verb in ("catalogue", "access"):
        return None if who.may(verb, None) else f"This takes the right “{verb}” at all tenants."
    if tenant is not None:
        return None if who.may(verb, tenant) else f"This takes the right “{verb}” at {tenant}."
    if who.may(verb, None) and who.may("global_scope", None):
        return None
    return f"This takes the rights “{verb}” and “all tenants at once”."
