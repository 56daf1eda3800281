"""One card per scope: what its conversations get now, why, and how that profile does. From the bundle in the process:
no database, no ClickHouse."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from catalog.tenancy import Tenants
from routing.comparing import Key, look, typical
from routing.engine import Bundle
from routing.gates import Verdict
from routing.scoring import Scorecard
from telemetry.freshness_state import state

#: What a scope's SLA is, best last in the order of attention.
MISSES, UNKNOWN, UNPROVEN, MEETS = "misses", "unknown", "unproven", "meets"
_ORDER = (MISSES, UNKNOWN, UNPROVEN, MEETS)
#: Decisions by the clock (expiry, staleness) are looked at again after so many seconds.
_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Card:
    """``override``: the number of the one that decides, if any. ``problem``: why nobody is given. Figures are the
    profile's in this scope over 24 h (p95: over 1 h where that is enough); None: unknown."""

    tenant: str
    persona: str
    profile: str | None
    reason: str | None
    override: int | None
    problem: str | None
    cost: Decimal | None
    success: float | None
    p95: float | None
    n: int
    borrowed: bool
    as_of: datetime | None
    freshness: str
    sla: str
    broken: tuple[str, ...]
    enough: bool

    @property
    def needs_attention(self) -> bool:
        return self.problem is not None or self.sla == MISSES

    @property
    def anchor(self) -> str:
        """A name that may stand in HTML and CSS."""
        return f"scope-{self.tenant}-{self.persona}".replace(".", "_")


def cards_of(bundle: Bundle, tenants: Tenants, at: datetime) -> Sequence[Card]:
    """Of every enabled tenant and persona that these tenants (None: all) may see. Kept for a few seconds."""
    slot = int(at.timestamp()) // _SECONDS
    key = (bundle.version, tenants, slot)
    with _lock:
        if _kept and _kept[0][0] == key:
            return _kept[0][1]
    # The clock of the slot, so that what is kept does not depend on who asked first.
    made = tuple(_make(bundle, tenants, at))
    with _lock:
        _kept[:] = [(key, made)]
    return made


_lock = threading.Lock()
_kept: list[tuple[tuple[str, Tenants, int], tuple[Card, ...]]] = []


def card_of(bundle: Bundle, tenant: str, persona: str, at: datetime) -> Card:
    """One scope's, now."""
    return _card(typical(bundle), tenant, persona, at)


def _make(bundle: Bundle, tenants: Tenants, at: datetime) -> Iterable[Card]:
    usual = typical(bundle)
    for tenant in bundle.tenants.values():
        if not tenant.enabled or (tenants is not None and tenant.slug not in tenants):
            continue
        for persona in bundle.personas.values():
            if persona.enabled:
                yield _card(usual, tenant.slug, persona.slug, at)


def _card(usual: Bundle, tenant: str, persona: str, at: datetime) -> Card:
    side = look(usual, Key(tenant, persona, None), at)
    scorecard = side.card
    scores = usual.scores(tenant, persona)
    as_of = scores.as_of if scores else None
    gates = scorecard.gates if scorecard else ()
    return Card(
        tenant=tenant,
        persona=persona,
        profile=side.profile,
        reason=side.reason.value if side.reason else None,
        override=side.override,
        problem=side.problem.detail if side.problem else None,
        cost=scorecard.cost_per_completion if scorecard else None,
        success=scorecard.success_rate if scorecard else None,
        p95=scorecard.latency_p95_ms if scorecard else None,
        n=scorecard.requests if scorecard else 0,
        borrowed=bool(scorecard and scorecard.borrowed),
        as_of=as_of,
        freshness=state(as_of, at).value,
        sla=sla_of(scorecard),
        broken=tuple(gate.sentence() for gate in gates if gate.verdict is not Verdict.PASS),
        enough=bool(scorecard and scores and scores.rules and scorecard.requests >= scores.rules.min_samples),
    )


def sla_of(card: Scorecard | None) -> str:
    """What a scorecard says of the SLA: misses, unknown, unproven or meets."""
    if card is None or not card.gates or card.requests == 0:
        return UNKNOWN
    verdicts = {gate.verdict for gate in card.gates}
    if Verdict.FAIL in verdicts:
        return MISSES
    return UNPROVEN if Verdict.UNPROVEN in verdicts else MEETS


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody filters and sorts by; empty: everything. ``q`` is looked for in tenant, persona and profile."""

    q: str = ""
    tenant: str = ""
    persona: str = ""
    reason: str = ""
    sla: str = ""
    overridden: bool = False
    sort: str = "attention"


SORTS = {
    "attention": "needs attention first",
    "name": "tenant, persona",
    "cost": "cost, highest first",
    "success": "success, lowest first",
    "p95": "p95, slowest first",
    "n": "completions, most first",
}


def chosen(cards: Iterable[Card], wanted: Wanted) -> list[Card]:
    """The cards that match, in order."""
    words = wanted.q.lower().split()
    found = [card for card in cards if _matches(card, wanted, words)]
    return sorted(found, key=lambda card: (*_rank(card, wanted.sort), card.tenant, card.persona))


def _matches(card: Card, wanted: Wanted, words: list[str]) -> bool:
    text = f"{card.tenant} {card.persona} {card.profile or ''}"
    return (
        all(word in text for word in words)
        and wanted.tenant in ("", card.tenant)
        and wanted.persona in ("", card.persona)
        and wanted.reason in ("", card.reason)
        and wanted.sla in ("", card.sla)
        and (not wanted.overridden or card.override is not None)
    )


def _rank(card: Card, sort: str) -> tuple[float, ...]:
    # Unknown comes last, whatever one sorts by.
    match sort:
        case "cost":
            return (card.cost is None, -float(card.cost or 0))
        case "success":
            return (card.success is None, card.success or 0.0)
        case "p95":
            return (card.p95 is None, -(card.p95 or 0.0))
        case "n":
            return (-card.n,)
        case "name":
            return ()
    return (not card.needs_attention, card.override is None, _ORDER.index(card.sla))
