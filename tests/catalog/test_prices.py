from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from catalog.directory import directory
from catalog.prices import Price, load_price_book
from tests import factories

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_price_is_per_thousand_tokens() -> None:
    price = Price(Decimal("0.005"), Decimal("0.015"), None)
    assert price.cost(2000, 1000, None) == Decimal("0.025")


def test_cached_tokens_are_part_of_the_prompt_and_cheaper_when_they_have_a_price() -> None:
    assert Price(Decimal(1), Decimal(0), Decimal("0.1")).cost(1000, 0, 400) == Decimal("0.64")
    assert Price(Decimal(1), Decimal(0), None).cost(1000, 0, 400) == Decimal(1)


def test_a_cost_is_kept_to_a_billionth_of_a_dollar() -> None:
    assert Price(Decimal("0.000036"), Decimal(0), None).cost(7, 0, None) == Decimal("0.000000252")


@pytest.mark.django_db
def test_the_price_in_force_is_the_newest_one_that_had_begun() -> None:
    profile = factories.profile()
    factories.price(profile, "1", valid_from=START)
    factories.price(profile, "2", valid_from=START + timedelta(days=10))
    book = load_price_book()

    def prompt_price(at: datetime) -> Decimal | None:
        price = book.in_force("gpt-5.4", at)
        return price.prompt_per_1k if price else None

    assert prompt_price(START - timedelta(seconds=1)) is None
    assert prompt_price(START) == 1
    assert prompt_price(START + timedelta(days=10, seconds=-1)) == 1
    assert prompt_price(START + timedelta(days=10)) == 2
    assert book.in_force("unknown", START) is None


@pytest.mark.django_db
def test_the_directory_is_read_again_only_after_a_change(django_assert_num_queries: object) -> None:
    factories.scope()
    first = directory()
    assert directory() is first
    factories.profile("new")
    assert "new" in directory().profiles
