"""What a change of policy does: each scope that it touches, decided for a typical conversation before and after. Pure.

Typical is a conversation on the treated side of the flag where there is one, not held out (unless all are), not
exploring, and new: nothing keeps it with a last profile. Everything else is ``decide``'s.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from routing.engine import (
    Bundle,
    Outcome,
    Reason,
    SelectionProblem,
    SelectionRequest,
    Standing,
    outcome,
)
from routing.scoring import Scorecard


class Part(NamedTuple):
    """A part of all requests. Slugs; None: all."""

    tenant: str | None
    persona: str | None
    task: str | None = None


class Key(NamedTuple):
    """One scope; ``task`` None: every task that no override names there."""

    tenant: str
    persona: str
    task: str | None


@dataclass(frozen=True, slots=True)
class Side:
    """What a scope's conversations get: a profile and why, with its scorecard (None: no scores), or a problem."""

    profile: str | None
    reason: Reason | None
    override: int | None
    card: Scorecard | None
    problem: SelectionProblem | None = None

    @property
    def code(self) -> str | None:
        """The problem's code."""
        return self.problem.code if self.problem else None


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of a scope's conversations, 0 to 1: on the treated side of the flag, held out, exploring."""

    flag: float
    holdout: float
    exploration: float


@dataclass(frozen=True, slots=True)
class Change:
    """One scope before and after."""

    key: Key
    old: Side
    new: Side
    old_shares: Shares
    new_shares: Shares

    @property
    def is_felt(self) -> bool:
        """Whether anything comes out otherwise: profile, reason, problem, or for how many."""
        old = (self.old.profile, self.old.reason, self.old.code)
        new = (self.new.profile, self.new.reason, self.new.code)
        return old != new or self.old_shares != self.new_shares

    @property
    def switches(self) -> bool:
        """Whether a typical conversation gets another profile, or an answer instead of a problem, or the reverse."""
        return self.old.profile != self.new.profile


def typical(bundle: Bundle) -> Bundle:
    """The bundle by which ``decide`` gives what a typical conversation gets."""
    flag = bundle.flag
    whole = replace(
        flag,
        percent=_whole(flag.percent),
        tenants={slug: _whole(percent) for slug, percent in flag.tenants.items()},
        scopes={
            tenant: {persona: _whole(percent) for persona, percent in shares.items()}
            for tenant, shares in flag.scopes.items()
        },
    )
    personas = {
        slug: replace(
            persona, exploration_share=0.0, holdout_share=1.0 if persona.holdout_share >= 1 else 0.0
        )
        for slug, persona in bundle.personas.items()
    }
    standing = bundle.standing
    if standing.circuits.items:
        standing = replace(standing, circuits=standing.circuits.unprobed())
    return replace(bundle, flag=whole, personas=personas, standing=standing)


def _whole(percent: float) -> float:
    return 100.0 if percent > 0 else 0.0


def named_tasks(standings: Iterable[Standing]) -> dict[tuple[str | None, str | None], set[str]]:
    """The tasks that overrides name, by their tenant and persona."""
    found: dict[tuple[str | None, str | None], set[str]] = {}
    for standing in standings:
        for override in standing.overrides:
            if override.task is not None:
                found.setdefault((override.tenant, override.persona), set()).add(override.task)
    return found


def tasks_of(tasks: dict[tuple[str | None, str | None], set[str]], tenant: str, persona: str) -> set[str]:
    """The tasks that overrides name for a scope."""
    scopes = ((tenant, persona), (tenant, None), (None, persona), (None, None))
    return set().union(*(tasks.get(scope, ()) for scope in scopes)) if tasks else set()


def keys_of(
    parts: Iterable[Part],
    tenants: Iterable[str],
    personas: Iterable[str],
    tasks: dict[tuple[str | None, str | None], set[str]],
) -> list[Key]:
    """The scopes of these tenants and personas that lie in a part, each once, by task where an override names one."""
    all_tenants, all_personas = dict.fromkeys(tenants), dict.fromkeys(personas)
    found: dict[Key, None] = {}
    for part in set(parts):
        for tenant in _chosen(part.tenant, all_tenants):
            for persona in _chosen(part.persona, all_personas):
                found |= dict.fromkeys(_in_scope(part, tenant, persona, tasks))
    return list(found)


def _chosen(wanted: str | None, known: dict[str, None]) -> Iterable[str]:
    if wanted is None:
        return known
    return (wanted,) if wanted in known else ()


def _in_scope(
    part: Part, tenant: str, persona: str, tasks: dict[tuple[str | None, str | None], set[str]]
) -> Iterator[Key]:
    if part.task is not None:
        yield Key(tenant, persona, part.task)
        return
    yield Key(tenant, persona, None)
    for task in tasks_of(tasks, tenant, persona):
        yield Key(tenant, persona, task)


def compare(before: Bundle, after: Bundle, keys: Iterable[Key], at: datetime) -> list[Change]:
    """Each scope decided by both bundles, at the same time (UTC)."""
    old, new = typical(before), typical(after)
    return [
        Change(key, look(old, key, at), look(new, key, at), _shares(before, key), _shares(after, key))
        for key in keys
    ]


def look(bundle: Bundle, key: Key, at: datetime) -> Side:
    """What a scope's typical conversation gets by a bundle that ``typical`` made."""
    # No override can name the empty task, so it stands for all that none names.
    request = SelectionRequest(key.tenant, key.persona, "typical", at, task=key.task or "")
    try:
        given = outcome(bundle, request)
    except SelectionProblem as problem:
        return Side(None, None, None, None, problem)
    return Side(given.profile, given.reason, given.override, _card(given))


def _card(given: Outcome) -> Scorecard | None:
    cards = given.scores.scorecards if given.scores else ()
    return next((card for card in cards if card.profile == given.profile), None)


def _shares(bundle: Bundle, key: Key) -> Shares:
    persona = bundle.personas.get(key.persona)
    on = bundle.flag.share(key.tenant, key.persona)
    if persona is None:
        return Shares(on, 0.0, 0.0)
    return Shares(on, persona.holdout_share, persona.exploration_share)
