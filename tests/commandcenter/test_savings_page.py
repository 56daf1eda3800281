"""The savings ledger on its page: what is proved, what is not, what it may have harmed, and what is missing."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from commandcenter.savings import rows_of
from commandcenter.views import savings as view
from routing.bundle import forget_bundle
from routing.savings import savings
from routing.savings_report import Entry
from telemetry.arm_sums import Arm, ArmDay
from telemetry.clickhouse import ClickHouse
from tests import factories
from tests.commandcenter.test_flags import words
from tests.overrides.people import someone
from tests.routing.arms import rows, store, sums
from tests.routing.scenes import flip, ranked_scope
from tests.telemetry.engines import CHDB

pytestmark = pytest.mark.django_db
PAGE = "/admin/center/savings/"
ONE_ENGINE = pytest.mark.parametrize("clickhouse_url", [CHDB], indirect=True)
Budget = Callable[..., AbstractContextManager[Any]]

DEAR, CHEAP = [(1, 0.04), (1, 0.05)], [(1, 0.01), (1, 0.02)]


def today(back: int = 0) -> datetime:
    return timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=back)


@pytest.fixture
def scene() -> None:
    factories.tenant("borealis")
    ranked_scope(holdout_share=Decimal("0.05"))


def saved(back: int = 0, tenant: str = "aurora") -> list[ArmDay]:
    """3 dollars saved on a day: 67% of what the default would have cost."""
    return rows(sums(DEAR * 20), sums(CHEAP * 50), day=today(back), tenant=tenant)


@ONE_ENGINE
def test_what_was_saved_a_day_with_its_interval(
    scene: None, admin_client: Client, door: ClickHouse, django_assert_max_num_queries: Budget
) -> None:
    store(door, [*saved(), *saved(1), *saved(40)])
    admin_client.get(PAGE)
    with django_assert_max_num_queries(12):
        page = words(admin_client.get(PAGE))
    told = re.search(r"Saved \$3.00 a day \[\$([0-9.]+), \$([0-9.]+)\]", page)
    assert told
    assert 2.5 < float(told[1]) < 3 < float(told[2]) < 3.5
    assert "66.7% [" in page
    assert "$6.00 [" in page
    assert page.count('<svg class="interval"') == 3  # two days, one scope
    assert 'aria-label="$3.00 a day, 95% interval' in page
    assert "no proven difference" in page  # success is the same
    assert "$9.00 [" in words(admin_client.get(PAGE, {"range": "90d"}))


@ONE_ENGINE
def test_what_cost_more_says_so_and_harm_stands_beside_a_saving(
    scene: None, admin_client: Client, door: ClickHouse
) -> None:
    store(door, rows(sums(CHEAP * 20), sums(DEAR * 50), day=today()))
    page = words(admin_client.get(PAGE))
    assert re.search(r"Cost \$3.00 more on one day \[\$2\.\d+, \$3\.\d+\]", page)
    assert "cost more</span>" in page
    store(door, rows(sums(DEAR * 20), sums(CHEAP * 50, [1, 0] * 50), "code", today(1), "borealis"))
    page = words(admin_client.get(PAGE, {"tenant": "borealis"}))
    assert "Saved $3.00 on one day" in page
    assert "success is proved to be worse" in page
    assert 'id="total-title" class="warn"' in page
    assert re.search(r"-50.0 points \[-5\d\.\d, -\d\d\.\d\]", page)


@ONE_ENGINE
def test_without_enough_data_it_says_how_much_there_is(
    scene: None, admin_client: Client, door: ClickHouse
) -> None:
    store(door, rows(sums(DEAR * 6), sums(CHEAP * 50), day=today()))
    page = words(admin_client.get(PAGE))
    assert "Not enough data: 12 of 30 holdout conversations." in page
    assert 'class="interval"' not in page
    assert "Saved $" not in page
    store(door, rows(sums(DEAR * 6), sums(CHEAP), day=today(), tenant="borealis"))
    page = words(admin_client.get(PAGE, {"tenant": "borealis"}))
    assert "12 of 30 holdout conversations and 2 of 30 selected for" in page


@ONE_ENGINE
def test_empty_it_names_the_next_step(scene: None, admin_client: Client, door: ClickHouse) -> None:
    assert "A comparison takes 30 conversations in each arm" in words(admin_client.get(PAGE))
    factories.persona().__class__.objects.update(holdout_share=0)
    forget_bundle()
    assert "Set a persona's holdout share" in words(admin_client.get(PAGE)).replace("&#x27;", "'")
    flip(0)
    assert "Turn the flag on" in words(admin_client.get(PAGE))
    outside = ArmDay(today(), "aurora", "essayist", "essay", Arm.OUTSIDE, sums([(1, 0.02)] * 7))
    store(door, [outside])
    page = words(admin_client.get(PAGE))
    assert "Turn the flag on" in page
    assert re.search(r"completions outside: flag off, overrides, kill switch </dt> <dd> 7", page)


@ONE_ENGINE
def test_people_of_one_tenant_see_that_tenant_s(scene: None, door: ClickHouse) -> None:
    store(door, [*saved(), *saved(0, "borealis")])
    vera = someone("vera", at={"aurora": "viewer"})
    page = words(vera.get(PAGE))
    assert "aurora × essayist" in page
    assert "borealis" not in page
    assert "$3.00 [" in page
    assert vera.get(PAGE, {"tenant": "borealis"}).status_code == 404
    assert vera.get(PAGE, {"tenant": "nowhere"}).status_code == 404
    assert vera.get(PAGE, {"persona": "nobody"}).status_code == 404


@ONE_ENGINE
def test_the_csv_of_the_page_holds_the_same(scene: None, admin_client: Client, door: ClickHouse) -> None:
    store(door, [*saved(), *saved(0, "borealis"), *saved(40)])
    page = admin_client.get(PAGE, {"tenant": "aurora"}).content.decode()
    link = re.search(r'href="(/api/v1/savings\?[^"]+)"', page)
    assert link
    answer = admin_client.get(link[1].replace("&amp;", "&"))
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    header, line = answer.content.decode().splitlines()
    assert header.startswith("from,to,tenant,persona,verdict,saved_usd,")
    assert line.split(",")[2:6] == ["aurora", "essayist", "saved", "3.000000000"]


@ONE_ENGINE
def test_too_much_for_a_page_is_said(
    scene: None, admin_client: Client, door: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(door, [*saved(), *saved(1)])
    monkeypatch.setattr(view, "_MOST_ROWS", 3)
    assert "too much for a page" in words(admin_client.get(PAGE))


def test_it_stands_while_clickhouse_is_away(scene: None, admin_client: Client) -> None:
    page = words(admin_client.get(PAGE, {"range": "nonsense"}))
    assert "ClickHouse cannot be asked now" in page
    assert "How this is computed" in page


def test_bars_share_one_scale_and_zero_stands_in_the_middle() -> None:
    gain, loss = savings(saved()), savings(rows(sums(CHEAP * 20), sums(DEAR * 50), day=today()))
    none = savings([])
    entries = [Entry("a", "p", None, one) for one in (gain, loss, none)]
    up, down, nothing = rows_of(entries)
    assert up.bar
    assert down.bar
    assert nothing.bar is None
    assert (up.bar.zero, down.bar.zero) == ("100.0", "100.0")
    assert 100 < float(up.bar.lower) < float(up.bar.value) < float(up.bar.upper) <= 196
    assert 4 <= float(down.bar.lower) < float(down.bar.value) < float(down.bar.upper) < 100
    assert min(float(down.bar.lower), 200 - float(up.bar.upper)) == pytest.approx(4)
