"""Logged decisions made again under both policies: observations, or why not."""

import uuid
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from catalog.models import ModelProfile, Persona, ScopeDefault
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import Flag
from routing.archive import archive
from routing.bundle import current_bundle, forget_bundle
from routing.decision import SelectionProblem, SelectionRequest
from routing.engine import decide
from routing.evaluating.candidate import Candidate, Candidates, candidate_of
from routing.evaluating.observing import LeftOut, Observed, Observer
from routing.logged.decisions import DecisionOutcome, LoggedDecision
from routing.logged.scope import Scope
from routing.logged.selections import LoggedSelection
from routing.models import PolicyRevision
from telemetry.clickhouse import get_clickhouse
from tests import factories
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
HERE = Scope("aurora", "essayist")
FINE = DecisionOutcome(1, Decimal("0.01"), True, False, False, False)


@pytest.fixture(autouse=True)
def _scope() -> None:
    ranked_scope(holdout_share=Decimal("0.25"))


def decided(conversation: str = "c-1", last: str | None = None, **fields: Any) -> LoggedDecision:
    """As the live policy decides now, and as it would be logged."""
    bundle, at = current_bundle(), timezone.now()
    made = decide(
        bundle, SelectionRequest("aurora", "essayist", conversation, at, "essay", last_profile=last)
    )
    selection = LoggedSelection(
        decision_id=uuid.UUID(made.decision_id),
        decided_at=at,
        task="essay",
        conversation_id=conversation,
        profile=made.profile.slug,
        reason=made.reason.value,
        propensity=made.propensity,
        bundle_version=made.bundle_version,
        exclude=(),
        last_profile=last,
    )
    outcome = fields.pop("outcome", FINE)
    return LoggedDecision(replace(selection, **fields), outcome)


def candidate(**changes: Any) -> Candidate:
    persona = Persona.objects.select_related("default_profile").get(slug="essayist")
    return replace(candidate_of(HERE, persona), **changes)


def observed(*decisions: LoggedDecision, by: Candidate | None = None) -> Observed:
    found = Observed()
    Observer(HERE, Candidates(HERE, by or candidate(), get_clickhouse())).observe(decisions, found)
    return found


def conversation_of(profile: str) -> str:
    return next(f"c-{n}" for n in range(100) if decided(f"c-{n}").selection.profile == profile)


def test_an_observation_has_the_chances_of_both_policies() -> None:
    [one] = observed(decided(conversation_of("cheap")), by=candidate(holdout=0.6)).observations
    assert one.logged == pytest.approx({"incumbent": 0.25, "cheap": 0.75})
    assert one.candidate == pytest.approx({"incumbent": 0.6, "cheap": 0.4})
    assert (one.profile, one.task, one.cost_usd, one.success) == ("cheap", "essay", 0.01, True)


def test_the_live_policy_is_its_own_candidate_whatever_was_live_then() -> None:
    logged = decided()
    Persona.objects.filter(slug="essayist").update(holdout_share=Decimal("0.5"))
    forget_bundle()
    [one] = observed(logged).observations
    assert one.logged["incumbent"] == pytest.approx(0.25)
    assert one.candidate["incumbent"] == pytest.approx(0.5)


def test_another_default_and_another_sla_rank_the_archived_scores_anew() -> None:
    logged = decided()
    asks_more = replace(candidate().rules, sla=replace(candidate().rules.sla, min_success_rate=0.95))
    [one] = observed(logged, by=candidate(rules=asks_more)).observations
    assert one.candidate == {"incumbent": 1.0}
    [one] = observed(logged, by=candidate(default="cheap", holdout=0.0)).observations
    assert one.candidate == {"cheap": 1.0}


def test_a_tenants_own_default_is_its_candidates() -> None:
    ScopeDefault.objects.create(
        tenant=factories.tenant(), persona=factories.persona(), profile=factories.profile("cheap")
    )
    assert candidate().default == "cheap"
    assert candidate_of(HERE, Persona.objects.get(slug="essayist"), "incumbent").default == "incumbent"


def test_a_conversation_is_followed_from_decision_to_decision() -> None:
    name = conversation_of("incumbent")
    found = observed(decided(name), decided(name, last="incumbent"), decided(name, last="incumbent"))
    assert len(found.observations) == 3
    # Held out once is held out at each, so its chance stays that of the hash.
    assert [one.logged["incumbent"] for one in found.observations] == pytest.approx([0.25] * 3)


@pytest.mark.parametrize("last", ["cheap", "gone"])
def test_a_conversation_whose_beginning_is_not_there_is_left_out(last: str) -> None:
    name = conversation_of("incumbent")
    found = observed(decided(name), decided(name, last=last), decided(name, last="incumbent"))
    assert (len(found.observations), found.left_out) == (1, {LeftOut.INTERRUPTED: 2})


def test_hashes_that_are_drawn_anew_end_what_is_known_of_a_conversation() -> None:
    name = conversation_of("cheap")
    before = decided(name)
    Flag.objects.filter(name=AUTO_MODEL_SELECTION).update(salt="another")
    forget_bundle()
    found = observed(before, decided(name, last="cheap"), decided("c-new"))
    assert (len(found.observations), found.left_out) == (2, {LeftOut.INTERRUPTED: 1})


def test_what_was_not_reported_is_left_out_but_followed() -> None:
    name = conversation_of("cheap")
    found = observed(decided(name, outcome=None), decided(name, last="cheap"))
    assert (len(found.observations), found.left_out) == (1, {LeftOut.NO_COMPLETION: 1})


def test_what_comes_out_otherwise_or_is_not_kept_is_left_out_and_so_is_what_follows_it() -> None:
    name = conversation_of("cheap")
    forged = decided(name, propensity=0.5)
    found = observed(forged, decided(name, last="cheap"), decided("c-other", bundle_version="9-gone.1"))
    assert (found.observations, found.left_out) == (
        [],
        {LeftOut.NOT_REPRODUCED: 1, LeftOut.INTERRUPTED: 1, LeftOut.NOT_ARCHIVED: 1},
    )
    logged = decided()
    PolicyRevision.objects.all().delete()
    archive.forget()
    assert observed(logged).left_out == {LeftOut.NOT_ARCHIVED: 1}


def test_a_candidate_that_would_refuse_a_share_is_not_evaluated() -> None:
    ModelProfile.objects.filter(slug="incumbent").update(enabled=False)
    forget_bundle()
    name = next(f"c-{n}" for n in range(100) if _decides(f"c-{n}"))
    assert observed(decided(name)).left_out == {LeftOut.REFUSED: 1}


def _decides(conversation: str) -> bool:
    try:
        return bool(decided(conversation))
    except SelectionProblem:
        return False


def test_stale_scores_give_both_the_default() -> None:
    logged = decided("c-1")
    late = replace(logged.selection, decided_at=logged.selection.decided_at + timedelta(hours=1))
    stale = replace(late, profile="incumbent", propensity=1.0)
    [one] = observed(LoggedDecision(stale, FINE)).observations
    assert one.logged == one.candidate == {"incumbent": 1.0}
