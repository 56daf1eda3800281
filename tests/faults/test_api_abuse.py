"""Requests made from the OpenAPI schema itself, with every key, against the product on real servers: no 5xx, and
every answer as the schema says. FUZZ_EXAMPLES sets how many an operation gets."""

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.faults.conftest import Breaking
from tests.faults.product import Product
from tests.faults.table import Promise

pytestmark = [pytest.mark.services, pytest.mark.slow]
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "8"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
OF_ONE_TENANT = """
from catalog.models import ServiceKey, Tenant
key, secret = ServiceKey.objects.create_key(name="of one tenant", verbs=list(ServiceKey.Verb.values))
key.tenants.set(Tenant.objects.filter(slug="cumulus"))
print(secret)
"""


@pytest.mark.parametrize("who", ["a key with every right", "a key of one tenant", "nobody"])
def test_no_request_that_the_schema_allows_or_forbids_gets_a_server_error(
    product: Product, who: str, breaking: Breaking
) -> None:
    row = breaking(f"requests made from the OpenAPI schema, sent by {who}", Promise.CLEAR)
    keys = {
        "a key with every right": lambda: product.key,
        "a key of one tenant": lambda: product.shell(OF_ONE_TENANT),
    }
    headers = {"Authorization": f"Api-Key {keys[who]()}"} if who in keys else {}
    base = f"http://127.0.0.1:{product.apart.port}"
    schema = schemathesis.openapi.from_url(f"{base}/api/schema/?format=json")
    answers: Counter[str] = Counter()
    results: list[Any] = list(schema.get_all_operations())
    operations = [result.ok() for result in results]
    for operation in operations:

        @given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=EXAMPLES if who in keys else 2,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def attempt(case: Any) -> None:
            answer = case.call(headers=headers, timeout=30)
            answers[f"{answer.status_code // 100}xx"] += 1
            case.validate_response(answer, checks=CHECKS)

        attempt()
    assert answers["5xx"] == 0
    told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(answers.items()))
    row.measured = f"{len(operations)} operations: {told}; every answer as the schema says"


def raw(port: int, request: bytes, patience: float = 10) -> bytes:
    """What comes back for bytes on a socket; empty when the connection is closed without a word."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        with suppress(OSError):
            connection.sendall(request)
        told = b""
        with suppress(OSError):
            while chunk := connection.recv(65536):
                told += chunk
        return told


def http(line: str, *headers: str, body: bytes = b"") -> bytes:
    return (
        "\r\n".join([line, "Host: localhost", "Connection: close", *headers, "", ""]).encode("latin-1") + body
    )


URL = "/api/v1/telemetry/completions"
#: Requests that no client library sends. None may be taken, or break the server.
MALFORMED = {
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00",
    "a header of 1 MB": http(f"POST {URL} HTTP/1.1", f"X-Long: {'x' * 1_000_000}"),
    "10,000 headers": http(f"POST {URL} HTTP/1.1", *[f"X-{n}: 1" for n in range(10_000)]),
    "an address of 1 MB": http(f"GET /{'a' * 1_000_000} HTTP/1.1"),
    "a length that is no number": http(f"POST {URL} HTTP/1.1", "Content-Length: many", body=b"[]"),
    "a negative length": http(f"POST {URL} HTTP/1.1", "Content-Length: -1", body=b"[]"),
    "two lengths": http(f"POST {URL} HTTP/1.1", "Content-Length: 2", "Content-Length: 40", body=b"[]"),
    "a length and chunks": http(
        f"POST {URL} HTTP/1.1",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        body=b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ),
    "a chunk of a lying size": http(
        f"POST {URL} HTTP/1.1", "Transfer-Encoding: chunked", body=b"ffffffffffff\r\n[]"
    ),
    "a folded header": http(f"POST {URL} HTTP/1.1", "X-A: b\r\n c: d", "Content-Length: 0"),
    "a NUL in a header": http(f"POST {URL} HTTP/1.1", "X-A: b\x00c", "Content-Length: 0"),
    "an address with a line end": http("GET /api/v1/policy%0d%0aX-Injected:%201 HTTP/1.1"),
}


def test_requests_that_are_no_http_are_refused_and_the_server_goes_on(
    product: Product, breaking: Breaking
) -> None:
    row = breaking(f"{len(MALFORMED)} malformed requests on a bare socket", Promise.CLEAR)
    statuses: Counter[str] = Counter()
    for name, request in MALFORMED.items():
        told = raw(product.apart.port, request, patience=3)
        head = told.split(b"\r\n\r\n")[0]
        status = head.split(b" ")[1].decode() if head.startswith(b"HTTP/") else "closed"
        statuses[status] += 1
        assert status == "closed" or 400 <= int(status) < 500, (name, told[:300])
        assert b"x-injected" not in head.lower(), name
        assert b"python" not in head.lower(), name
    assert product.ask("after malformed requests")["reason"] == "ranked"
    row.measured = (
        ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())) + "; then an answer"
    )


@pytest.fixture
def half_sent(product: Product) -> Iterator[list[socket.socket]]:
    """Connections whose requests never end."""
    held = [socket.create_connection(("127.0.0.1", product.apart.port), timeout=5) for _ in range(200)]
    for connection in held:
        connection.sendall(http(f"POST {URL} HTTP/1.1", "Content-Length: 1000")[:-20])
    yield held
    for connection in held:
        connection.close()


def test_200_requests_that_never_end_keep_nobody_else_waiting(
    product: Product, half_sent: list[socket.socket], breaking: Breaking
) -> None:
    row = breaking("200 connections whose requests never end", Promise.SELECTION)
    began = time.perf_counter()
    for number in range(20):
        assert product.ask(f"beside {number}")["reason"] == "ranked"
    row.measured = (
        f"20 selections beside them, {(time.perf_counter() - began) / 20 * 1000:.0f} ms each on average"
    )
