"""Lists of overrides and tenants stay small and take a few queries, with thousands of tenants."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from overrides.models import Override
from tests import factories
from tests.crowd import crowd

pytestmark = pytest.mark.django_db
URL = "/api/v1/settings/overrides"
ADMIN = "/admin/overrides/override/"
MOST_QUERIES = 12
TENANTS = 2_000


@contextmanager
def few_queries() -> Iterator[CaptureQueriesContext]:
    with CaptureQueriesContext(connection) as queries:
        yield queries
    assert 0 < len(queries) <= MOST_QUERIES


@pytest.fixture
def many() -> None:
    crowd(4_000, tenants=TENANTS)
    Override.objects.filter(pk__in=Override.objects.order_by("pk").values("pk")[:7]).update(
        revoked_at=timezone.now()
    )


def newest() -> int:
    found = Override.objects.order_by("-pk").first()
    assert found is not None
    return found.pk


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("tenants", [(), ("tenant-7", "tenant-9")], ids=["all", "bound to two"])
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"standing": "true"},
        {"tenant": "tenant-7"},
        {"tenant": "tenant-7", "persona": "persona-0", "standing": "true"},
        {"persona": "persona-1", "profile": "profile-8", "kind": "lock", "page_size": "200"},
    ],
    ids=lambda asked: "+".join(asked) or "nothing asked",
)
def test_the_list_takes_at_most_12_queries_whatever_is_asked(
    client: Client, tenants: tuple[str, ...], asked: dict[str, str]
) -> None:
    key = factories.key(tenants=tenants)
    with few_queries():
        answer = client.get(URL, asked, headers=key)
    assert answer.status_code == 200
    found = answer.json()["results"]
    assert len(found) <= int(asked.get("page_size", 50))
    for name in ("tenant", "persona", "profile", "kind"):
        assert {one[name] for one in found} <= {asked[name]} if name in asked else True
    if tenants:
        assert {one["tenant"] for one in found} <= set(tenants)
    if not tenants and "tenant" not in asked and "persona" not in asked:
        assert [one["id"] for one in found] == [newest() - n for n in range(50)]


@pytest.mark.usefixtures("many")
def test_the_list_reads_no_more_rows_than_it_shows(client: Client) -> None:
    with few_queries() as queries:
        client.get(URL, headers=factories.key(tenants=()))
    [listing] = [q["sql"] for q in queries if 'FROM "overrides_override"' in q["sql"]]
    assert re.search(r"LIMIT 51$", listing)
    assert not any("COUNT" in q["sql"] for q in queries)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("asked", ["", "?q=tenant-7", "?kind__exact=lock", "?revoked_at__isempty=0", "?p=2"])
def test_the_admins_list_of_overrides_takes_at_most_12_queries_and_loads_no_tenants_but_its_own(
    admin_client: Client, asked: str
) -> None:
    with few_queries() as queries:
        page = admin_client.get(ADMIN + asked)
    assert page.status_code == 200
    assert len(page.context["cl"].result_list) <= 100
    # A filter by tenant would be a query of all of them, and a link to each.
    assert not [q for q in queries if 'FROM "catalog_tenant"' in q["sql"]]
    assert len(page.content) < 300_000
    counts = [q for q in queries if "COUNT" in q["sql"]]
    assert len(counts) == 1


@pytest.mark.usefixtures("many")
def test_the_admins_search_finds_a_tenants_overrides_and_those_that_were_revoked(
    admin_client: Client,
) -> None:
    def found(asked: str) -> Any:
        return list(admin_client.get(ADMIN + asked).context["cl"].result_list)

    assert {one.tenant.slug for one in found("?q=tenant-17")} == {"tenant-17"}
    assert len(found("?q=tenant-17")) == 4_000 // TENANTS
    assert len(found("?revoked_at__isempty=0")) == 7


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("asked", ["", "?q=tenant-17", "?enabled__exact=1", "?p=3"])
def test_the_admins_list_of_tenants_takes_at_most_12_queries(admin_client: Client, asked: str) -> None:
    with few_queries():
        page = admin_client.get(f"/admin/catalog/tenant/{asked}")
    assert page.status_code == 200
    assert 0 < len(page.context["cl"].result_list) <= 100


@pytest.mark.usefixtures("many")
def test_one_overrides_page_does_not_offer_every_tenant(admin_client: Client) -> None:
    with few_queries():
        page = admin_client.get(f"{ADMIN}{newest()}/change/")
    assert page.status_code == 200
    assert page.content.count(b"tenant-") < 20
