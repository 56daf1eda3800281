"""Bodies of every endpoint: limited, gzip taken, wrong addresses told as problems."""

import gzip
import json
from typing import Any

import pytest
from django.test import Client

from catalog.bodies import MAX_BYTES
from tests import factories
from tests.routing.scenes import ASKED, ranked_scope

pytestmark = pytest.mark.django_db
ENDPOINTS = ("/api/v1/selections", "/api/v1/selections/batch", "/api/v1/telemetry/completions")


def post(client: Client, url: str, body: bytes, **headers: str) -> Any:
    key = factories.key(tenants=())
    return client.post(url, body, content_type="application/json", headers={**key, **headers})


@pytest.mark.parametrize("url", ENDPOINTS)
def test_more_than_2_mb_is_413_packed_or_not(client: Client, url: str) -> None:
    body = b'{"decisions": ["' + b"x" * MAX_BYTES + b'"]}'
    plain = post(client, url, body)
    packed = post(client, url, gzip.compress(body), **{"Content-Encoding": "gzip"})
    assert [(answer.status_code, answer.json()["code"]) for answer in (plain, packed)] == [
        (413, "too_large")
    ] * 2


@pytest.mark.parametrize("url", ENDPOINTS)
def test_an_encoding_that_is_not_known_or_not_true_is_told(client: Client, url: str) -> None:
    brotli = post(client, url, b"{}", **{"Content-Encoding": "br"})
    assert (brotli.status_code, brotli.json()["code"]) == (415, "unsupported_encoding")
    torn = post(client, url, gzip.compress(b"{}")[:-4], **{"Content-Encoding": "gzip"})
    assert (torn.status_code, torn.json()["code"]) == (400, "invalid_gzip")


def test_a_gzipped_request_is_understood(client: Client) -> None:
    ranked_scope()
    body = gzip.compress(json.dumps(ASKED).encode())
    assert post(client, "/api/v1/selections", body, **{"Content-Encoding": "gzip"}).status_code == 200


@pytest.mark.parametrize("path", ["nope", "v1/selections/", "v1/selections/not-a-uuid", "v1/nope"])
@pytest.mark.parametrize("debug", [True, False])
def test_a_wrong_address_below_api_is_a_problem_under_debug_too(
    client: Client, settings: Any, debug: bool, path: str
) -> None:
    settings.DEBUG = debug
    answer = client.post(f"/api/{path}")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert answer.json()["code"] == "not_found"
