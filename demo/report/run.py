"""One run: conversations with the flag off, then with it on, and everything read back from ClickHouse afterwards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil
from pathlib import Path

from django.utils import timezone

from catalog.models import Persona
from demo.catalogue import PERSONAS, TENANTS
from demo.report.calls import AFTER, BEFORE, Call, Rolled, read_calls, read_rolled
from demo.report.product import HISTORY, Product, product, settle, turn_on
from demo.report.traffic import Load, Talk, talks
from routing.logged.scope import Scope, Span
from routing.savings_report import Entry, Ledger, read_ledger
from telemetry.clickhouse import ClickHouse, get_clickhouse

#: The second part is decided in so many rounds, each by a snapshot that knows of the rounds before.
ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """``conversations`` with the flag off, and about as many that are selected for; ``holdout`` is the share of all
    conversations with the flag on that are kept on the default besides, 0 to below 1."""

    conversations: int
    holdout: Decimal
    seed: int
    speed: float

    @property
    def with_flag_on(self) -> int:
        return ceil(self.conversations / (1 - self.holdout))


@dataclass(frozen=True, slots=True)
class Found:
    """``reported`` is how many completions the worker reported, ``refused`` how much the service did not take;
    ``rolled`` is all that the roll-ups hold, the history included. ``delays_ms``: latencies measured less recorded."""

    wanted: Wanted
    began_at: datetime
    seconds: float
    calls: Sequence[Call]
    history: int
    history_usd: Decimal
    reported: int
    refused: int
    rolled: Rolled
    sources: Mapping[str, int]
    delays_ms: Sequence[float]
    ledger: Ledger
    defaults: Mapping[str, str]

    @property
    def adds_up(self) -> bool:
        """Whether roll-ups, raw events and what the worker was acknowledged are the same, to the last digit."""
        cost = sum((call.completion.cost_usd or Decimal(0) for call in self.calls), self.history_usd)
        count = self.history + len(self.calls)
        return self.rolled == Rolled(count, cost) and self.reported == len(self.calls)

    def savings(self) -> list[Entry]:
        """The ledger's entries, of all scopes together last."""
        total = Entry(None, None, None, self.ledger.total())
        return [*self.ledger.by_scope(), total]


def run(wanted: Wanted, folder: Path, say: Callable[[str], None], tick: Callable[[str, int], None]) -> Found:
    """Django is set up for ``folder``. ``tick`` is told the phase and how many conversations it has after each."""
    with product(wanted.holdout, wanted.seed, say) as running:
        worker = folder / "worker"
        worker.mkdir()
        load = Load(running.url, running.key, worker, wanted.speed, wanted.seed)
        try:
            _hold(load, talks(BEFORE, wanted.conversations, wanted.seed), 1, tick)
            turn_on()
            _hold(load, talks(AFTER, wanted.with_flag_on, wanted.seed), ROUNDS, tick)
            return _found(get_clickhouse(), wanted, running, load)
        finally:
            load.close()


def _hold(load: Load, all_talks: Sequence[Talk], rounds: int, tick: Callable[[str, int], None]) -> None:
    phase = "flag on" if rounds > 1 else "flag off"
    size = ceil(len(all_talks) / rounds)
    for first in range(0, len(all_talks), size):
        load.hold(all_talks[first : first + size], lambda: tick(phase, len(all_talks)))
        settle()


def _found(clickhouse: ClickHouse, wanted: Wanted, running: Product, load: Load) -> Found:
    now = timezone.now()
    span = Span.of(running.began_at, now + timedelta(seconds=1))
    scopes = [Scope(tenant, persona) for tenant in TENANTS for persona in PERSONAS]
    personas = Persona.objects.select_related("default_profile")
    return Found(
        wanted=wanted,
        began_at=running.began_at,
        seconds=(now - running.began_at).total_seconds(),
        calls=read_calls(clickhouse, scopes, span),
        history=running.history,
        history_usd=running.history_usd,
        reported=load.reported(),
        refused=load.refused(),
        rolled=read_rolled(clickhouse, running.began_at - HISTORY, now),
        sources=dict(load.sources),
        delays_ms=load.delays_ms(),
        ledger=read_ledger(clickhouse, span.start.date(), now.date(), tenants=None),
        defaults={persona.slug: persona.default_profile.slug for persona in personas},
    )
