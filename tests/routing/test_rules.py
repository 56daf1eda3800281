"""Holdout, exploration, stickiness, exclusions and propensities, one rule at a time."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.engine import Bundle, BundlePersona, Decision, FlagState, Reason, SelectionProblem, decide
from routing.scorecard import DEARER
from tests.routing.cases import RULES, bundle, evidence, pools, profile, request, scope, wild_evidence

BEST = evidence("best", cost="0.002")
NEXT = evidence("next", cost="0.0022")
FAR = evidence("far", cost="0.009")
INCUMBENT = evidence("incumbent", cost="0.01")
FAILING = evidence("failing", cost="0.0001", success=0.3)
NEW = [evidence("new-1", n=10, cost="0.001"), evidence("new-2", n=12, cost="0.001")]
POOL = [INCUMBENT, BEST, NEXT, FAR, FAILING, *NEW]
CONVERSATIONS = [f"c-{number}" for number in range(4000)]


def policy(*items: Any, **persona: Any) -> Bundle:
    one = BundlePersona("essayist", enabled=True, default_profile="incumbent", **persona)
    return bundle(*(items or POOL), personas={"essayist": one}, flag=FlagState(everyone=True, salt="s"))


def all_of(found: Bundle, **asked: Any) -> list[Decision]:
    return [decide(found, request(conversation, **asked)) for conversation in CONVERSATIONS]


def test_a_stable_share_is_held_out_on_the_default() -> None:
    found = policy(holdout_share=0.1)
    held = [d for d in all_of(found) if d.reason is Reason.HOLDOUT]
    assert 320 < len(held) < 480
    assert {d.profile.slug for d in held} == {"incumbent"}
    assert "10.00%" in held[0].explanation
    again = policy(BEST, INCUMBENT, holdout_share=0.1)
    assert [d.request for d in all_of(again) if d.reason is Reason.HOLDOUT] == [d.request for d in held]


def test_raising_the_holdout_never_takes_a_conversation_out_of_it() -> None:
    small, large = (
        {d.request.conversation_id for d in all_of(policy(holdout_share=share)) if d.reason is Reason.HOLDOUT}
        for share in (0.05, 0.2)
    )
    assert small < large


def test_with_the_flag_off_nobody_is_held_out_and_nobody_explores() -> None:
    found = replace(policy(holdout_share=1.0, exploration_share=1.0), flag=FlagState(everyone=False))
    assert decide(found, request()).reason is Reason.FLAG_OFF


def test_a_stable_bounded_share_tries_unproven_profiles_evenly() -> None:
    found = policy(exploration_share=0.1)
    tried = [d for d in all_of(found) if d.reason is Reason.EXPLORE]
    assert 320 < len(tried) < 480
    by_profile = {slug: sum(d.profile.slug == slug for d in tried) for slug in ("new-1", "new-2")}
    assert sum(by_profile.values()) == len(tried)
    assert min(by_profile.values()) > len(tried) * 0.4
    assert tried[0].propensity == pytest.approx(0.05)
    assert "not proved" in tried[0].explanation


@pytest.mark.parametrize("gone", ["new-1", "new-2"])
def test_an_exploring_conversation_keeps_its_profile_while_others_come_and_go(gone: str) -> None:
    before = {d.request.conversation_id: d.profile.slug for d in all_of(policy(exploration_share=0.2))}
    fewer = policy(*(item for item in POOL if item.profile != gone), exploration_share=0.2)
    for decision in all_of(fewer):
        if before[decision.request.conversation_id] not in (gone, "best"):
            assert decision.profile.slug == before[decision.request.conversation_id]


def test_a_failing_disabled_or_excluded_profile_is_never_tried() -> None:
    found = policy(FAILING, INCUMBENT, BEST, *NEW, exploration_share=1.0)
    forbidden = replace(found, profiles={**found.profiles, "new-1": profile("new-1", enabled=False)})
    assert {d.profile.slug for d in all_of(forbidden)} == {"new-2"}
    assert {d.profile.slug for d in all_of(forbidden, exclude=("new-2",))} == {"best"}


def test_nothing_unproven_nothing_to_try() -> None:
    assert {d.reason for d in all_of(policy(BEST, INCUMBENT, FAILING, exploration_share=1.0))} == {
        Reason.RANKED
    }


def test_a_conversation_stays_while_less_than_the_margin_behind() -> None:
    stays = decide(policy(switch_margin=0.05), request(last_profile="next"))
    assert (stays.profile.slug, stays.reason) == ("next", Reason.STICKY)
    assert "0.010 behind the best, best" in stays.explanation
    assert stays.fallback[0] == "best"
    goes = decide(policy(switch_margin=0.05), request(last_profile="far"))
    assert (goes.profile.slug, goes.reason) == ("best", Reason.RANKED)


def test_a_margin_of_zero_never_holds_anyone() -> None:
    assert decide(policy(), request(last_profile="best")).reason is Reason.RANKED


def test_a_last_profile_that_is_the_best_is_ranked_not_held() -> None:
    decision = decide(policy(switch_margin=1.0), request(last_profile="best"))
    assert (decision.profile.slug, decision.reason) == ("best", Reason.RANKED)


@pytest.mark.parametrize("last", ["failing", "new-1", "gone", ""])
def test_a_last_profile_that_is_not_eligible_holds_nobody(last: str) -> None:
    assert decide(policy(switch_margin=1.0), request(last_profile=last)).profile.slug == "best"


def test_an_excluded_last_profile_holds_nobody() -> None:
    asked = request(last_profile="next", exclude=("next",))
    assert decide(policy(switch_margin=1.0), asked).profile.slug == "best"


def test_excluded_profiles_are_neither_given_nor_next_in_the_chain_and_say_why() -> None:
    decision = decide(policy(), request(exclude=("best", "next")))
    assert decision.profile.slug == "far"
    assert decision.fallback == ("incumbent",)
    shown = {card["profile"]: card for card in decision.candidates}
    assert shown["best"]["why_not"] == ["excluded by the request"]
    assert (shown["far"]["rank"], shown["far"]["contrast"]) == (1, None)


def test_an_excluded_default_gives_way_to_the_next_in_the_chain() -> None:
    off = replace(policy(), flag=FlagState(everyone=False))
    decision = decide(off, request(exclude=("incumbent",)))
    assert (decision.profile.slug, decision.reason) == ("best", Reason.FLAG_OFF)
    assert "excluded" in decision.explanation
    assert "incumbent" not in decision.fallback


def test_with_everything_excluded_there_is_nothing_to_give() -> None:
    with pytest.raises(SelectionProblem) as caught:
        decide(policy(INCUMBENT, *NEW), request(exclude=("incumbent",)))
    assert (caught.value.status, caught.value.code) == (409, "all_excluded")


def test_propensities_add_up_over_the_routes_to_a_profile() -> None:
    found = replace(
        policy(holdout_share=0.1, exploration_share=0.2),
        flag=FlagState(everyone=None, percent=50.0, salt="s"),
    )
    told = {d.profile.slug: d.propensity for d in all_of(found)}
    assert told == {
        "incumbent": pytest.approx(0.5 + 0.5 * 0.1),
        "best": pytest.approx(0.5 * 0.9 * 0.8),
        "new-1": pytest.approx(0.5 * 0.9 * 0.1),
        "new-2": pytest.approx(0.5 * 0.9 * 0.1),
    }


def test_propensities_are_the_shares_of_conversations_that_really_get_a_profile() -> None:
    found = replace(
        policy(holdout_share=0.1, exploration_share=0.2),
        flag=FlagState(everyone=None, percent=60.0, salt="t"),
    )
    decisions = all_of(found)
    for slug in {d.profile.slug for d in decisions}:
        given = [d for d in decisions if d.profile.slug == slug]
        assert len(given) / len(decisions) == pytest.approx(given[0].propensity, abs=0.03)


shares = st.sampled_from([0.0, 0.02, 0.3, 1.0])
policies = st.builds(
    lambda items, held, tried, margin, percent: replace(
        bundle(
            *items,
            scores=scope(items, RULES),
            personas={
                "essayist": BundlePersona("essayist", True, "incumbent", tried, held, margin),
            },
        ),
        flag=FlagState(everyone=None, percent=percent, salt="s"),
    ),
    st.one_of(pools(), pools(wild_evidence)),
    shares,
    shares,
    st.sampled_from([0.0, 0.05, 1.0]),
    st.sampled_from([0.0, 30.0, 100.0]),
)


@given(
    policies,
    st.text(min_size=1, max_size=8),
    st.sets(st.sampled_from(["p0", "p1", "incumbent"])),
    st.sampled_from([None, "p0", "p1", "incumbent"]),
)
def test_whatever_is_asked_the_answer_is_usable_unexcluded_likely_and_explained(
    found: Bundle, conversation: str, excluded: set[str], last: str | None
) -> None:
    asked = request(conversation, exclude=tuple(sorted(excluded)), last_profile=last)
    shown = decide(found, request(conversation)).candidates
    left = {card["profile"] for card in shown if all(why.startswith(DEARER) for why in card["why_not"])}
    if "incumbent" in excluded and not left - excluded:
        with pytest.raises(SelectionProblem, match="excludes it"):
            decide(found, asked)
        return
    decision = decide(found, asked)
    assert decision.profile.slug in found.usable
    assert decision.profile.slug not in excluded
    assert not excluded & set(decision.fallback)
    assert 0 < decision.propensity <= 1
    assert decision.explanation
    verdicts = {c["profile"]: {gate["verdict"] for gate in c["gates"]} for c in decision.candidates}
    if decision.reason is Reason.EXPLORE:
        assert "FAIL" not in verdicts[decision.profile.slug]
        assert "UNPROVEN" in verdicts[decision.profile.slug]
    if decision.reason in (Reason.RANKED, Reason.STICKY):
        assert verdicts[decision.profile.slug] == {"PASS"}


DEAR = evidence("dear", cost="0.05", success=0.99)


def test_who_costs_more_than_the_default_wins_nothing_but_stands_in_reserve() -> None:
    found = bundle(evidence("incumbent"), evidence("cheap", cost="0.002"), DEAR)
    decision = decide(found, request())
    assert (decision.profile.slug, decision.fallback) == ("cheap", ("dear", "incumbent"))
    [card] = [card for card in decision.candidates if card["profile"] == "dear"]
    assert card["why_not"] == [
        "costs more than the default ($0.050000 per completion, not $0.010000), which is not proved to miss the SLA"
    ]


def test_without_the_default_those_in_reserve_join_the_rank_after_the_others() -> None:
    found = bundle(
        evidence("incumbent"), evidence("cheap", cost="0.002"), DEAR, evidence("dearer", cost="0.06")
    )
    decision = decide(found, request(exclude=("incumbent",)))
    assert (decision.profile.slug, decision.fallback) == ("cheap", ("dear", "dearer"))
    last = decide(found, request(exclude=("cheap", "incumbent")))
    assert (last.profile.slug, last.reason, last.fallback) == ("dear", Reason.RANKED, ("dearer",))
    assert [card["rank"] for card in last.candidates if card["eligible"]] == [1, 2]


def test_a_default_that_is_proved_to_fail_gives_way_to_the_cheapest_that_meets_the_sla() -> None:
    found = bundle(evidence("incumbent", success=0.2), DEAR, evidence("less", cost="0.03", success=0.8))
    decision = decide(found, request())
    assert (decision.profile.slug, decision.reason, decision.fallback) == (
        "less",
        Reason.RANKED,
        ("dear", "incumbent"),
    )


def test_a_profile_that_is_known_to_cost_more_than_the_default_is_not_explored() -> None:
    new = evidence("new", n=5)
    unproven = evidence("dear", cost="0.05", success=0.61)
    curious = BundlePersona("essayist", True, "incumbent", 1.0, 0.0, 0.0)
    found = replace(bundle(evidence("incumbent"), new, unproven), personas={"essayist": curious})
    assert {decide(found, request(f"c-{n}")).profile.slug for n in range(30)} == {"new"}
