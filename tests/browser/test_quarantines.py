"""Profile quarantines in real Chromium: put one there by hand, see it marked, release it."""

from typing import Any

import pytest
from playwright.sync_api import expect

from routing.bundle import forget_bundle
from routing.models import ProfileQuarantine
from tests.browser.conftest import Console
from tests.browser.test_governing import look, open_panel, told
from tests.overrides.people import REASON
from tests.routing.scenes import ranked_scope

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]


def test_a_profile_goes_into_quarantine_by_hand_and_out_again(console: Console, settings: Any) -> None:
    settings.BUNDLE_REFRESH_SECONDS = 0
    ranked_scope()
    forget_bundle()
    page = console.page
    console.open("/admin/center/telemetry/")
    expect(page.locator("#quarantines")).to_contain_text("No profile is in quarantine")
    open_panel(page, "#put-quarantine")
    page.select_option("#quarantine-profile", "cheap")
    page.fill("#quarantine-reason", REASON)
    page.click(".panel button.danger")
    expect(page.locator("#e-quarantine-confirm")).to_contain_text("type cheap to confirm it")
    assert page.input_value("#quarantine-reason") == REASON
    # The browser tells every 400.
    assert ["400" in one for one in console.complaints] == [True]
    console.complaints.clear()
    page.fill("#quarantine-confirm", "cheap")
    look(console, "panel")
    page.click(".panel button.danger")
    told(page, "cheap is in quarantine.")
    expect(page.locator("#quarantines li")).to_contain_text("by_hand")
    expect(page.locator("#slot-quarantines .panel")).to_have_count(0)
    look(console, "list")

    row = ProfileQuarantine.objects.get()
    open_panel(page, f"#release-{row.pk}")
    page.fill("#quarantine-reason", "it was another one")
    page.click(".panel button[type=submit]")
    told(page, "cheap is released.")
    expect(page.locator("#quarantines li .badge").first).to_have_text("closed")
