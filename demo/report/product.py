"""The product that is reported on, in this process and its own folder, as `make run` has it; but what beat would run by
the clock is run between rounds of conversations, so that a round is decided by one snapshot. Needs Django set up."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.utils import timezone

from catalog.models import Persona, ServiceKey
from commandcenter.recorder import recorded
from config import embedded
from demo import timeline
from demo.catalogue import load_catalogue
from demo.catalogue import turn_on as turn_flag_on
from demo.load import replay
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import Flag
from routing.bundle import caught_up_bundle
from routing.tasks import publish_selections, update_savings, write_snapshot
from telemetry.clickhouse import close_clickhouse
from telemetry.tasks import drain_spool, roll_up_dirty_buckets

#: A little more than a day, so that the daily window is full.
HISTORY = timedelta(hours=24, minutes=10)


@dataclass(frozen=True, slots=True)
class Product:
    """Where it answers, with a key; and the completions of the history that it began with: how many, and US dollars."""

    url: str
    key: str
    began_at: datetime
    history: int
    history_usd: Decimal


@contextmanager
def product(holdout: Decimal, seed: int, say: Callable[[str], None]) -> Iterator[Product]:
    """Start it with the demo's catalogue and recorded history, the flag off."""

    embedded.prepare()
    load_catalogue()
    Persona.objects.update(holdout_share=holdout)
    # Which conversations are held out, and which explore, is drawn by it.
    Flag.objects.filter(name=AUTO_MODEL_SELECTION).update(salt=f"report-{seed}")
    _, key = ServiceKey.objects.create_key(
        name="report", verbs=list(ServiceKey.Verb.values), all_tenants=True
    )
    now = timezone.now()
    say("replaying a day of recorded outcomes")
    count = replay(now - HISTORY, now)
    cost = sum((Decimal(event["cost_usd"]) for event in timeline.events(now - HISTORY, now)), Decimal(0))
    say(f"{count:,} completions accepted, rolling them up")
    settle()
    with ExitStack() as running:
        # Last of all: what is open at the end is flushed and closed.
        running.callback(close_clickhouse)
        url = embedded.start_web(running, "127.0.0.1", 0)
        yield Product(url, key, now, count, cost)


def settle() -> None:
    """What beat runs all the time, until nothing waits: drain, roll up, score, publish decisions, sum up the arms."""
    while drain_spool():
        pass
    while roll_up_dirty_buckets():
        pass
    if write_snapshot() is None:
        raise RuntimeError("no snapshot could be written")
    publish_selections()
    update_savings()
    caught_up_bundle()


def turn_on() -> None:
    """Automatic selection for every conversation; in the audit log, as a command's change."""
    with recorded("report", "python -m demo.report"):
        turn_flag_on()
    caught_up_bundle()
