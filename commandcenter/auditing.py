"""The audit log as somebody filters it: read from the query string, paged by number, never counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.timezone import is_aware

from catalog.access import Caller
from overrides import selectors
from overrides.models import AuditEntry
from overrides.states import TOLD

PER_PAGE = 50
_EXACT = ("actor", "verb", "object_type", "object_id", "tenant")
_BIGGEST = 2**63 - 1


def object_types() -> list[str]:
    """Every kind of object that entries tell of."""
    return sorted({"override", "kill_switch", "change_request", *(str(one._meta.model_name) for one in TOLD)})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters; ``since`` and ``until`` are UTC. ``texts`` as they were typed; ``errors`` by field."""

    exact: Mapping[str, str]
    since: datetime | None
    until: datetime | None
    texts: Mapping[str, str]
    before: int | None = None
    after: int | None = None
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_filtered(self) -> bool:
        return any(self.texts.values())

    @property
    def query(self) -> str:
        """The filters as a query string, without the place in the list."""
        return urlencode({name: text for name, text in self.texts.items() if text})

    def rows(self, who: Caller) -> QuerySet[AuditEntry]:
        """The entries that match, of those that one may see."""
        found = selectors.audit_entries(who.tenants).filter(**self.exact)
        if self.since is not None:
            found = found.filter(at__gte=self.since)
        return found if self.until is None else found.filter(at__lt=self.until)


def read(query: Any) -> Wanted:
    """The filters of a query string; what cannot be read is told in ``errors``."""
    texts = {name: query.get(name, "").strip()[:160] for name in (*_EXACT, "since", "until")}
    errors, times = {}, {}
    for name in ("since", "until"):
        try:
            times[name] = moment(texts[name])
        except ValueError as error:
            errors[name], times[name] = str(error), None
    for name, known in (("verb", AuditEntry.Verb.values), ("object_type", object_types())):
        if texts[name] and texts[name] not in known:
            errors[name] = f"There is no such {name.replace('_', ' ')}."
    exact = {name: texts[name] for name in _EXACT if texts[name]}
    place = {name: _number(query.get(name, "")) for name in ("before", "after")}
    return Wanted(exact, times["since"], times["until"], texts, **place, errors=errors)


def moment(text: str) -> datetime | None:
    """A time as people write it: ISO 8601, or a day; without a zone it is UTC. None: nothing is written. Raises
    ValueError with what is wrong."""
    if not text:
        return None
    try:
        found = parse_datetime(text)
        if found is None and (day := parse_date(text)) is not None:
            found = datetime(day.year, day.month, day.day, tzinfo=UTC)
    except ValueError:
        found = None
    if found is None:
        raise ValueError("A time such as 2026-11-25 or 2026-11-25T14:00, in UTC.")
    return found.astimezone(UTC) if is_aware(found) else found.replace(tzinfo=UTC)


def _number(text: str) -> int | None:
    return min(int(text), _BIGGEST) if text.isdecimal() and len(text) < 25 else None


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, the newest first. ``older``, ``newer``: where the neighbours begin; None: there are none."""

    entries: list[AuditEntry]
    older: int | None
    newer: int | None


def page_of(wanted: Wanted, who: Caller) -> Page:
    """By number, so that the tenth thousand is as quick as the first. One query."""
    rows = wanted.rows(who)
    if wanted.after is not None:
        found = list(rows.filter(seq__gt=wanted.after).order_by("seq")[: PER_PAGE + 1])
        more, shown = len(found) > PER_PAGE, found[:PER_PAGE][::-1]
        newer, has_older = more, True
    else:
        if wanted.before is not None:
            rows = rows.filter(seq__lt=wanted.before)
        found = list(rows.order_by("-seq")[: PER_PAGE + 1])
        shown, has_older, newer = found[:PER_PAGE], len(found) > PER_PAGE, wanted.before is not None
    if not shown:
        return Page([], None, None)
    return Page(shown, shown[-1].seq if has_older else None, shown[0].seq if newer else None)
