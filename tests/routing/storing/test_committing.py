"""Selections that come at the same time are committed together: each once, each with its own answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.test import Client
from django.utils import timezone

from catalog.outage import outage
from routing.bundle import forget_bundle
from routing.engine import canonical_json
from routing.journal import journal
from routing.models import ConversationSelection, Selection
from routing.repeats import Asked
from routing.selection import select
from routing.storing.committing import believed
from routing.storing.lanes import Lane, lanes
from tests import factories
from tests.routing.scenes import ASKED, ranked_scope
from tests.routing.storing.test_grouping import together

pytestmark = pytest.mark.django_db(transaction=True)


def ask(conversation: str, **other: Any) -> dict[str, Any]:
    try:
        return select(
            Asked("aurora", "essayist", conversation, **other), "key:test", timezone.now()
        ).to_dict()
    finally:
        connections.close_all()


def test_of_many_at_once_each_is_stored_once_with_its_own_answer() -> None:
    ranked_scope()
    ask("c-first")
    found: list[Any] = together(40, lambda number: ask(f"c-{number}"))
    assert [told["conversation_id"] for told in found] == [f"c-{number}" for number in range(40)]
    assert len({told["decision_id"] for told in found}) == 40
    for told in found:
        core = {name: value for name, value in told.items() if name != "candidates"}
        assert Selection.objects.get(decision_id=told["decision_id"]).core == canonical_json(core).decode()
    assert ConversationSelection.objects.count() == 41


def test_turns_of_one_conversation_that_come_at_once_leave_its_newest_decision_as_the_last() -> None:
    ranked_scope()
    ask("c-0")
    found: list[Any] = together(20, lambda _: ask("c-1"))
    newest = max(found, key=lambda told: str(told["decided_at"]))
    last = ConversationSelection.objects.get(conversation_id="c-1")
    assert last.decided_at.isoformat() == newest["decided_at"]
    assert Selection.objects.filter(conversation_id="c-1").count() == len(
        {one["decision_id"] for one in found}
    )


def test_one_request_id_at_many_threads_is_one_decision() -> None:
    ranked_scope()
    ask("c-0")
    found: list[Any] = together(20, lambda _: ask("c-1", request_id="r-1"))
    assert {told["decision_id"] for told in found} == {found[0]["decision_id"]}
    assert Selection.objects.filter(request_id="r-1").count() == 1


def test_a_request_id_that_another_process_just_used_gets_that_answer() -> None:
    ranked_scope()
    first = ask("c-1", request_id="r-1")
    # As if it were not known here: the database is what knows.
    with mock.patch("routing.selection.repeats.once", lambda asked, answer: answer()):
        again = ask("c-1", request_id="r-1")
    assert again == first
    assert Selection.objects.count() == 1


def test_an_answered_request_id_keeps_its_answer_when_nothing_could_be_given_any_more() -> None:
    ranked_scope()
    first = ask("c-1", request_id="r-1", exclude=("cheap",))
    factories.profile("incumbent", enabled=False)
    forget_bundle()
    assert ask("c-1", request_id="r-1", exclude=("cheap",)) == first


def test_a_problem_of_one_is_no_problem_of_those_beside_it(client: Client) -> None:
    ranked_scope()
    ask("c-0")

    def one(number: int) -> Any:
        excluded = ("cheap", "incumbent") if number == 5 else ()
        return ask(f"c-{number}", exclude=excluded)

    found = together(12, one)
    assert getattr(found[5], "code", None) == "all_excluded"
    assert [told["reason"] for told in found if isinstance(told, dict)] == ["ranked"] * 11


def test_what_the_database_refuses_harms_nothing_beside_it() -> None:
    ranked_scope()
    ask("c-0")
    # No request can hold it (the API refuses it); PostgreSQL cannot store it, and SQLite is told so here.
    put = type(lanes_store()).put

    def refuse(self: Any, rows: Any, *other: Any) -> Any:
        if any(row.conversation_id == "c-3" for row in rows):
            raise ValueError("cannot be stored")
        return put(self, rows, *other)

    with mock.patch.object(type(lanes_store()), "put", refuse):
        found = together(10, lambda number: ask(f"c-{number}"))
    assert isinstance(found[3], ValueError)
    assert Selection.objects.filter(conversation_id__in=[f"c-{n}" for n in range(10)]).count() == 10
    assert sum(isinstance(one, dict) for one in found) == 9


def lanes_store() -> Any:
    lane = Lane()
    lane.close()
    return lane.store


def another_gives(profile: str) -> None:
    """As another process does that the conversation came to meanwhile."""
    later = timezone.now() + timedelta(milliseconds=1)
    ConversationSelection.objects.filter(conversation_id="c-1").update(profile=profile, decided_at=later)


def test_what_another_process_gave_meanwhile_is_followed() -> None:
    ranked_scope()
    assert ask("c-1")["profile"]["slug"] == "cheap"
    another_gives("incumbent")
    told = ask("c-1")
    assert told["last_profile"] == "incumbent"
    assert Selection.objects.filter(conversation_id="c-1").count() == 2
    ConversationSelection.objects.all().delete()
    assert ask("c-1")["last_profile"] is None


def test_a_conversation_that_this_process_never_saw_goes_on_from_what_the_database_says() -> None:
    ranked_scope()
    ask("c-1")
    believed.forget()
    found: list[Any] = together(8, lambda number: ask("c-1" if number == 4 else f"new-{number}"))
    assert [told["last_profile"] for told in found] == [None] * 4 + ["cheap"] + [None] * 3
    assert Selection.objects.count() == 9


def test_a_conversation_that_others_never_leave_alone_is_answered_and_stored_once() -> None:
    ranked_scope()
    ask("c-1")
    put = type(lanes_store()).put
    tries: list[Any] = []

    def beaten(self: Any, rows: Any, at: Any, beliefs: Any = None) -> Any:
        another_gives("incumbent" if len(tries) % 2 else "dear")
        tries.append(beliefs)
        return put(self, rows, at, beliefs)

    with mock.patch.object(type(lanes_store()), "put", beaten):
        told = ask("c-1")
    assert tries == [["cheap"], ["dear"], None]
    assert told["last_profile"] == "incumbent"
    assert Selection.objects.filter(conversation_id="c-1").count() == 2


@contextmanager
def died() -> Iterator[None]:
    """The kept connections are dead, and the server is back."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        yield
    else:
        [lane] = lanes._free
        with mock.patch.object(lane.store, "put", side_effect=OperationalError("it died")):
            yield


def test_a_kept_connection_that_died_is_replaced_and_nobody_notices() -> None:
    ranked_scope()
    ask("c-0")
    with died():
        told = ask("c-1")
    assert Selection.objects.get(decision_id=told["decision_id"]).source == "remote"
    assert not outage.is_on


def test_a_group_that_meets_an_absent_database_is_in_the_journal_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ranked_scope()
    ask("c-0")
    monkeypatch.setattr(type(journal), "_carry", lambda self: None)
    with mock.patch.object(type(lanes), "run", side_effect=OperationalError("away")):
        found: list[Any] = together(10, lambda number: ask(f"c-{number + 1}"))
    assert {told["reason"] for told in found} == {"ranked"}
    outage.end()
    journal.close()
    assert journal.carry_left_behind() == 10
    assert Selection.objects.filter(source="journal").count() == 10


def test_in_a_transaction_of_the_callers_it_is_committed_with_it() -> None:
    ranked_scope()
    with transaction.atomic():
        select(Asked("aurora", "essayist", "c-1"), "key:test", timezone.now())
        assert Selection.objects.count() == 1
        transaction.set_rollback(True)
    assert Selection.objects.count() == 0


def test_the_front_door_answers_canonical_json(client: Client) -> None:
    ranked_scope()
    answer = client.post(
        "/api/v1/selections", ASKED, content_type="application/json", headers=factories.key("select")
    )
    assert answer.content == canonical_json(answer.json())
