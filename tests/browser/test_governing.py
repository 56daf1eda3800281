"""Flags, kill switch, change requests, audit log, telemetry and conversations in real Chromium: done, undone, refused,
looked at at two widths and in both themes."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from catalog.models import Tenant
from overrides import approvals, services
from overrides.audit import Actor
from overrides.changes import Change
from overrides.flags import AUTO_MODEL_SELECTION, read_flag
from overrides.models import AuditEntry, ChangeRequest, KillSwitch, Override
from routing.bundle import forget_bundle
from telemetry.models import QuarantinedEvent
from tests import factories
from tests.browser.conftest import Console
from tests.browser.test_every_page import _nothing_serious
from tests.overrides.people import REASON, call
from tests.routing.scenes import ranked_scope

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]
CENTER = "/admin/center/"
XSS = "<img src=x onerror=\"document.title='owned'\">"
EVE = Actor("user:eve", "operator", "203.0.113.7", "request-42")


@pytest.fixture
def center(console: Console) -> Console:
    ranked_scope()
    factories.tenant("borealis")
    forget_bundle()
    return console


def told(page: Page, text: str) -> Locator:
    found = page.locator(".toast", has_text=text)
    found.wait_for()
    return found


def open_panel(page: Page, button: str) -> Locator:
    page.click(button)
    page.wait_for_selector("[data-open-panel][data-focused]")
    return page.locator("[data-open-panel]")


def look(console: Console, name: str) -> None:
    """Nothing serious by axe, and nothing wider than the screen, at two widths in both themes."""
    page = console.page
    for width, theme in ((1440, "light"), (1440, "dark"), (320, "light"), (320, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        page.wait_for_timeout(400)  # links change their colour slowly
        heard = list(console.complaints)
        _nothing_serious(console)
        _until_quiet(console)
        console.complaints[:] = heard
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
    page.set_viewport_size({"width": 1280, "height": 900})


def _until_quiet(console: Console) -> None:
    """What axe itself tries with inline styles is told late."""
    told = -1
    while told != len(console.complaints):
        told = len(console.complaints)
        console.page.wait_for_timeout(300)


def test_the_flag_is_flipped_after_a_preview_and_taken_back_from_the_toast(center: Console) -> None:
    page = center.page
    center.open(f"{CENTER}flags/")
    panel = open_panel(page, "#open-flag")
    expect(page.locator("h3:focus")).to_have_count(1)
    panel.locator("input[value=off]").check()
    panel.locator(".preview", has_text="2 switch profile").wait_for()
    look(center, "flag-panel")
    panel.locator("input[name=reason]").fill(REASON)
    panel.locator("input[name=confirm]").fill("something else")
    panel.locator("button[type=submit]").click()
    panel.locator(".errors", has_text="to confirm it").wait_for()
    center.complaints[:] = [one for one in center.complaints if "400" not in one]
    assert page.locator("input[name=reason]").input_value() == REASON
    page.locator("[data-open-panel] input[name=confirm]").fill(AUTO_MODEL_SELECTION)
    page.locator("[data-open-panel] button[type=submit]").dblclick()
    toast = told(page, f"{AUTO_MODEL_SELECTION} is off.")
    expect(page.locator("#governed .flag-big")).to_have_text("off")
    expect(page.locator("#state .flag-off")).to_have_text("off")
    expect(page.locator("[id='open-flag']")).to_be_focused()
    assert AuditEntry.objects.count() == 1
    look(center, "flag-toast")
    toast.locator("button", has_text="Undo").click()
    told(page, "is taken back")
    expect(page.locator("#governed .flag-big")).to_have_text("100% of conversations")
    assert read_flag().everyone is None


def test_everybody_is_stopped_by_typing_the_word_and_a_banner_stays(center: Console) -> None:
    page = center.page
    center.open(f"{CENTER}flags/#kill-switch")
    panel = open_panel(page, "#open-kill")
    panel.locator("input[name=reason]").fill(REASON)
    panel.locator("input[name=confirm]").fill("everybody")
    panel.locator("button[type=submit]").click()
    told(page, "is stopped for everybody")
    page.locator("#kill-banner", has_text="everybody").wait_for()
    page.locator("#open-kill", has_text="Let everybody go on").wait_for()
    look(center, "killed")
    told(page, "is stopped for everybody").locator("button", has_text="Undo").click()
    told(page, "is taken back")
    expect(page.locator("#kill-banner")).to_have_count(0)
    assert not KillSwitch.objects.get().on


def test_somebody_faster_is_shown_beside_ones_own(center: Console) -> None:
    page = center.page
    center.open(f"{CENTER}flags/")
    panel = open_panel(page, "#kill-aurora")
    services.set_kill_switch(
        "aurora", True, "carl was faster here", Actor("user:carl", "operator"), timezone.now()
    )
    panel.locator("input[name=reason]").fill(REASON)
    if panel.locator("input[name=confirm]").count():
        panel.locator("input[name=confirm]").fill("aurora")
    panel.locator("button[type=submit]").click()
    page.locator("[data-open-panel] .banner", has_text="Changed by user:carl").wait_for()
    look(center, "conflict")
    page.keyboard.press("Escape")
    expect(page.locator("[data-open-panel]")).to_have_count(0)
    expect(page.locator("[id='kill-aurora']")).to_be_focused()
    center.complaints[:] = [one for one in center.complaints if "409" not in one]


def test_a_search_for_a_tenant_is_a_deep_link_and_polling_leaves_it_alone(center: Console) -> None:
    page = center.page
    center.open(f"{CENTER}flags/")
    page.keyboard.press("/")
    expect(page.locator("[id='q']")).to_be_focused()
    page.keyboard.type("bor")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=bor**")
    expect(page.locator("#listed tbody tr")).to_have_count(1)
    page.fill("#q", "half typed")
    page.wait_for_timeout(11_000)
    assert page.input_value("#q") == "half typed"
    expect(page.locator("#listed tbody tr")).to_have_count(1)
    page.go_back()
    expect(page.locator("#listed tbody tr")).to_have_count(2)


def test_a_change_request_is_looked_at_approved_and_applied(center: Console) -> None:
    Tenant.objects.filter(slug="aurora").update(four_eyes=True)
    services.set_kill_switch("aurora", True, REASON, EVE, timezone.now())
    change = Change("kill_switch", "aurora", {"tenant": "aurora", "on": False}, REASON)
    row = approvals.propose(change, Actor("user:olga", "operator"), timezone.now())
    forget_bundle()
    page = center.page
    center.open(f"{CENTER}requests/")
    look(center, "requests")
    page.click(f"a:has-text('#{row.pk}')")
    page.locator("#would", has_text="1 switch profile").wait_for()
    assert page.locator("#do-apply").is_disabled()
    assert "Nobody else has approved it" in page.inner_text("#why-do-apply")
    look(center, "request")
    page.click("#do-approve")
    page.locator("#alerts .toast-error", has_text="10 characters").wait_for()
    center.complaints[:] = [one for one in center.complaints if "400" not in one]
    page.fill("#reason", "looked at the preview")
    page.click("#do-approve")
    told(page, "is approved")
    page.locator("#one", has_text="of this difference").wait_for()
    page.click("#do-apply")
    told(page, "the change is made")
    row.refresh_from_db()
    assert row.state == ChangeRequest.State.APPLIED
    assert not KillSwitch.objects.get().on


def _override(reason: str = REASON, actor: Actor = EVE) -> Override:
    now = timezone.now()
    wish = services.Wish("exclude", "cheap", reason, "aurora", "essayist", None, now + timedelta(hours=1))
    return services.create_override(wish, actor, now)


def test_an_entry_opens_is_undone_and_the_log_shows_it(center: Console) -> None:
    _override()
    page = center.page
    center.open(f"{CENTER}audit/?actor=user:eve")
    page.click("#entry-1 summary")
    panel = open_panel(page, "#undo-1")
    look(center, "audit")
    panel.locator("input[name=reason]").fill("it was a mistake")
    panel.locator("button[type=submit]").click()
    told(page, "Entry 1 is taken back")
    assert Override.objects.get().revoked_at
    page.click("a:has-text('Clear')")
    page.locator("#entry-2", has_text="undo override").wait_for()
    page.click("#verify button")
    page.locator("#verify", has_text="2 entries, all as they were written").wait_for()
    page.go_back()
    expect(page.locator("#entries li#entry-1")).to_have_count(1)


def test_all_that_somebody_did_is_taken_back_after_its_plan(center: Console) -> None:
    _override()
    services.set_kill_switch("borealis", True, REASON, EVE, timezone.now())
    page = center.page
    center.open(f"{CENTER}audit/undo?actor=user:eve&since=2026-01-01")
    page.locator("text=2 objects go back").wait_for()
    look(center, "undo-actor")
    page.fill("#reason", "her account was taken over")
    page.fill("#confirm", "user:eve")
    page.click("button:has-text('Take 2 objects back')")
    page.locator("text=2 of 2 objects are taken back").wait_for()
    look(center, "undone")
    assert not KillSwitch.objects.get().on


def test_the_export_is_downloaded_as_it_is_filtered(center: Console) -> None:
    _override()
    _override(actor=Actor("user:carl", "operator"))
    center.open(f"{CENTER}audit/?actor=user:carl")
    with center.page.expect_download() as coming:
        center.page.click("a:has-text('as NDJSON')")
    lines = Path(coming.value.path()).read_text().splitlines()
    assert len(lines) == 1
    assert "user:carl" in lines[0]


def test_telemetry_and_a_conversation_are_told(center: Console) -> None:
    body = {"tenant": "aurora", "persona": "essayist", "conversation_id": "c-1"}
    assert call(Client(), "post", "/selections", body, factories.key("select")).status_code == 200
    now: Any = timezone.now()
    QuarantinedEvent.objects.create(
        received_at=now, source="key:x", tenant="aurora", code="bad", detail=XSS, raw=XSS
    )
    page = center.page
    center.open(f"{CENTER}telemetry/")
    page.locator("#quarantine details summary").click()
    assert XSS in page.inner_text("#quarantine pre")
    look(center, "telemetry")
    # What is open stays open while it is asked again.
    page.wait_for_timeout(11_000)
    expect(page.locator("#quarantine details[open]")).to_have_count(1)
    center.open(f"{CENTER}conversations/")
    page.fill("#id", "c-1")
    page.keyboard.press("Enter")
    page.locator(".entries li", has_text="cheap").wait_for()
    look(center, "conversations")
    open_panel(page, ".entries button")
    page.locator("[data-open-panel]", has_text="Why cheap?").wait_for()
    page.keyboard.press("Escape")
    page.click("a:has-text('Permalink')")
    page.locator("h1", has_text="Decision").wait_for()


def test_hostile_text_is_inert_wherever_it_is_shown(center: Console) -> None:
    Tenant.objects.filter(slug="aurora").update(name=XSS)
    evil = Actor(f"user:{XSS}"[:160], "operator", "", XSS[:100])
    _override(XSS, evil)
    services.set_kill_switch("aurora", True, XSS, evil, timezone.now())
    change = Change("kill_switch", "aurora", {"tenant": "aurora", "on": False}, XSS)
    row = approvals.propose(change, evil, timezone.now())
    forget_bundle()
    page = center.page
    for path in ("flags/", "audit/", "requests/", f"requests/{row.pk}/", "conversations/?id=" + XSS):
        center.open(CENTER + path)
        page.wait_for_timeout(300)
        assert page.locator("img[src=x]").count() == 0, path
        assert page.title() != "owned", path
    center.open(f"{CENTER}audit/undo?actor={evil.name}&since=2026-01-01")
    expect(page.locator("img[src=x]")).to_have_count(0)
