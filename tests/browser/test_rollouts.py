"""Rollouts in real Chromium: started by keyboard after a preview, looked at at two widths and in both themes, rolled
back, resumed."""

import pytest
from playwright.sync_api import expect

from overrides.flags import read_flag
from routing.guarding.models import Rollout
from tests.browser.conftest import Console
from tests.browser.test_governing import look, told
from tests.commandcenter.test_rollouts_page import judged
from tests.overrides.people import REASON
from tests.routing.scenes import flip, ranked_scope

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.django_db(transaction=True)]
PAGE = "/admin/center/rollouts/"


@pytest.fixture
def center(console: Console) -> Console:
    ranked_scope()
    flip(0)
    return console


def test_a_rollout_is_started_by_keyboard_looked_at_rolled_back_and_resumed(center: Console) -> None:
    page = center.page
    center.open(PAGE)
    expect(page.get_by_text("No rollout is under way, and none ever was.")).to_be_visible()
    page.focus("#open-start")
    page.keyboard.press("Enter")
    expect(page.locator("#title-rollout")).to_be_focused()
    look(center, "rollouts-start")
    page.keyboard.press("Escape")
    expect(page.locator("#open-start")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_label("Tenant", exact=True).fill("aurora")
    page.get_by_label("Persona").select_option("essayist")
    expect(page.locator("#preview-rollout")).to_contain_text("1 scope changes, 1 switch profile")
    page.get_by_label("Why").fill(REASON)
    page.keyboard.press("Enter")
    told(page, "Rollout of aurora/essayist started.")
    expect(page.locator("section.rollout")).to_contain_text("the first look at its evidence")
    assert read_flag().scopes == {"aurora": {"essayist": 1.0}}
    row = Rollout.objects.get()
    judged(row)
    center.open(PAGE)
    expect(page.locator("svg.bounds")).to_have_count(1)
    look(center, "rollouts")
    page.get_by_role("button", name="Roll back… aurora × essayist").click()
    expect(page.locator("#title-rollout")).to_be_focused()
    page.get_by_label("Why").fill(REASON)
    page.get_by_role("button", name="Roll back", exact=True).click()
    told(page, "the flag is off there")
    expect(page.locator(f"#rollout-{row.pk} .badge")).to_have_text("rolled back")
    assert read_flag().scopes == {"aurora": {"essayist": 0.0}}
    page.get_by_role("button", name="Resume… aurora × essayist").click()
    page.get_by_label("Why").fill(REASON)
    page.get_by_role("button", name="Resume", exact=True).click()
    told(page, "resumed")
    expect(page.locator(f"#rollout-{row.pk} .badge")).to_have_text("running")
