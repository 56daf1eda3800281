"""A change as what policy would be after it, for the preview."""

from collections.abc import Callable
from typing import Any

from overrides import services
from overrides.changes import Change
from overrides.flags import FlagRow, read_flag
from overrides.precedence import Hypothetical
from overrides.previewing import Proposal
from overrides.states import State

Proposer = Callable[[Change, State], Proposal]

_OTHERS: dict[str, Proposer] = {}


def register(kind: str, proposer: Proposer) -> None:
    """Tell what changes of another kind make of policy; see ``changes.register``."""
    _OTHERS[kind] = proposer


def proposal_of(change: Change, after: State) -> Proposal:
    """``after``: the object's state once the change is made (``changes.rehearse``)."""
    if change.kind in _OTHERS:
        return _OTHERS[change.kind](change, after)
    if change.object_type == "override":
        return _override(change, after)
    if change.kind == "kill_switch":
        return Proposal(kill_switch={after["tenant"]: after["on"]})
    if change.kind == "persona":
        return Proposal(personas={after["slug"]: change.wanted["set"]})
    if change.kind == "flag":
        return Proposal(flag=_flag(after))
    return Proposal()


def _override(change: Change, after: State) -> Proposal:
    number = int(change.target) if change.target else None
    remove = frozenset({number}) if number is not None else frozenset()
    if after["revoked_at"]:
        return Proposal(remove=remove)
    return Proposal(remove=remove, add=(Hypothetical.of(services.wish_of(after), number),))


def _flag(after: dict[str, Any]) -> FlagRow:
    now = read_flag(after["name"])
    return FlagRow(
        everyone=after["everyone"],
        percent=float(after["rollout_percent"]),
        tenants={slug: float(percent) for slug, percent in after["tenants"].items()},
        salt=now.salt,
        scopes={
            tenant: {persona: float(percent) for persona, percent in shares.items()}
            for tenant, shares in after["scopes"].items()
        },
    )
