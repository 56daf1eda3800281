"""The admin pages as an admin meets them: nothing broken, nothing from elsewhere, clear refusals."""

import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib import admin

from catalog.models import Persona, ServiceKey
from catalog.versions import current_version
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import Flag
from telemetry.models import QuarantinedEvent
from tests import factories
from tests.browser.conftest import Console

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

APPS = ("catalog", "overrides", "telemetry", "routing")
XSS = "<img src=x onerror=\"document.title='owned'\">"


def test_every_list_and_add_page_opens_without_a_complaint(console: Console) -> None:
    factories.scope()
    factories.price(factories.profile())
    models = [model for model in admin.site._registry if model._meta.app_label in APPS]
    assert len(models) >= 12
    console.open("/admin/")
    assert "LOCAL" in console.page.inner_text("#header")
    for model in models:
        path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        console.open(path)
        if console.page.locator(".object-tools .addlink").count():
            console.open(f"{path}add/")


def test_the_root_leads_to_the_console(console: Console) -> None:
    console.open("/")
    assert console.page.url.endswith("/admin/center/")


def test_an_admin_flips_the_flag_and_policy_changes_with_it(console: Console) -> None:
    flag = Flag.objects.get(name=AUTO_MODEL_SELECTION)
    before = current_version()
    console.open(f"/admin/overrides/flag/{flag.pk}/change/")
    console.page.select_option("#id_everyone", label="Yes, for everybody")
    console.page.click("input[name=_save]")
    console.page.wait_for_selector(".messagelist .success")
    assert Flag.objects.get(name=AUTO_MODEL_SELECTION).everyone is True
    assert current_version() > before


def test_a_new_key_is_shown_once_and_works(console: Console) -> None:
    factories.tenant()
    console.open("/admin/catalog/servicekey/add/")
    console.page.fill("#id_name", "worker")
    console.page.check("input[name=verbs][value=select]")
    console.page.check("#id_all_tenants")
    console.page.click("input[name=_save]")
    message = console.page.inner_text(".messagelist .warning")
    shown = re.search(r"\S+\.\S+$", message.strip())
    assert shown
    key: Any = ServiceKey.objects.get_from_key(shown.group())
    assert key.verbs == ["select"]
    console.open("/admin/catalog/servicekey/")
    assert shown.group() not in console.page.content()


def test_a_key_without_tenants_is_refused_with_a_sentence(console: Console) -> None:
    console.open("/admin/catalog/servicekey/add/")
    console.page.fill("#id_name", "worker")
    console.page.check("input[name=verbs][value=select]")
    console.page.click("input[name=_save]")
    assert "a key without any can do nothing" in console.page.inner_text("#content")
    assert console.page.input_value("#id_name") == "worker"


def test_weights_that_do_not_sum_to_one_are_refused_at_the_field_and_the_form_is_kept(
    console: Console,
) -> None:
    persona = factories.persona()
    console.open(f"/admin/catalog/persona/{persona.pk}/change/")
    console.page.fill("#id_weight_cost", "0.9")
    console.page.fill("#id_name", "Renamed")
    console.page.click("input[name=_save]")
    assert "these sum to 1.4" in console.page.inner_text(".field-weight_cost")
    assert console.page.input_value("#id_name") == "Renamed"
    assert Persona.objects.get().weight_cost == Decimal("0.5")


def test_disabling_a_default_profile_is_refused_with_who_uses_it(console: Console) -> None:
    persona = factories.persona()
    console.open(f"/admin/catalog/modelprofile/{persona.default_profile.pk}/change/")
    console.page.uncheck("#id_enabled")
    console.page.click("input[name=_save]")
    assert "default of persona essayist" in console.page.inner_text("#content")


def test_hostile_text_in_quarantine_is_shown_inert(console: Console) -> None:
    QuarantinedEvent.objects.create(
        received_at=factories.NOW, source=XSS[:80], tenant="", code="invalid_field", detail=XSS, raw=XSS
    )
    console.open("/admin/telemetry/quarantinedevent/")
    assert XSS in console.page.inner_text("#content")
    assert console.page.title() != "owned"


def test_the_api_docs_show_every_operation_from_this_host_alone(console: Console) -> None:
    console.open("/api/docs/")
    console.page.wait_for_selector(".opblock")
    assert console.page.locator(".opblock").count() == 49


def test_at_320_pixels_the_console_does_not_scroll_sideways(console: Console) -> None:
    console.page.set_viewport_size({"width": 320, "height": 700})
    console.open("/admin/")
    width = console.page.evaluate("document.documentElement.scrollWidth")
    assert width <= 320
