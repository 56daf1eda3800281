"""What conversations were given last, as a process remembers it that does not ask the database each time.

It knows its own decisions at once, and those of others as the database tells of them, a moment after they are there.
"""

from collections.abc import Iterable

from routing.storing.rows import Key, News

#: Conversations remembered at least; at most twice as many.
KEPT = 50_000


class Conversations:
    """Safe between threads: each step is one operation on a dictionary. Names stand in it by their hash (64 bits), so
    that a hundred thousand of them take some ten megabytes."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._young: dict[int, tuple[float, str]] = {}
        self._old: dict[int, tuple[float, str]] = {}

    def last(self, key: Key) -> str | None:
        name = hash(key)
        found = self._young.get(name) or self._old.get(name)
        return found[1] if found is not None else None

    def note(self, key: Key, profile: str, at: float) -> None:
        """It was given this at this time (seconds since 1970); what is older than what is known is passed over."""
        name = hash(key)
        known = self._young.get(name) or self._old.get(name)
        if known is not None and known[0] > at:
            return
        self._young[name] = at, profile
        if len(self._young) >= self._kept:
            # The older half goes as a whole, without looking at each.
            self._old, self._young = self._young, {}

    def learn(self, told: Iterable[News]) -> None:
        """What others gave."""
        for tenant, persona, conversation, profile, at in told:
            self.note((tenant, persona, conversation), profile, at)

    def forget(self) -> None:
        self._young, self._old = {}, {}
