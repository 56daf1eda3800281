"""Profiles in quarantine, as decisions see them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.circuit import Circuit, Circuits
from routing.engine import (
    Bundle,
    BundlePersona,
    Decision,
    FlagState,
    Reason,
    SelectionProblem,
    Standing,
    StandingOverride,
    canonical_json,
    decide,
    outcome,
)
from routing.evaluating.chances import chances
from tests.routing.cases import NOW, bundle, request
from tests.routing.test_standing import HERE, POOL, override

MINUTE = timedelta(minutes=1)
SLUGS = ("incumbent", "best", "next", "failing", "new")


def circuit(slug: str, id: int = 1, probe: int | None = None, **fields: Any) -> Circuit:
    """Open since a minute ago, for an hour; half-open ``probe`` minutes from now."""
    times = {"opened_at": NOW - MINUTE, "expires_at": NOW + 60 * MINUTE}
    probe_at = None if probe is None else NOW + probe * MINUTE
    return Circuit(id, slug, **{"sentinel": "error_burst", "probe_at": probe_at, **times, **fields})


def policy(
    *circuits: Circuit, overrides: tuple[StandingOverride, ...] = (), probe_share: float = 0.05, **fields: Any
) -> Bundle:
    standing = Standing(overrides, circuits=Circuits(circuits, probe_share), **fields.pop("standing", {}))
    persona = BundlePersona("essayist", True, "incumbent", *fields.pop("shares", ()))
    values = {"standing": standing, "flag": FlagState(everyone=True), "personas": {"essayist": persona}}
    return bundle(*POOL, **{**values, **fields})


def given_by(found: Bundle, **asked: Any) -> tuple[str, Reason]:
    decision = decide(found, request(**asked))
    return decision.profile.slug, decision.reason


def test_a_profile_in_quarantine_gives_way_to_the_next_best_and_it_is_said_why() -> None:
    decision = decide(policy(circuit("best")), request())
    assert (decision.profile.slug, decision.reason, decision.propensity) == ("next", Reason.RANKED, 1.0)
    assert decision.explanation.endswith(
        "Passed over: best (quarantined by sentinel error_burst until 13:00 UTC)."
    )
    why = {card["profile"]: card["why_not"] for card in decision.candidates}
    assert why["best"] == ["quarantined by sentinel error_burst until 13:00 UTC"]
    assert decision.fallback == ("incumbent",)


def test_it_is_neither_explored_nor_kept_nor_preferred() -> None:
    assert given_by(policy(circuit("new"), shares=(1.0,))) == ("best", Reason.RANKED)
    sticky = policy(circuit("next"), shares=(0.0, 0.0, 1.0))
    assert given_by(sticky, last_profile="next") == ("best", Reason.RANKED)
    preferred = policy(circuit("next"), overrides=(override("prefer", "next", **HERE),))
    assert given_by(preferred) == ("best", Reason.RANKED)


@pytest.mark.parametrize("on", [True, False])
def test_a_default_in_quarantine_gives_way_and_comes_last_in_the_chain(on: bool) -> None:
    decision = decide(policy(circuit("incumbent"), flag=FlagState(everyone=on)), request())
    assert (decision.profile.slug, decision.fallback) == ("best", ("next", "incumbent"))
    if not on:
        assert decision.reason is Reason.FLAG_OFF
        assert decision.explanation == (
            "Automatic selection is off for this conversation; incumbent, the scope's default, is quarantined by "
            "sentinel error_burst until 13:00 UTC, and best is next."
        )


def test_with_nothing_else_left_the_default_is_given_and_it_is_said() -> None:
    decision = decide(policy(*(circuit(slug, n) for n, slug in enumerate(SLUGS))), request())
    assert (decision.profile.slug, decision.reason) == ("incumbent", Reason.NO_ELIGIBLE_CANDIDATE)
    assert decision.explanation.endswith(
        "It is quarantined by sentinel error_burst until 13:00 UTC, but nothing else is left."
    )


def test_a_scope_without_scores_keeps_its_default() -> None:
    found = policy(circuit("incumbent"), snapshot=None)
    assert given_by(found) == ("incumbent", Reason.TELEMETRY_STALE)


def test_what_people_exclude_and_what_is_in_quarantine_leave_something_while_they_can() -> None:
    excluded = (override("exclude", "incumbent", 1),)
    everyone = policy(circuit("best", 1), circuit("next", 2), overrides=excluded)
    decision = decide(everyone, request())
    assert (decision.profile.slug, decision.reason) == ("best", Reason.NO_ELIGIBLE_CANDIDATE)
    assert "but nothing else is left" in decision.explanation


def test_a_persons_lock_wins_and_is_marked() -> None:
    decision = decide(policy(circuit("best"), overrides=(override("lock", "best", **HERE),)), request())
    assert (decision.profile.slug, decision.reason) == ("best", Reason.OVERRIDE_LOCK)
    assert "which is quarantined by sentinel error_burst until 13:00 UTC" in decision.explanation


def test_the_kill_switch_stops_quarantines_too() -> None:
    found = policy(circuit("incumbent"), standing={"killed_all": True})
    assert given_by(found) == ("incumbent", Reason.KILL_SWITCH)


def test_what_a_person_put_there_says_so() -> None:
    decision = decide(policy(circuit("incumbent", sentinel="by_hand")), request())
    why = next(card["why_not"] for card in decision.candidates if card["profile"] == "incumbent")
    assert why[0] == "quarantined by a person until 13:00 UTC"


def test_it_begins_and_ends_by_the_clock() -> None:
    found = policy(circuit("best", opened_at=NOW, expires_at=NOW + 2 * MINUTE))
    assert given_by(found, at=NOW - timedelta(microseconds=1))[0] == "best"
    assert given_by(found, at=NOW)[0] == "next"
    assert given_by(found, at=NOW + 2 * MINUTE - timedelta(microseconds=1))[0] == "next"
    assert given_by(found, at=NOW + 2 * MINUTE)[0] == "best"


def spread(found: Bundle, at: Any = NOW, n: int = 4000) -> dict[str, list[Decision]]:
    made: dict[str, list[Decision]] = {}
    for number in range(n):
        decision = decide(found, request(f"c-{number}", at=at))
        made.setdefault(decision.profile.slug, []).append(decision)
    return made


def test_half_open_it_is_probed_by_a_small_share_that_stays_the_same() -> None:
    found = policy(circuit("best", probe=1))
    assert set(spread(found, n=200)) == {"next"}
    later = spread(found, NOW + MINUTE)
    # Hashes, not chance: 4,000 conversations fall the same way each time.
    assert 0.04 < len(later["best"]) / 4000 < 0.06
    assert {d.propensity for d in later["best"]} == {0.05}
    assert {d.propensity for d in later["next"]} == {0.95}
    assert "this conversation is among the 5.00% that probe it" in later["best"][0].explanation
    again = spread(found, NOW + 2 * MINUTE)
    assert [d.request.conversation_id for d in again["best"]] == [
        d.request.conversation_id for d in later["best"]
    ]
    assert chances(found, request(at=NOW + MINUTE)).profiles == {"best": 0.05, "next": 0.95}


def test_of_two_quarantines_the_one_that_is_open_holds() -> None:
    found = policy(circuit("best", 1, probe=0), circuit("best", 2, sentinel="served_other"))
    decision = decide(found, request())
    assert decision.profile.slug == "next"
    assert "served_other" in decision.explanation
    assert set(spread(found, n=500)) == {"next"}


def test_without_a_share_nobody_probes() -> None:
    assert set(spread(policy(circuit("best", probe=0), probe_share=0.0), n=500)) == {"next"}


def test_a_half_open_preference_is_drawn_and_its_propensity_says_so() -> None:
    found = policy(circuit("new", probe=0), overrides=(override("prefer", "new", **HERE),))
    made = spread(found)
    assert {d.propensity for d in made["new"]} == {0.05}
    assert {(d.reason, d.propensity) for d in made["best"]} == {(Reason.RANKED, 0.95)}


def test_a_bundle_without_quarantines_reads_as_before_there_were_any() -> None:
    assert "circuits" not in policy().to_dict()["standing"]
    old = policy().to_dict()
    assert Bundle.from_dict(old).standing.circuits == Circuits()


circuits_of = st.lists(
    st.builds(
        circuit,
        st.sampled_from(SLUGS),
        probe=st.sampled_from([None, -1, 1]),
        sentinel=st.sampled_from(["error_burst", "by_hand"]),
        opened_at=st.sampled_from([NOW - MINUTE, NOW, NOW + MINUTE]),
        expires_at=st.sampled_from([NOW, NOW + timedelta(seconds=1)]),
    ),
    max_size=6,
).map(lambda items: tuple(replace(item, id=number) for number, item in enumerate(items)))


@given(circuits_of, st.sampled_from([(), (0.3,), (0.3, 0.2)]), st.sampled_from([None, "next", "best"]))
def test_the_chances_of_a_scope_add_up_and_a_decision_has_its_own(
    circuits: tuple[Circuit, ...], shares: tuple[float, ...], last: str | None
) -> None:
    found = policy(*circuits, shares=shares, probe_share=0.25, flag=FlagState(percent=60.0))
    asked = request(last_profile=last)
    split = chances(found, asked)
    assert sum(split.profiles.values()) + split.refused == pytest.approx(1)
    decision = decide(found, asked)
    assert decision.propensity == split.profiles[decision.profile.slug]
    assert outcome(found, asked).profile == decision.profile.slug


@given(circuits_of, st.sampled_from([(), (1.0,), (0.0, 1.0)]), st.sampled_from([None, "next", "best"]))
def test_an_open_circuit_does_what_an_exclusion_by_people_would(
    circuits: tuple[Circuit, ...], shares: tuple[float, ...], last: str | None
) -> None:
    """Naively: what is in quarantine is excluded, unless that leaves nobody."""
    found = policy(*circuits, shares=shares, probe_share=0.0)
    held = {one.profile for one in circuits if one.opened_at <= NOW < one.expires_at}
    excluded = tuple(override("exclude", slug, n) for n, slug in enumerate(sorted(held)))
    decision = decide(found, request(last_profile=last))
    try:
        expected = decide(policy(overrides=excluded, shares=shares), request(last_profile=last))
    except SelectionProblem:
        # With the default back as the last resort, something stands behind a trial of what is healthy.
        assert decision.profile.slug == ("new" if decision.reason is Reason.EXPLORE else "incumbent")
        return
    assert (decision.profile.slug, decision.reason) == (expected.profile.slug, expected.reason)
    assert [slug for slug in decision.fallback if slug not in held] == list(expected.fallback)
    assert set(decision.fallback) & held <= {"incumbent"}


@given(circuits_of, st.floats(0, 0.5))
def test_quarantines_survive_json_and_a_tenants_view(circuits: tuple[Circuit, ...], share: float) -> None:
    found = policy(*circuits, probe_share=share)
    again = Bundle.from_dict(orjson.loads(canonical_json(found.to_dict())))
    # Without any there is no share to keep.
    assert again.standing == (found.standing if circuits else Standing())
    mine = again.for_tenants(frozenset({"aurora"}))
    assert mine.standing.circuits == again.standing.circuits
    assert decide(mine, request()).core() == decide(found, request()).core()
