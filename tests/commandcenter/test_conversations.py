"""A conversation looked up: what it was given, when and why."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import orjson
import pytest
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from routing.bundle import forget_bundle
from routing.models import Selection
from tests import factories
from tests.commandcenter.test_flags import words
from tests.overrides.people import call, someone
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
PAGE = "/admin/center/conversations/"
Budget = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def key() -> dict[str, str]:
    ranked_scope()
    factories.tenant("borealis")
    forget_bundle()
    return factories.key("select", tenants=())


def ask(key: dict[str, str], tenant: str = "aurora", name: str = "c-1", **more: Any) -> None:
    body = {"tenant": tenant, "persona": "essayist", "conversation_id": name, **more}
    assert call(Client(), "post", "/selections", body, key).status_code == 200


def test_its_selections_are_told_the_newest_first_with_why(key: dict[str, str], admin_client: Client) -> None:
    ask(key)
    ask(key, exclude=["cheap"])
    page = words(admin_client.get(PAGE, {"id": "c-1"}))
    rows = list(Selection.objects.order_by("-decided_at"))
    links = [reverse("admin:center_selection", args=[row.decision_id]) for row in rows]
    assert page.index(f'href="{links[0]}"') < page.index(f'href="{links[1]}"')
    assert page.count(">switched<") == 1
    assert escape(orjson.loads(rows[1].core)["explanation"]) in page
    assert "What it is remembered with" in page


def test_the_tenant_narrows_it_and_without_one_all_are_looked_at(
    key: dict[str, str], admin_client: Client
) -> None:
    ask(key, "aurora")
    ask(key, "borealis")
    both = words(admin_client.get(PAGE, {"id": "c-1"}))
    assert "aurora × essayist" in both
    assert "borealis × essayist" in both
    one = words(admin_client.get(PAGE, {"id": "c-1", "tenant": "borealis"}))
    assert "aurora × essayist" not in one


def test_nothing_found_and_nothing_asked_name_the_next_step(
    key: dict[str, str], admin_client: Client
) -> None:
    assert "Type its id" in words(admin_client.get(PAGE))
    assert "Nothing was selected for “c-9”" in words(admin_client.get(PAGE, {"id": "c-9"}))
    hostile = admin_client.get(PAGE, {"id": "<script>alert(1)</script>"}).content.decode()
    assert "<script>alert" not in hostile


def test_a_foreign_tenant_is_not_there_and_its_conversations_are_not_shown(key: dict[str, str]) -> None:
    ask(key, "borealis")
    olga = someone("olga", at={"aurora": "viewer"})
    assert olga.get(PAGE, {"id": "c-1", "tenant": "borealis"}).status_code == 404
    assert "borealis" not in words(olga.get(PAGE, {"id": "c-1"}))
    assert "Nothing was selected" in words(olga.get(PAGE, {"id": "c-1"}))


def test_pages_take_few_queries_and_follow_each_other(
    key: dict[str, str], admin_client: Client, django_assert_max_num_queries: Budget
) -> None:
    for _ in range(30):
        ask(key)
    admin_client.get(PAGE)
    with django_assert_max_num_queries(12):
        first = admin_client.get(PAGE, {"id": "c-1"}).content.decode()
    assert first.count("data-row") == 25
    assert "page=2" in first
    second = admin_client.get(PAGE, {"id": "c-1", "page": "2"}).content.decode()
    assert second.count("data-row") == 5
    assert admin_client.get(PAGE, {"id": "c-1", "page": "nonsense"}).status_code == 200
