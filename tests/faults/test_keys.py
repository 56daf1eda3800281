"""A key that is revoked is refused in every process within 5 s, and one that is rotated works on."""

import time
from contextlib import ExitStack

import httpx
import pytest

from tests.faults.conftest import Breaking
from tests.faults.product import ASKED, Product, kill
from tests.faults.table import Promise
from tests.services import free_ports, wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow]
MAKE = """
from catalog.models import ServiceKey
print(ServiceKey.objects.create_key(name="rotated", verbs=["select"], all_tenants=True)[1])
"""


def status(client: httpx.Client) -> int:
    return client.post("/selections", json={**ASKED, "conversation_id": "keys"}).status_code


def test_two_processes_refuse_a_revoked_key_within_5_seconds_and_a_rotated_one_works_on(
    product: Product, breaking: Breaking
) -> None:
    row = breaking("a key revoked, and one rotated, with two web processes", Promise.ISOLATED)
    took = []
    [port] = free_ports(1)
    second = product.apart.start_web(port)
    secret = product.apart.manage("shell", "--no-imports", "-c", MAKE).splitlines()[-1]
    prefix = secret.partition(".")[0]
    with ExitStack() as open_:

        def both(key: str) -> list[httpx.Client]:
            clients = (product.apart.client(key), product.apart.client(key, port))
            return [open_.enter_context(client) for client in clients]

        def all_say(clients: list[httpx.Client], expected: int) -> bool:
            return {status(client) for client in clients} == {expected}

        def refused(clients: list[httpx.Client], what: str) -> None:
            began = time.monotonic()
            wait_until(lambda: all_say(clients, 401), what, timeout=5)
            took.append(f"{what} after {time.monotonic() - began:.1f} s")

        old = both(secret)
        assert all_say(old, 200)  # and so both processes trust it for a while
        rotated = product.apart.manage("servicekey", "rotate", prefix, "--overlap-hours", "0")
        new = both(rotated.splitlines()[-1])
        assert all_say(new, 200)
        refused(old, "the rotated-away key refused by both")

        overlapping = product.apart.manage("servicekey", "rotate", new[0].headers["Authorization"][8:])
        newest = both(overlapping.splitlines()[-1])
        # Trust that was kept from before has run out by then: the old key works because it is let to.
        time.sleep(5)
        assert all_say(new, 200)
        assert all_say(newest, 200)

        product.apart.manage("servicekey", "revoke", overlapping.splitlines()[-1])
        refused(newest, "the revoked key refused by both")
        assert all_say(new, 200)
    row.measured = "; ".join(took)
    kill(second)
    assert "all as they were written" in product.apart.manage("audit", "verify")
