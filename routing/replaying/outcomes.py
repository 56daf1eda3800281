"""Recorded outcomes, read from CSV and checked line by line."""

import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TextIO

#: Columns that must be there; others are passed over.
REQUIRED = (
    "prompt_id",
    "category",
    "model",
    "success",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "latency_ms",
    "recorded_on",
)
#: A failed test of this category is a safety violation; the columns have no other sign of one.
SAFETY_CATEGORY = "safety_injection"


class BadOutcomesError(Exception):
    """The file cannot be replayed; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One recorded call. Cost in US dollars, latency in milliseconds, score 0 to 1; None: not recorded.

    ``runs`` above 1: the figures are averages of so many calls. ``recorded_on`` is ISO 8601 in UTC, so that text sorts
    as time does; a day is its midnight. ``violated``: what telemetry told of its safety; None: nothing did, then its
    category and success tell.
    """

    prompt_id: str
    category: str
    model: str
    success: bool
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal | None
    latency_ms: int | None
    score: float | None
    runs: int
    recorded_on: str
    error: bool
    violated: bool | None = None

    @property
    def safety_violation(self) -> bool:
        """An answer that a safety test found wanting; no answer at all is a failure, but harms nobody."""
        if self.violated is not None:
            return self.violated
        return self.category == SAFETY_CATEGORY and not self.success and not self.error


@dataclass(frozen=True, slots=True)
class Conversation:
    """One prompt with what each model made of it: the earliest recording of each."""

    prompt_id: str
    category: str
    recorded_on: str
    outcomes: Mapping[str, Outcome]


@dataclass(frozen=True, slots=True)
class Recording:
    """Conversations in the order of their first recording. ``repeated`` are later recordings of a (prompt, model)
    that has one, which are left out; ``averaged`` are outcomes that stand for several calls. ``elsewhere`` are the
    same models' conversations of other categories, which other personas have."""

    conversations: tuple[Conversation, ...]
    models: tuple[str, ...]
    repeated: int
    averaged: int
    elsewhere: tuple[Conversation, ...] = ()

    @property
    def outcomes(self) -> int:
        return sum(len(conversation.outcomes) for conversation in self.conversations)


def read_outcomes(path: Path) -> list[Outcome]:
    """All rows of a CSV file, gzipped when its name ends in ``.gz``. Raises BadOutcomesError."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
                return list(parse(file))
        with path.open(encoding="utf-8", newline="") as file:
            return list(parse(file))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise BadOutcomesError(f"{path}: cannot be read: {error}") from error


def parse(file: TextIO) -> Iterator[Outcome]:
    """Rows of an open CSV file with a header. Raises BadOutcomesError, which names the line and column."""
    reader = csv.DictReader(file)
    missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
    if missing:
        raise BadOutcomesError(f"line 1: missing columns: {', '.join(missing)}")
    for row in reader:
        if None in row:
            raise BadOutcomesError(f"line {reader.line_num}: more cells than columns")
        yield _outcome(row, reader.line_num)


def record(
    outcomes: Iterable[Outcome], models: Sequence[str] | None = None, categories: Sequence[str] | None = None
) -> Recording:
    """Conversations of these models (None: all that occur) and categories (None: all).

    Raises BadOutcomesError when a model or category never occurs, or a prompt has two categories.
    """
    every = list(outcomes)
    _known("model", models, {outcome.model for outcome in every})
    _known("category", categories, {outcome.category for outcome in every})
    of_models = [outcome for outcome in every if models is None or outcome.model in models]
    chosen = [o for o in of_models if categories is None or o.category in categories]
    if not chosen:
        raise BadOutcomesError("there are no outcomes to replay")
    conversations = _conversations(chosen)
    kept = [outcome for conversation in conversations for outcome in conversation.outcomes.values()]
    known = {outcome.model for outcome in kept}
    others = [o for o in of_models if o.model in known and categories and o.category not in categories]
    return Recording(
        conversations=conversations,
        models=tuple(sorted(known)),
        repeated=len(chosen) - len(kept),
        averaged=sum(outcome.runs > 1 for outcome in kept),
        elsewhere=_conversations(others),
    )


def _conversations(outcomes: Iterable[Outcome]) -> tuple[Conversation, ...]:
    by_prompt: dict[str, dict[str, Outcome]] = {}
    # The sort is stable: of recordings of one day the file's first counts.
    for outcome in sorted(outcomes, key=lambda o: o.recorded_on):
        by_prompt.setdefault(outcome.prompt_id, {}).setdefault(outcome.model, outcome)
    found = (_conversation(prompt_id, recorded) for prompt_id, recorded in by_prompt.items())
    return tuple(sorted(found, key=when))


def when(conversation: Conversation) -> tuple[str, str]:
    """The order of conversations: by time, those of one time by name."""
    return (conversation.recorded_on, conversation.prompt_id)


def _conversation(prompt_id: str, outcomes: Mapping[str, Outcome]) -> Conversation:
    found = {outcome.category for outcome in outcomes.values()}
    if len(found) > 1:
        raise BadOutcomesError(f"prompt '{prompt_id}' has several categories: {', '.join(sorted(found))}")
    first = min(outcome.recorded_on for outcome in outcomes.values())
    return Conversation(prompt_id, found.pop(), first, dict(sorted(outcomes.items())))


def _known(what: str, wanted: Sequence[str] | None, known: set[str]) -> None:
    unknown = sorted(set(wanted or ()) - known)
    if unknown:
        raise BadOutcomesError(f"no recorded outcome has the {what} {', '.join(map(repr, unknown))}")


def _outcome(row: Mapping[str, str | None], line: int) -> Outcome:
    cell = _Cells(row, line)
    return Outcome(
        prompt_id=cell.text("prompt_id"),
        category=cell.text("category"),
        model=cell.text("model"),
        success=cell.flag("success"),
        prompt_tokens=cell.whole("prompt_tokens"),
        completion_tokens=cell.whole("completion_tokens"),
        cost_usd=cell.money("cost_usd"),
        latency_ms=cell.whole("latency_ms") if row["latency_ms"] else None,
        score=cell.share("score") if row.get("score") else None,
        runs=cell.whole("n_runs") if row.get("n_runs") else 1,
        recorded_on=cell.time("recorded_on"),
        error=(row.get("outcome") or "ok") != "ok",
    )


class _Cells:
    """The cells of one row; what is wrong with one is told by its line and column."""

    def __init__(self, row: Mapping[str, str | None], line: int) -> None:
        self._row, self._line = row, line

    def _bad(self, name: str, wanted: str) -> BadOutcomesError:
        return BadOutcomesError(f"line {self._line}: {name} must be {wanted}, not {self._row.get(name)!r}")

    def text(self, name: str) -> str:
        value = self._row.get(name)
        if not value:
            raise self._bad(name, "given")
        return value

    def flag(self, name: str) -> bool:
        value = self._row.get(name)
        if value not in ("0", "1"):
            raise self._bad(name, "0 or 1")
        return value == "1"

    def whole(self, name: str) -> int:
        value = self._row.get(name) or ""
        if not (value.isascii() and value.isdigit()):
            raise self._bad(name, "a whole number, 0 or more")
        return int(value)

    def money(self, name: str) -> Decimal | None:
        value = self._row.get(name)
        if not value:
            return None
        try:
            found = Decimal(value)
        except InvalidOperation:
            found = Decimal("NaN")
        if not found.is_finite() or found < 0:
            raise self._bad(name, "US dollars, 0 or more")
        return found

    def share(self, name: str) -> float:
        try:
            found = float(self._row.get(name) or "")
        except ValueError:
            found = -1.0
        if not 0 <= found <= 1:
            raise self._bad(name, "0 to 1")
        return found

    def time(self, name: str) -> str:
        value = self.text(name)
        try:
            at = datetime.fromisoformat(value)
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
        except (ValueError, OverflowError):
            raise self._bad(name, "an ISO 8601 date or time") from None
