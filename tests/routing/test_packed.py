"""Scorecards read back from a snapshot take little memory, and nobody who reads them can tell."""

import sys
from datetime import UTC, datetime

import orjson

from bench.deciding import _case
from routing.engine import ScopeScores
from routing.packed import PackedCards
from routing.snapshots import score_all


def scores() -> ScopeScores:
    catalogue, windows = _case(1, 20, datetime(2026, 7, 1, tzinfo=UTC))
    return next(iter(score_all(catalogue, windows).scopes.values()))


def test_they_are_as_before_they_were_packed() -> None:
    made = scores()
    read = ScopeScores.from_dict(orjson.loads(orjson.dumps(made.to_dict())))
    assert isinstance(read.scorecards, PackedCards)
    assert read == made
    assert made == read
    assert read.to_dict() == made.to_dict()
    assert (list(read.scorecards), len(read.scorecards)) == (list(made.scorecards), 20)
    assert (read.scorecards[0], read.scorecards[-1]) == (made.scorecards[0], made.scorecards[-1])
    assert read.ranked == made.ranked
    assert hash(read.scorecards) == hash(made.scorecards)


def test_others_are_not_equal() -> None:
    one, two = (PackedCards([card.to_dict() for card in cards]) for cards in (scores().scorecards, ()))
    assert one != two
    assert list(two) == []


def test_they_take_less_than_a_fifth_of_their_json() -> None:
    told = [card.to_dict() for card in scores().scorecards]
    assert sys.getsizeof(PackedCards(told)._packed) < len(orjson.dumps(told)) / 5
