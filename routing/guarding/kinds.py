"""Starting and resuming a rollout as changes that can be rehearsed, previewed and approved by somebody else."""

from datetime import datetime
from typing import Any

from overrides import changes, proposing
from overrides.audit import Actor
from overrides.changes import Change, Touched
from overrides.flags import read_flag
from overrides.previewing import Proposal
from overrides.settings import Missing
from overrides.states import State
from routing.guarding import services
from routing.guarding.models import Rollout
from routing.guarding.scopes import row_with_share
from routing.guarding.services import Wish

START, RESUME = "rollout.start", "rollout.resume"


def register() -> None:
    """Once, when the apps are ready."""
    changes.register(START, _start, _wished)
    changes.register(RESUME, _resume, _existing)
    for kind in (START, RESUME):
        proposing.register(kind, _proposal)


def to_start(wish: Wish) -> Change:
    wanted = {"tenant": wish.tenant, "persona": wish.persona, "plan": dict(wish.plan), "step": wish.step}
    return Change(START, "", wanted, wish.reason)


def to_resume(pk: int, version: int, step: int | None, reason: str) -> Change:
    return Change(RESUME, str(pk), {"version": version, "step": step}, reason)


def _start(change: Change, actor: Actor, now: datetime) -> State:
    wanted: dict[str, Any] = change.wanted
    wish = Wish(wanted["tenant"], wanted["persona"], change.reason, wanted["plan"], wanted["step"])
    return services.describe(services.start(wish, actor, now))


def _wished(change: Change) -> Touched:
    return Touched(None, [(change.wanted["tenant"], change.wanted["persona"])])


def _resume(change: Change, actor: Actor, now: datetime) -> State:
    wanted = change.wanted
    done = services.resume(int(change.target), wanted["version"], wanted["step"], change.reason, actor, now)
    return services.describe(done)


def _existing(change: Change) -> Touched:
    row = Rollout.objects.select_related("tenant", "persona").filter(pk=int(change.target)).first()
    if row is None:
        raise Missing("There is no such rollout.")
    return Touched(services.describe(row), [services.scope_of(row)])


def _proposal(change: Change, after: State) -> Proposal:
    return Proposal(flag=row_with_share(read_flag(), after["tenant"], after["persona"], after["share"]))
