"""What breaks if a provider dies: each scope that uses it, decided for a worker that can reach none of its profiles.

From the bundle in the process: no database, no ClickHouse.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from catalog.tenancy import Tenants
from commandcenter.cards import MEETS, MISSES, UNKNOWN, UNPROVEN, Card, cards_of, sla_of
from routing.comparing import typical
from routing.engine import Bundle, SelectionProblem, SelectionRequest, outcome

#: The worst first. Nobody is worse than one that misses the SLA.
NOBODY = "nobody"
_ORDER = (NOBODY, MISSES, UNKNOWN, UNPROVEN, MEETS)
_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Loss:
    """A scope that a provider serves now, and what it would get without it. ``instead`` None: nobody, for ``problem``.
    ``sla``: nobody, misses, unknown, unproven or meets. ``cost`` is per completion in US dollars, ``cost_ratio`` its
    change as a share of today's (0.1: a tenth more). None: unknown."""

    card: Card
    instead: str | None
    reason: str | None
    problem: str | None
    sla: str
    broken: tuple[str, ...]
    cost: Decimal | None
    cost_ratio: float | None

    @property
    def passes(self) -> bool:
        """Whether what it would get is proved to meet every clause of the SLA."""
        return self.sla == MEETS

    @property
    def order(self) -> int:
        """The worst is 0."""
        return _ORDER.index(self.sla)


def losses_of(bundle: Bundle, tenants: Tenants, at: datetime) -> Mapping[str, Sequence[Loss]]:
    """By provider, of the scopes that these tenants (None: all) may see; every provider of the catalogue is there. Kept
    for a few seconds."""
    key = (bundle.version, tenants, int(at.timestamp()) // _SECONDS)
    with _lock:
        if _kept and _kept[0][0] == key:
            return _kept[0][1]
    made = _make(bundle, tenants, at)
    with _lock:
        _kept[:] = [(key, made)]
    return made


_lock = threading.Lock()
_kept: list[tuple[tuple[str, Tenants, int], Mapping[str, Sequence[Loss]]]] = []


def profiles_of(bundle: Bundle) -> dict[str, list[str]]:
    """The catalogue's profiles by provider, both by name."""
    found: dict[str, list[str]] = {}
    for profile in bundle.profiles.values():
        found.setdefault(profile.provider, []).append(profile.slug)
    return {provider: sorted(found[provider]) for provider in sorted(found)}


def _make(bundle: Bundle, tenants: Tenants, at: datetime) -> Mapping[str, Sequence[Loss]]:
    profiles = profiles_of(bundle)
    usual = typical(bundle)
    cards: dict[str, list[Card]] = {provider: [] for provider in profiles}
    for card in cards_of(bundle, tenants, at):
        if card.profile is not None:
            cards[bundle.profiles[card.profile].provider].append(card)
    return {
        provider: tuple(_losses(usual, cards[provider], tuple(profiles[provider]), at))
        for provider in profiles
    }


def _losses(usual: Bundle, cards: Iterable[Card], dead: tuple[str, ...], at: datetime) -> Iterable[Loss]:
    for card in cards:
        # Asked as a worker asks again after failures: a default or a lock that is dead gives way to the next in the
        # chain. Without its profiles in the catalogue both would be a 409, though another one could be given.
        request = SelectionRequest(card.tenant, card.persona, "typical", at, task="", exclude=dead)
        try:
            given = outcome(usual, request)
        except SelectionProblem as problem:
            yield Loss(card, None, None, _why_nobody(usual, card, dead, problem), NOBODY, (), None, None)
            continue
        scorecards = given.scores.scorecards if given.scores else ()
        found = next((one for one in scorecards if one.profile == given.profile), None)
        cost = found.cost_per_completion if found else None
        yield Loss(
            card=card,
            instead=given.profile,
            reason=given.reason.value,
            problem=None,
            sla=sla_of(found),
            broken=tuple(gate.sentence() for gate in found.gates if gate.verdict.value != "PASS")
            if found
            else (),
            cost=cost,
            cost_ratio=float(cost / card.cost) - 1 if cost is not None and card.cost else None,
        )


def _why_nobody(usual: Bundle, card: Card, dead: tuple[str, ...], problem: SelectionProblem) -> str:
    default = usual.default_profile(card.tenant, card.persona)
    if problem.code == "all_excluded" and default in dead:
        return f"The default, {default}, is gone too, and no other profile is proved to meet the SLA."
    return problem.detail
