"""The scope page, decisions and providers in real Chromium: charts are drawn, explanations open, nothing is broken."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.fixtures import Settings

from routing.bundle import forget_bundle
from routing.models import Selection
from telemetry import spool
from telemetry.clickhouse import close_clickhouse, get_clickhouse
from telemetry.clickhouse_migrations import runner
from telemetry.rollups import roll_up_dirty
from tests import factories
from tests.browser.conftest import Console
from tests.overrides.people import call
from tests.routing.scenes import ASKED, ranked_scope
from tests.telemetry.engines import chdb_url, database_at, fresh_name
from tests.telemetry.pipeline import run_pipeline

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]
SCOPE = "/admin/center/scopes/aurora/essayist/"
HOUR = timedelta(hours=1)


def calls(profile: str, cost: str, latency_ms: int) -> list[dict[str, Any]]:
    now = timezone.now()
    return [
        factories.event(
            profile=profile,
            occurred_at=(now - HOUR * (number % 20)).isoformat(),
            cost_usd=cost,
            success=number % (7 if profile == "cheap" else 5) > 0,
            latency_ms=latency_ms + 40 * (number % 11),
        )
        for number in range(120)
    ]


@pytest.fixture
def scope(console: Console, settings: Settings) -> Iterator[Console]:
    """aurora x essayist with a day of completions, scores, and three decisions."""
    ranked_scope()
    url = chdb_url(fresh_name())
    settings.CLICKHOUSE_URL = url
    close_clickhouse()
    with database_at(url) as door:
        runner.migrate(door)
        events = [*calls("incumbent", "0.02", 900), *calls("cheap", "0.002", 2000)]
        run_pipeline(get_clickhouse(), events, timezone.now())
        assert spool.backlog().events == 0
        assert roll_up_dirty(get_clickhouse(), timezone.now) == 0
        forget_bundle()
        decide(3)
        yield console
        # What the page asks for by itself shall not find the database gone.
        console.page.goto("about:blank")
        close_clickhouse()


def decide(count: int) -> None:
    key = factories.key("select")
    for number in range(count):
        asked = {**ASKED, "conversation_id": f"talk-{number}"}
        assert call(Client(), "post", "/selections", asked, key).status_code == 200


def opened(console: Console, query: str = "") -> Page:
    console.open(SCOPE + query)
    console.page.wait_for_selector(".chart canvas")
    console.page.wait_for_selector("#decisions-title")
    return console.page


def inked(page: Page) -> list[int]:
    """How many pixels of each chart are drawn on."""
    found: list[int] = page.evaluate(
        """() => [...document.querySelectorAll(".chart canvas")].map((canvas) => {
          const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          let inked = 0;
          for (let at = 3; at < data.length; at += 4) if (data[at]) inked += 1;
          return inked;
        })"""
    )
    return found


def serious(page: Page) -> list[Any]:
    found = Axe().run(page).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


def width(page: Page) -> int:
    """Of what stands in the page below the header, in pixels."""
    wide: int = page.evaluate("document.getElementById('content').scrollWidth")
    return wide


def test_three_charts_are_drawn_and_a_line_can_be_taken_out(scope: Console) -> None:
    page = opened(scope)
    full = inked(page)
    assert len(full) == 3
    assert min(full) > 500
    page.uncheck("input[data-line='1']")
    page.wait_for_timeout(100)
    assert all(less < more for less, more in zip(inked(page), full, strict=True))
    page.hover(".chart[data-metric=cost] .u-over", position={"x": 60, "y": 50})
    expect(page.locator(".readout").first).to_contain_text("(n=")
    assert "cheap $0.00200" in page.locator(".readout").first.inner_text()
    assert "incumbent" not in page.locator(".readout").first.inner_text()


def test_charts_follow_the_theme(scope: Console) -> None:
    page = opened(scope)

    def ink() -> str:
        drawn: str = page.evaluate("document.querySelector('.chart canvas').toDataURL()")
        return drawn

    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.wait_for_timeout(200)
    light = ink()
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(200)
    assert ink() != light


def test_the_range_is_in_the_address_and_the_back_button_works(scope: Console) -> None:
    page = opened(scope)
    page.click("text=7 days")
    expect(page.locator(".ranges [aria-current]")).to_have_text("7 days")
    assert page.url.endswith("?range=7d")
    page.go_back()
    expect(page.locator(".ranges [aria-current]")).to_have_text("24 hours")
    page.wait_for_selector(".chart canvas")
    expect(page.locator("h1")).to_have_count(1)
    opened(scope, "?range=7d")
    expect(page.locator(".ranges [aria-current]")).to_have_text("7 days")


def test_why_opens_below_its_decision_and_escape_gives_the_focus_back(scope: Console) -> None:
    page = opened(scope)
    row = Selection.objects.order_by("-pk")[0]
    expect(page.locator(".decisions > li")).to_have_count(3)
    page.click(f"#why-{row.decision_id}")
    panel = page.locator(f"#explained-{row.decision_id} [data-open-panel]")
    expect(panel).to_contain_text("Why cheap?")
    expect(panel).to_contain_text("equal, byte for byte")
    expect(page.locator(f"[id='told-{row.decision_id}']")).to_be_focused()
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(page.locator(f"[id='why-{row.decision_id}']")).to_be_focused()


def test_an_open_explanation_stays_while_new_decisions_come(scope: Console) -> None:
    page = opened(scope)
    row = Selection.objects.order_by("-pk")[0]
    page.click(f"#why-{row.decision_id}")
    page.wait_for_selector(".decisions [data-open-panel]")
    decide(5)
    page.wait_for_timeout(11_000)
    expect(page.locator(".decisions [data-open-panel]")).to_have_count(1)
    page.keyboard.press("Escape")
    page.locator(".decisions", has_text="talk-4").wait_for(timeout=12_000)


def test_a_permalink_has_the_decision_and_its_json_can_be_copied(scope: Console) -> None:
    page = opened(scope)
    page.locator(".decisions .actions a").first.click()
    page.wait_for_selector("h1:has-text('Decision')")
    page.click("summary:has-text('As JSON')")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("[data-copies]")
    expect(page.locator("[data-copies]")).to_have_text("Copied")
    assert '"candidates_sha256"' in page.evaluate("navigator.clipboard.readText()")


def test_an_override_is_made_here_and_the_page_follows(scope: Console) -> None:
    page = opened(scope)
    page.click("#override-scope-aurora-essayist")
    page.wait_for_selector(".panel [name=profile]")
    page.check(".panel [name=profile][value=incumbent]")
    page.wait_for_selector(".preview .diff")
    page.fill(".panel form input[name=reason]:not([id^=why])", "the cheap one went mad")
    # It has all of the traffic.
    page.fill(".panel [name=confirm]", "aurora/essayist")
    page.click(".panel button:has-text('Apply')")
    page.locator(".toast", has_text="is in effect").wait_for()
    expect(page.locator(".standing")).to_contain_text("decides now")
    expect(page.locator("#live .activity")).to_contain_text("the cheap one went mad")
    expect(page.locator("#candidates tr.given th")).to_contain_text("incumbent")
    assert page.locator("#counts").is_hidden()
    page.locator(".toast button", has_text="Undo").click()
    page.locator(".toast", has_text="Taken back").wait_for()
    expect(page.locator("#standing-title + p")).to_contain_text("the machine decides here")


def test_the_candidate_table_scrolls_by_the_keyboard_and_keeps_its_place(scope: Console) -> None:
    page = opened(scope)
    page.set_viewport_size({"width": 820, "height": 800})
    region = page.locator("[aria-label='Table of candidates']")
    region.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    moved = region.evaluate("node => node.scrollLeft")
    assert moved > 0
    page.evaluate("document.body.dispatchEvent(new CustomEvent('cards-changed'))")
    page.wait_for_load_state("networkidle")
    assert region.evaluate("node => node.scrollLeft") == moved


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_inaccessible_and_nothing_is_cut_off(scope: Console, theme: str) -> None:
    page = opened(scope)
    decision = page.locator(".decisions .actions a").first.get_attribute("href")
    assert decision
    for address in (SCOPE, decision, "/admin/center/providers/"):
        scope.open(address)
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        if address == SCOPE:
            page.wait_for_selector(".chart canvas")
            page.wait_for_selector(".decisions button")
            page.locator(".decisions button").first.click()
            page.wait_for_selector(".decisions [data-open-panel]")
        page.mouse.move(0, 0)
        for wide in (1440, 320):
            page.set_viewport_size({"width": wide, "height": 900})
            page.wait_for_timeout(200)
            name = address.strip("/").split("/")[2]
            page.screenshot(path=f"/tmp/{name}-{wide}-{theme}.png", full_page=True)
            assert serious(page) == [], (address, wide)
            assert width(page) <= wide, (address, wide)


def test_providers_lead_to_what_breaks_and_from_there_to_the_scope(scope: Console) -> None:
    page = scope.page
    scope.open("/admin/center/providers/")
    expect(page.locator("#chosen-title")).to_have_text("If openai dies")
    expect(page.locator("#providers")).to_contain_text("nobody")
    page.click("tr[data-row] a")
    page.wait_for_selector("h1:has-text('aurora × essayist')")
