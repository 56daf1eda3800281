"""Service keys and signed-in people at the API's door."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.access import forget_keys, verify, verify_header
from catalog.models import ServiceKey
from catalog.outage import outage
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/v1/metrics/freshness"


def status(client: Client, headers: dict[str, str]) -> int:
    return client.get(URL, headers=headers).status_code


def test_a_key_is_stored_hashed_only() -> None:
    secret = factories.key("read")["Authorization"].removeprefix("Api-Key ")
    row = ServiceKey.objects.get()
    assert secret not in "".join(str(value) for value in vars(row).values())


def test_a_verified_key_is_not_looked_up_again_for_a_few_seconds(client: Client) -> None:
    key = factories.key("read")
    assert status(client, key) == 200
    with CaptureQueriesContext(connection) as queries:
        assert status(client, key) == 200
    assert queries.captured_queries
    assert not [query for query in queries.captured_queries if "servicekey" in query["sql"]]


def test_a_revoked_key_stops_when_the_cache_forgets_it(client: Client) -> None:
    key = factories.key("read")
    assert status(client, key) == 200
    ServiceKey.objects.update(revoked=True)
    forget_keys()
    assert status(client, key) == 401


def test_an_expired_key_stops_at_once_even_when_cached(client: Client) -> None:
    key = factories.key("read", expiry_date=timezone.now() + timedelta(milliseconds=300))
    assert status(client, key) == 200
    ServiceKey.objects.update(expiry_date=timezone.now() - timedelta(seconds=1))
    forget_keys()
    assert status(client, key) == 401


def test_a_header_is_known_once_its_key_was_verified_and_until_that_is_forgotten(
    client: Client, django_assert_num_queries: Any
) -> None:
    header = factories.key("read")["Authorization"]
    with django_assert_num_queries(0):
        assert verify_header(header) is None
    key = header.removeprefix("Api-Key ")
    known = verify(key)
    assert known is not None
    with django_assert_num_queries(0):
        assert verify_header(header) is known
        for other in (
            "",
            key,
            f"api-key {key}",
            f"{header} ",
            f"Bearer {key}",
            f"{header}\udc80",
            header[:-1],
        ):
            assert verify_header(other) is None
    forget_keys()
    assert verify_header(header) is None


def test_a_header_goes_on_only_while_the_database_is_known_to_be_away(settings: Any) -> None:
    settings.SERVICE_KEY_CACHE_SECONDS = 0
    header = factories.key("read")["Authorization"]
    known = verify(header.removeprefix("Api-Key "))
    assert verify_header(header) is None
    outage.begin()
    assert verify_header(header) is known


def test_a_known_header_stops_when_its_key_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    header = factories.key("read", expiry_date=now + timedelta(hours=1))["Authorization"]
    verify(header.removeprefix("Api-Key "))
    assert verify_header(header) is not None
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(hours=1))
    assert verify_header(header) is None


@pytest.mark.parametrize(
    "header", ["Api-Key", "Api-Key a b", "Api-Key nonsense", "Api-Key a.b", "Bearer x", "Api-Key \xff"]
)
def test_anything_that_is_no_key_is_401(client: Client, header: str) -> None:
    answer = client.get(URL, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Api-Key"
    assert answer["Content-Type"] == "application/problem+json"


def test_a_key_with_a_wrong_secret_half_is_401(client: Client) -> None:
    good = factories.key("read")["Authorization"]
    assert status(client, {"Authorization": good[:-1] + ("a" if good[-1] != "a" else "b")}) == 401


def test_staff_who_may_view_tenants_read_with_their_session_but_never_select(client: Client) -> None:
    user = User.objects.create_user("operator", password="x", is_staff=True)
    client.force_login(user)
    assert status(client, {}) == 403
    user.user_permissions.add(Permission.objects.get(codename="view_tenant"))
    assert status(client, {}) == 200
    selection = client.post("/api/v1/selections", {}, content_type="application/json")
    assert selection.status_code == 403


def test_an_address_below_api_that_is_not_there_is_a_problem(client: Client) -> None:
    answer = client.get("/api/v1/nothing")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
