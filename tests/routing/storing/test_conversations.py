"""What a process remembers of conversations: its own at once, others' when told, the newest last, and not for ever."""

from routing.storing.conversations import Conversations

AT = 1_795_867_200.0


def key(number: int) -> tuple[str, str, str]:
    return "aurora", "essayist", f"c-{number}"


def test_an_unknown_conversation_has_no_last_profile() -> None:
    assert Conversations().last(key(1)) is None


def test_the_newest_counts_whoever_tells_it() -> None:
    known = Conversations()
    known.note(key(1), "cheap", AT)
    known.learn([(*key(1), "dear", AT - 1)])
    assert known.last(key(1)) == "cheap"
    known.learn([(*key(1), "dear", AT + 1), (*key(2), "cheap", AT)])
    assert (known.last(key(1)), known.last(key(2))) == ("dear", "cheap")


def test_personas_and_tenants_do_not_meet() -> None:
    known = Conversations()
    known.note(("aurora", "essayist", "c-1"), "cheap", AT)
    assert known.last(("borealis", "essayist", "c-1")) is None
    assert known.last(("aurora", "coder", "c-1")) is None


def test_the_newest_half_is_kept_and_memory_does_not_grow() -> None:
    known = Conversations(kept=100)
    for number in range(1_000):
        known.note(key(number), "cheap", AT)
    assert all(known.last(key(number)) == "cheap" for number in range(900, 1_000))
    assert known.last(key(0)) is None
    assert len(known._young) + len(known._old) <= 200


def test_one_that_goes_on_is_kept() -> None:
    known = Conversations(kept=10)
    for number in range(100):
        known.note(key(number), "cheap", AT)
        known.note(("aurora", "essayist", "goes-on"), "dear", AT + number)
    assert known.last(("aurora", "essayist", "goes-on")) == "dear"
