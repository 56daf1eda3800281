"""The savings ledger with figures in it, in Chromium: readable in both themes, within 320 px, and by axe."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect
from pytest_django.fixtures import Settings

from telemetry.clickhouse import ClickHouse, close_clickhouse, get_clickhouse
from telemetry.clickhouse_migrations import runner
from tests.browser.conftest import Console
from tests.browser.test_every_page import _nothing_serious
from tests.routing.arms import rows, store, sums
from tests.routing.scenes import ranked_scope
from tests.telemetry.engines import chdb_url, database_at, fresh_name

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.django_db(transaction=True)]
PAGE = "/admin/center/savings/"


@pytest.fixture
def ledger(settings: Settings, _no_clickhouse: None) -> Iterator[ClickHouse]:
    settings.CLICKHOUSE_URL = chdb_url(fresh_name())
    close_clickhouse()
    with database_at(settings.CLICKHOUSE_URL) as opened:
        runner.migrate(opened)
        yield get_clickhouse()
        close_clickhouse()


def test_savings_losses_harm_and_too_little_data_side_by_side(console: Console, ledger: ClickHouse) -> None:
    ranked_scope()
    today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    dear, cheap = [(1, 0.04), (1, 0.05)], [(1, 0.01), (1, 0.02)]
    store(ledger, rows(sums(dear * 20), sums(cheap * 50, [1, 0] * 50), day=today))
    store(ledger, rows(sums(cheap * 20), sums(dear * 20), day=today - timedelta(days=1), tenant="borealis"))
    store(ledger, rows(sums(dear * 5), sums(cheap * 20), day=today - timedelta(days=2), tenant="cygnus"))
    page = console.page
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        console.open(PAGE)
        expect(page.locator(".savings-total h2")).to_contain_text("Saved $0.6000 a day")
        expect(page.locator("svg.interval")).to_have_count(4)
        _nothing_serious(console)
    page.set_viewport_size({"width": 320, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.get_by_role("link", name="aurora × essayist").click()
    expect(page).to_have_url(f"{console.url}{PAGE}?tenant=aurora&persona=essayist")
    expect(page.locator(".savings-total .breach")).to_contain_text("success is proved to be worse")
    page.go_back()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV by scope and day").click()
    assert download.value.suggested_filename.startswith("savings-")
    assert "cost_more" in download.value.path().read_text()
