"""The what-if page in real Chromium: a weight is moved, a flip seen, the address shared, the change saved."""

from decimal import Decimal

import pytest
from playwright.sync_api import expect

from catalog.models import Persona
from overrides.models import AuditEntry
from routing import whatif_answer
from tests.browser.conftest import Console
from tests.browser.test_governing import look, told
from tests.overrides.people import REASON
from tests.routing.cases import totals
from tests.routing.scenes import ranked_scope, snapshot

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.django_db(transaction=True)]
PAGE = "/admin/center/whatif/?persona=essayist"


@pytest.fixture
def whatif(console: Console, monkeypatch: pytest.MonkeyPatch) -> Console:
    """cheap wins by its price; incumbent is ten times as fast."""
    ranked_scope(max_latency_p95_ms=5000)
    snapshot(incumbent=totals(cost="0.02", latency_ms=200), cheap=totals(cost="0.002", latency_ms=3000))
    completions = {("aurora", "essayist"): 1_000}
    monkeypatch.setattr(whatif_answer, "read_completions", lambda *_: completions)
    return console


def test_a_weight_is_moved_a_flip_seen_saved_and_taken_back(whatif: Console) -> None:
    page = whatif.page
    whatif.open(PAGE)
    page.locator("#outcome", has_text="Nothing is moved yet").wait_for()
    page.fill("#weight_latency", "0.7")
    expect(page.locator("#outcome .totals")).to_contain_text("1 of 1 scope")
    # The others share what is left as they did: 0.5 to 0.3.
    assert [page.input_value(f"#weight_{name}") for name in ("cost", "success", "latency")] == [
        "0.19",
        "0.11",
        "0.7",
    ]
    assert page.input_value("input[data-slides=weight_latency]") == "0.7"
    expect(page.locator("#outcome .would")).to_contain_text("incumbent")
    expect(page.locator("#outcome .totals")).to_contain_text("+$18.00")
    assert "weight_latency=0.7" in page.url
    assert "min_samples" not in page.url
    assert not AuditEntry.objects.exists()
    look(whatif, "what-if")

    page.reload()  # the address is the state
    expect(page.locator("#outcome .totals")).to_contain_text("1 of 1 scope")
    page.fill("#reason", REASON)
    page.locator("button", has_text="Save persona essayist").dblclick()
    toast = told(page, "Persona essayist is saved")
    expect(page.locator("#outcome")).to_contain_text("Nothing is moved yet")
    assert Persona.objects.get().weight_latency == Decimal("0.7")
    assert [entry.reason for entry in AuditEntry.objects.all()] == [REASON]
    assert page.url.endswith("?persona=essayist")
    toast.locator("button", has_text="Undo").click()
    told(page, "is taken back")
    assert Persona.objects.get().weight_latency == Decimal("0.2")
    expect(page.locator("#weight_latency")).to_have_value("0.2")  # what stands is shown anew


def test_the_slider_moves_the_field_and_a_box_takes_a_profile_out(whatif: Console) -> None:
    page = whatif.page
    whatif.open(PAGE)
    page.locator("input[data-slides=weight_latency]").fill("0.6")
    assert page.input_value("#weight_latency") == "0.6"
    expect(page.locator("#outcome .totals")).to_contain_text("1 of 1 scope")
    whatif.open(PAGE)
    page.uncheck("input[name=use][value=cheap]")
    expect(page.locator("#outcome .standings")).to_contain_text("1 → 0")
    assert "out=cheap" in page.url
    page.click("#outcome .would a")
    page.locator("h1", has_text="aurora × essayist").wait_for()
