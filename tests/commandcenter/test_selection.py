"""A stored decision, explained: its page, its panel, and the list that it is opened from."""

import json
import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from commandcenter.scoped import last_decisions
from overrides import services
from overrides.audit import Actor
from overrides.services import Wish
from routing.archive import archive
from routing.bundle import forget_bundle
from routing.models import PolicyRevision, Selection
from tests import factories
from tests.overrides.people import REASON, call, someone
from tests.routing.scenes import ASKED, ranked_scope

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
LIVE = "/admin/center/scopes/aurora/essayist/live"


@pytest.fixture
def viewer() -> Client:
    ranked_scope()
    return someone("vera", at={"aurora": "viewer"})


def decide(tenant: str = "aurora", **asked: Any) -> Selection:
    key = factories.key("select", tenants=(tenant,))
    answer = call(Client(), "post", "/selections", {**ASKED, "tenant": tenant, **asked}, key)
    assert answer.status_code == 200, answer.content
    return Selection.objects.get(decision_id=answer.json()["decision_id"])


def path(row: Selection) -> str:
    return f"/admin/center/selections/{row.decision_id}/"


def test_it_tells_reason_candidates_ids_ages_and_replay(viewer: Client) -> None:
    now = timezone.now()
    wish = Wish("prefer", "cheap", REASON, "aurora", None, None, now + timedelta(hours=1))
    override = services.create_override(wish, Actor("user:root", "admin"), now)
    forget_bundle()
    row = decide(request_id="r-1", conversation_id="talk-7")
    page = re.sub(r"\s+", " ", viewer.get(path(row)).content.decode())
    for told in (
        "cheap",
        "override_prefer",
        f"applied #{override.pk}",
        "talk-7",
        "r-1",
        str(row.decision_id),
        "AUTO_MODEL_SELECTION_ENABLED",
        "on for 100.0% of the scope",
        row.policy,
        "equal, byte for byte",
        "s old",
        "success PASS",
        "lost by 0.450",
    ):
        assert told in page, told


def test_its_json_is_what_the_api_explains(viewer: Client) -> None:
    row = decide()
    page = viewer.get(path(row)).content.decode()
    found = re.search(rf'id="json-{row.decision_id}"\s+tabindex="0">(.*?)</pre>', page, re.DOTALL)
    assert found
    told = json.loads(unescape(found[1]))
    key = factories.key("read")
    assert told == call(viewer, "get", f"/selections/{row.decision_id}", key=key).json()
    assert f'data-copies="json-{row.decision_id}"' in page


def test_below_a_list_it_is_a_panel_that_closes(viewer: Client) -> None:
    row = decide()
    panel = viewer.get(path(row), headers=HTMX).content.decode()
    assert "<html" not in panel
    assert "data-open-panel" in panel
    assert "Why cheap?" in panel
    assert "data-open-panel" not in viewer.get(path(row)).content.decode()


def test_one_that_cannot_be_decided_again_says_so_and_keeps_its_record(viewer: Client) -> None:
    row = decide()
    PolicyRevision.objects.all().delete()
    archive.forget()
    page = viewer.get(path(row)).content.decode()
    assert "impossible" in page
    assert "not kept" in page
    assert "could not be decided again" in page
    assert "has the best score" in page


def test_what_others_typed_is_shown_inert(viewer: Client) -> None:
    hostile = "<script>alert(1)</script>"
    row = decide(conversation_id=hostile)
    for page in (viewer.get(path(row)), viewer.get(LIVE, headers=HTMX)):
        assert hostile not in page.content.decode()
        assert "&lt;script&gt;" in page.content.decode()


def test_a_foreign_tenant_s_and_an_unknown_one_are_not_there(viewer: Client) -> None:
    factories.tenant("borealis")
    forget_bundle()
    row = decide("borealis")
    for headers in ({}, HTMX):
        assert viewer.get(path(row), headers=headers).status_code == 404
    assert viewer.get("/admin/center/selections/00000000-0000-4000-8000-000000000000/").status_code == 404
    assert someone("nadia").get(path(row)).status_code == 403
    assert Client().get(path(row)).status_code == 302


def test_a_page_takes_few_queries(viewer: Client, django_assert_max_num_queries: Any) -> None:
    row = decide()
    viewer.get(path(row))
    for headers in ({}, HTMX):
        with django_assert_max_num_queries(12):
            viewer.get(path(row), headers=headers)


def test_the_list_has_the_ten_newest_of_the_scope_published_or_not(viewer: Client) -> None:
    factories.tenant("borealis")
    factories.persona("coder", default_profile=factories.profile("incumbent"))
    forget_bundle()
    rows = [decide(conversation_id=f"talk-{number}") for number in range(12)]
    decide("borealis", conversation_id="foreign")
    decide(persona="coder", conversation_id="elsewhere")
    Selection.objects.filter(pk__in=[row.pk for row in rows[:6]]).update(in_clickhouse=True)
    page = viewer.get(LIVE, headers=HTMX).content.decode()
    shown = re.findall(r'<span class="name">(talk-\d+|foreign|elsewhere)</span>', page)
    assert shown == [f"talk-{number}" for number in range(11, 1, -1)]
    assert page.count("has the best score") == 10


def test_of_very_many_that_wait_to_be_published_the_newest_are_looked_through(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commandcenter.scoped._WAITING", 2)
    rows = [decide(conversation_id=f"talk-{number}") for number in range(4)]
    caller: Any = type("Caller", (), {"tenants": None})
    assert [made.row.pk for made in last_decisions(caller, "aurora", "essayist")] == [
        row.pk for row in (rows[3], rows[2])
    ]
