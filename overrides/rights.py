"""The verb that changing each kind of object takes, over the API and on pages."""

from catalog.access import Caller

#: Object type, as in the audit log, to verb. The last two verbs are people's only, and hold for all tenants.
VERB_OF = {
    "override": "override",
    "kill_switch": "override",
    "persona": "personas",
    "flag": "flags",
    "rollout": "flags",
    "tenant": "catalogue",
    "modelprofile": "catalogue",
    "pricerevision": "catalogue",
    "scopedefault": "catalogue",
    "servicekey": "access",
    "user": "access",
    "group": "access",
}


def needed(who: Caller, kind: str, tenant: str | None) -> tuple[str, str | None] | None:
    """What somebody lacks to change an object of this kind that belongs to the tenant (None: to all): the verb, and the
    tenant that it is lacking at (None: at all of them, which takes 'global_scope' for verbs of tenants). None: nothing.
    The kind must be one of ``VERB_OF``."""
    verb = VERB_OF[kind]
    if verb in ("catalogue", "access"):
        return None if who.may(verb, None) else (verb, None)
    held = who.may(verb, tenant) and (tenant is not None or who.may("global_scope", None))
    return None if held else (verb, tenant)
