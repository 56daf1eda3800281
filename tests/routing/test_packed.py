"""Scorecards read back from a snapshot take little memory, and nobody who reads them can tell."""

import sys
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import orjson
import pytest

from bench.deciding import _case
from routing.engine import BundleSnapshot, ScopeScores, canonical_json
from routing.packed import Kept, PackedCards
from routing.snapshots import score_all

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def scores() -> ScopeScores:
    catalogue, windows = _case(1, 20, NOW)
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


def test_a_snapshot_reads_the_same_from_json_and_from_its_values() -> None:
    one = scores()
    made = BundleSnapshot("7", NOW, {("aurora", "essayist"): one, ("borea", "tutor"): one}, {"essayist": one})
    read = BundleSnapshot.from_json("7", canonical_json(made.to_dict()))
    assert read == made == BundleSnapshot.from_dict(made.to_dict())
    assert read.scopes["aurora", "essayist"].rules is read.scopes["borea", "tutor"].rules
    without = BundleSnapshot("7", NOW, {}, {"essayist": replace(one, rules=None, as_of=None)})
    assert BundleSnapshot.from_json("7", canonical_json(without.to_dict())) == without


def test_what_is_no_snapshot_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        BundleSnapshot.from_json("7", b'{"scopes": {}}')


def test_others_are_not_equal() -> None:
    one, two = (
        PackedCards(orjson.dumps([card.to_dict() for card in cards])) for cards in (scores().scorecards, ())
    )
    assert one != two
    assert list(two) == []


def test_they_take_less_than_a_fifth_of_their_json() -> None:
    told = orjson.dumps([card.to_dict() for card in scores().scorecards])
    assert sys.getsizeof(PackedCards(told)._packed) < len(told) / 5


def test_of_what_is_kept_the_oldest_goes() -> None:
    kept = Kept(2)
    for key in "abca":
        kept[key] = key
    assert list(kept) == ["c", "a"]
