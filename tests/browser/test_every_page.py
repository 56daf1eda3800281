"""Every page of the Command Center, in both themes and down to 320 px: nothing broken, nothing from elsewhere, nothing
that shuts people out."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from catalog.models import ModelProfile, Persona, Tenant
from commandcenter.tabs import TABS
from overrides import approvals, services
from overrides.audit import Actor
from overrides.changes import Change
from overrides.models import ChangeRequest
from routing.bundle import forget_bundle
from routing.guarding import services as rollouts
from routing.models import Selection
from telemetry.models import QuarantinedEvent
from tests import factories
from tests.browser.conftest import Console
from tests.commandcenter.test_rollouts_page import judged
from tests.overrides.people import REASON, call
from tests.routing.scenes import ranked_scope

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.django_db(transaction=True)]
SCOPE = {"tenant": "aurora", "persona": "essayist"}

#: Pages besides the tabs, and how their address is made.
OTHERS: dict[str, Callable[[], dict[str, Any]]] = {
    "center_scope": lambda: SCOPE,
    "center_bulk": dict,
    "center_request": lambda: {"pk": ChangeRequest.objects.get().pk},
    "center_selection": lambda: {"decision_id": Selection.objects.get().decision_id},
    "catalog_tenant_changelist": dict,
    "catalog_persona_changelist": dict,
    "catalog_modelprofile_add": dict,
    "catalog_servicekey_add": dict,
    "overrides_flag_changelist": dict,
    "auth_user_changelist": dict,
}
PAGES = [*(name for name, _ in TABS), *OTHERS]
QUERIES = {"center_bulk": "?all=1&profile=incumbent"}
#: Django admin's own pages scroll sideways within themselves on a narrow screen.
OWN = [name for name in PAGES if name == "overview" or name.startswith("center_")]


def world() -> None:
    """Something of everything that pages show."""
    ranked_scope()
    factories.price(factories.profile("cheap"))
    now = timezone.now()
    actor = Actor("user:olga", "operator")
    wish = services.Wish("exclude", "cheap", REASON, "aurora", None, None, now + timedelta(hours=1))
    services.create_override(wish, actor, now)
    services.set_kill_switch("aurora", True, REASON, actor, now)
    change = Change("kill_switch", "aurora", {"tenant": "aurora", "on": False}, REASON)
    approvals.propose(change, actor, now)
    row = rollouts.start(rollouts.Wish("aurora", "essayist", REASON, step=4), actor, now)
    judged(row)
    asked = {**SCOPE, "conversation_id": "c-1"}
    assert call(Client(), "post", "/selections", asked, factories.key("select")).status_code == 200
    forget_bundle()


def address(name: str) -> str:
    arguments = OTHERS[name]() if name in OTHERS else {}
    return reverse(f"admin:{name}", kwargs=arguments) + QUERIES.get(name, "")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shuts_nobody_out_in_either_theme(console: Console, name: str) -> None:
    world()
    for theme in ("light", "dark"):
        console.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        console.open(address(name))
        _nothing_serious(console)
    if name in ("overview", "center_scope"):
        for theme in ("dark", "light"):
            console.page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
            _while_overriding(console, theme)


def _while_overriding(console: Console, theme: str) -> None:
    page = console.page
    page.click("#override-scope-aurora-essayist")
    page.wait_for_selector("[data-open-panel]")
    page.check("input[name=profile][value=incumbent]")
    page.wait_for_load_state("networkidle")
    _nothing_serious(console)
    page.fill("form input[name=reason]:not([id^=why])", f"looking at the toast in the {theme}")
    if page.locator("input[name=confirm]").count():
        page.fill("input[name=confirm]", "aurora/essayist")
    page.click("button:has-text('Apply')")
    page.locator(".toast").first.wait_for()
    _nothing_serious(console)


def _nothing_serious(console: Console) -> None:
    assert _serious(console) == []


def _serious(console: Console) -> list[str]:
    heard = list(console.complaints)
    found = Axe().run(console.page).response["violations"]
    # Axe itself tries inline styles, and the policy refuses them.
    console.complaints[:] = heard
    return [
        f"{one['id']}: {node['target']} {node.get('failureSummary', '')}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]


MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_admin_s_own_pages_shut_nobody_out(console: Console, theme: str) -> None:
    world()
    console.page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    serious: list[str] = []
    for model in MODELS:
        path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        console.open(path)
        serious += [f"{path} {one}" for one in _serious(console)]
        if console.page.locator(".object-tools .addlink").count():
            console.open(f"{path}add/")
            serious += [f"{path}add/ {one}" for one in _serious(console)]
    assert serious == []


XSS = "<img src=x onerror=\"document.title='owned'\">"


def test_hostile_text_is_inert_on_every_page(console: Console) -> None:
    world()
    Tenant.objects.update(name=XSS)
    Persona.objects.update(name=XSS)
    ModelProfile.objects.update(name=XSS, model=XSS, provider=XSS[:60])
    now = timezone.now()
    wish = services.Wish("prefer", "cheap", XSS, "aurora", "essayist", None, now + timedelta(hours=1))
    services.create_override(wish, Actor(f"user:{XSS}", "operator", request_id=XSS), now)
    change = Change("kill_switch", "aurora", {"tenant": "aurora", "on": False}, XSS)
    approvals.propose(change, Actor(f"user:{XSS}", "operator"), now)
    QuarantinedEvent.objects.create(
        received_at=now, source=XSS[:80], tenant="aurora", code="invalid_field", detail=XSS, raw=XSS
    )
    asked = {**SCOPE, "conversation_id": XSS}
    assert call(Client(), "post", "/selections", asked, factories.key("select")).status_code == 200
    forget_bundle()
    queries = {
        "center_conversations": f"?q={quote(XSS)}&conversation={quote(XSS)}",
        "center_audit": f"?actor={quote(XSS)}",
    }
    for name in PAGES:
        arguments: dict[str, dict[str, Any]] = {
            "center_request": {"pk": ChangeRequest.objects.latest("pk").pk}
        }
        arguments["center_selection"] = {"decision_id": Selection.objects.latest("decided_at").decision_id}
        told = arguments.get(name) or (OTHERS[name]() if name in OTHERS else {})
        console.open(reverse(f"admin:{name}", kwargs=told) + QUERIES.get(name, queries.get(name, "")))
        console.page.wait_for_load_state("networkidle")
        assert console.page.title() != "owned", name
        assert console.page.locator("img[src=x]").count() == 0, name


@pytest.mark.parametrize("name", OWN)
def test_a_page_fits_a_narrow_screen_and_a_wide_one(console: Console, name: str) -> None:
    world()
    for width in (320, 1440, 3840):
        console.page.set_viewport_size({"width": width, "height": 900})
        console.open(address(name))
        wide = console.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{wide} px at {width}"


@pytest.mark.parametrize("name", OWN)
def test_controls_are_large_enough_to_hit(console: Console, name: str) -> None:
    world()
    console.open(address(name))
    small = console.page.evaluate(
        """() => [...document.querySelectorAll('#content button, #content select, #content input:not([type=hidden])')]
            .filter((node) => node.offsetParent !== null && !node.closest('label'))
            .map((node) => [node.outerHTML.slice(0, 80), node.getBoundingClientRect()])
            .filter(([, box]) => box.width < 24 || box.height < 24)
            .filter(([html]) => !html.includes('checkbox') && !html.includes('radio'))
            .map(([html]) => html)"""
    )
    assert small == []


def test_the_pages_say_strictly_what_may_run(console: Console) -> None:
    answer = console.page.goto(console.url + reverse("admin:overview"))
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "unsafe" not in policy
    assert console.page.locator("[style], script:not([src]):not([type='application/json'])").count() == 0
