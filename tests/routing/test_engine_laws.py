"""Laws that hold for any bundle and conversation."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID, uuid5

import orjson
from hypothesis import given
from hypothesis import strategies as st

from routing.engine import Bundle, FlagState, Reason, SelectionRequest, canonical_json, decide
from tests.routing.cases import NOW, bundle, pools, profile, request, scope, wild_evidence

bundles = st.builds(
    lambda items, percent, off, as_of: bundle(
        *items,
        scores=scope(items, as_of=as_of),
        profiles=[profile(slug, enabled=False) for slug in off],
        flag=FlagState(everyone=None, percent=percent, salt="s"),
    ),
    st.one_of(pools(), pools(wild_evidence)),
    st.sampled_from([0.0, 50.0, 100.0]),
    st.sets(st.sampled_from(["p0", "p1", "p2"])),
    st.sampled_from([None, NOW, NOW - timedelta(hours=1)]),
)


@given(bundles, st.text(min_size=1, max_size=20))
def test_a_selection_always_returns_a_usable_profile_and_a_sound_chain(
    found: Bundle, conversation: str
) -> None:
    decision = decide(found, request(conversation))
    assert decision.profile.slug in found.usable
    chain = decision.fallback
    assert len(set(chain)) == len(chain)
    assert decision.profile.slug not in chain
    assert set(chain) <= set(found.usable)
    if decision.profile.slug != "incumbent":
        assert chain[-1] == "incumbent"
    winners = [card["profile"] for card in decision.candidates if card["eligible"]]
    assert decision.reason is not Reason.RANKED or decision.profile.slug == winners[0]


@given(bundles, st.text(min_size=1, max_size=20))
def test_the_same_bundle_and_request_give_the_same_bytes_also_after_a_journey_as_json(
    found: Bundle, conversation: str
) -> None:
    asked = request(conversation)
    first = canonical_json(decide(found, asked).to_dict())
    travelled = Bundle.from_dict(orjson.loads(canonical_json(found.to_dict())))
    assert travelled == found
    assert canonical_json(decide(found, asked).to_dict()) == first
    assert canonical_json(decide(travelled, asked).to_dict()) == first


times = st.datetimes(
    timezones=st.one_of(st.just(UTC), st.integers(-720, 840).map(lambda m: timezone(timedelta(minutes=m))))
)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), times, st.sampled_from([None, "r-1"]))
def test_a_decision_is_named_by_its_content_and_tells_its_time_in_iso_form(
    conversation: str, at: datetime, request_id: str | None
) -> None:
    asked = request(conversation, at=at, request_id=request_id)
    decision = decide(bundle(), asked)
    content = canonical_json([decision.bundle_version, asked.to_dict()]).decode()
    assert decision.decision_id == str(uuid5(UUID("c2b7f9a4-6f1e-5d38-9f60-0c8a5d5f7e11"), content))
    assert decision.core()["decided_at"] == asked.to_dict()["decided_at"] == at.isoformat()
    assert SelectionRequest.from_dict(decision.core()) == asked


@given(bundles)
def test_candidates_are_shown_in_order_of_rank_and_only_usable_ones_have_one(found: Bundle) -> None:
    shown = decide(found, request()).candidates
    eligible = [card for card in shown if card["eligible"]]
    assert shown[: len(eligible)] == eligible
    assert [card["rank"] for card in eligible] == list(range(1, len(eligible) + 1))
    assert {card["profile"] for card in eligible} <= set(found.usable)
    assert all(bool(card["why_not"]) is not card["eligible"] for card in shown)
    assert all(card["rank"] not in (None, 1) for card in shown if card["contrast"])
    costs = {card["profile"]: Decimal(card["cost_per_completion"] or 0) for card in shown}
    for card in eligible[1:]:
        # Who costs more than the default lost by that: no lever is named.
        assert card["contrast"] or costs[card["profile"]] > costs["incumbent"]


@given(bundles, st.text(min_size=1, max_size=20))
def test_a_ranked_profile_shows_that_it_won(found: Bundle, conversation: str) -> None:
    decision = decide(found, request(conversation))
    if decision.reason is Reason.RANKED:
        winner = decision.candidates[0]
        assert (winner["profile"], winner["rank"], winner["contrast"]) == (decision.profile.slug, 1, None)
