"""Overrides among many at once: one change per key, one winner per version, in effect everywhere within 5 s."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Breaking
from tests.faults.product import ASKED, Product
from tests.faults.table import Promise
from tests.faults.test_worker import playing, worker_settings
from tests.services import free_ports, wait_until
from worker.runtime import Worker

pytestmark = [pytest.mark.services, pytest.mark.slow]
URL = "/settings/overrides"
LOCK = {**ASKED, "kind": "lock", "profile": "gpt-5.5", "reason": "a test of many at once"}


def entries(product: Product) -> Counter[str]:
    found = product.client.get("/audit", params={"page_size": 200}).json()["results"]
    return Counter(entry["verb"] for entry in found)


def end(product: Product, override: dict[str, Any]) -> None:
    headers = {"If-Match": f'"{override["version"]}"'}
    ended = product.client.post(
        f"{URL}/{override['id']}/revoke", json={"reason": LOCK["reason"]}, headers=headers
    )
    assert ended.status_code == 200, ended.text


def test_twenty_at_once_with_one_key_make_one_change_and_one_entry(
    product: Product, breaking: Breaking
) -> None:
    row = breaking("20 overrides at once with one Idempotency-Key", Promise.AUDIT)
    before = entries(product)
    headers = {"Idempotency-Key": "one-key"}
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: product.client.post(URL, json=LOCK, headers=headers), range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert entries(product) - before == Counter({"create": 1})
    row.measured = "1 change, 1 audit entry, 20 equal answers"
    end(product, answers[0].json())


def test_of_twenty_with_one_version_one_wins_and_the_others_see_both_states(
    product: Product, breaking: Breaking
) -> None:
    row = breaking("20 changes at once of one override's version", Promise.AUDIT)
    made = product.client.post(URL, json=LOCK).json()
    before = entries(product)

    def change(number: int) -> Any:
        body = {**LOCK, "reason": f"change number {number}"}
        return product.client.put(f"{URL}/{made['id']}", json=body, headers={"If-Match": '"1"'})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(change, range(20)))
    assert Counter(answer.status_code for answer in answers) == Counter({409: 19, 200: 1})
    [winner] = [answer.json() for answer in answers if answer.status_code == 200]
    for loser in (answer.json() for answer in answers if answer.status_code == 409):
        assert (loser["code"], loser["current"]["reason"]) == ("version_conflict", winner["reason"])
        assert loser["yours"]["reason"] != winner["reason"]
    assert entries(product) - before == Counter({"replace": 1})
    row.measured = "1 change, 1 audit entry, 19 x 409 with both states"
    end(product, winner)


def test_of_twenty_who_change_a_persona_as_they_saw_it_one_wins(product: Product, breaking: Breaking) -> None:
    row = breaking("20 changes at once of one persona's version", Promise.AUDIT)
    path = f"/settings/personas/{ASKED['persona']}"
    seen = product.client.get(path)
    before = entries(product)

    def change(number: int) -> Any:
        body = {"min_samples": 40 + number, "reason": f"change number {number}"}
        return product.client.patch(path, json=body, headers={"If-Match": seen.headers["ETag"]})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(change, range(20)))
    assert Counter(answer.status_code for answer in answers) == Counter({409: 19, 200: 1})
    assert entries(product) - before == Counter({"update": 1})
    row.measured = "1 change, 1 audit entry, 19 x 409"
    [winner] = [answer for answer in answers if answer.status_code == 200]
    back = {"min_samples": seen.json()["min_samples"], "reason": "back to what it was"}
    headers = {"If-Match": winner.headers["ETag"]}
    assert product.client.patch(path, json=back, headers=headers).status_code == 200


def test_an_override_is_in_effect_in_every_process_within_5_seconds(
    product: Product, tmp_path: Path, breaking: Breaking
) -> None:
    row = breaking(
        "an override, seen from two web processes and a worker that decides locally", Promise.OVERRIDE
    )
    [port] = free_ports(1)
    product.apart.start_web(port)
    local = {"evaluation": "local"}
    with (
        product.apart.client(product.key, port) as second,
        playing() as provider,
        Worker(worker_settings(product, provider, tmp_path, **local)) as worker,
    ):
        assert worker.client.wait_ready(10)

        def reasons() -> set[str]:
            body = {**ASKED, "conversation_id": "everywhere"}
            told = {
                client.post("/selections", json=body).json()["reason"] for client in (product.client, second)
            }
            return told | {worker.client.select(**ASKED, conversation_id="everywhere").reason}

        # The tests before made changes, too.
        wait_until(lambda: reasons() == {"ranked"}, "no lock in any process", timeout=5)
        made = product.client.post(URL, json=LOCK).json()
        began = time.monotonic()
        wait_until(lambda: reasons() == {"override_lock"}, "the lock in every process", timeout=5)
        row.measured = f"in effect everywhere after {time.monotonic() - began:.1f} s"
        end(product, made)
        wait_until(lambda: reasons() == {"ranked"}, "its end in every process", timeout=5)
    assert "all as they were written" in product.apart.manage("audit", "verify")
