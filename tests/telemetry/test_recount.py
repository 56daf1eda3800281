"""Roll-ups that do not add up to their raw events are found, wherever they are, and nothing else is."""

from datetime import timedelta

import pytest

from telemetry import recount
from telemetry.clickhouse import ClickHouse
from telemetry.models import DirtyBucket
from telemetry.rollups import floor
from tests.factories import NOW
from tests.telemetry.test_rollups import assert_equal_to_oracle, make_events, roll_up, send

pytestmark = pytest.mark.django_db
FIVE = timedelta(minutes=5)


def test_what_adds_up_is_left_alone(clickhouse: ClickHouse) -> None:
    events = make_events(300)
    send(clickhouse, events + events[:100])
    roll_up(clickhouse)
    assert [recount.recount(clickhouse, NOW + n * recount.EVERY, 5) for n in range(4)] == [0] * 4
    assert not DirtyBucket.objects.exists()


def test_events_that_came_behind_the_roll_ups_back_are_counted_within_the_days_turn(
    clickhouse: ClickHouse,
) -> None:
    events = make_events(600)
    send(clickhouse, events[:300])
    roll_up(clickhouse)
    send(clickhouse, events[300:])
    # As when a replica comes back: they are in ClickHouse, and nothing says so.
    DirtyBucket.objects.all().delete()
    assert sum(recount.recount(clickhouse, NOW + n * recount.EVERY, 5) for n in range(4)) > 200
    roll_up(clickhouse)
    assert_equal_to_oracle(clickhouse, events)


def test_the_last_hours_are_looked_at_in_every_run(clickhouse: ClickHouse) -> None:
    for turn in range(4):
        [event] = make_events(1, seed=turn + 10)
        event["occurred_at"] = (NOW - timedelta(minutes=10 * turn)).isoformat()
        send(clickhouse, [event])
        DirtyBucket.objects.all().delete()
        now = NOW + turn * recount.EVERY
        recount.recount(clickhouse, now, 5)
        assert floor(NOW - timedelta(minutes=10 * turn), FIVE) in DirtyBucket.objects.values_list(
            "start", flat=True
        )
        DirtyBucket.objects.all().delete()
