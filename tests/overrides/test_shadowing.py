"""Which overrides leave which without effect: the pure rule, the decisions that follow, the database's answer."""

import random
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from overrides.audit import Actor
from overrides.models import Override
from overrides.precedence import Hypothetical, overlaps, shadows
from overrides.services import Wish, create_override, revoke_override
from overrides.shadowing import MOST, claim_of, shadowing
from routing.engine import FlagState, Standing, StandingOverride, decide
from routing.standing import Kind
from tests import factories
from tests.factories import NOW
from tests.routing import cases

REASON = "tried in a test, ticket 1"
ACTOR = Actor("user:ops", "operator")
HERE: dict[str, Any] = {"tenant": "aurora", "persona": "essayist"}


def claim(kind: str, profile: str = "cheap", id: int | None = None, **scope: Any) -> Hypothetical:
    return Hypothetical(id, kind, profile, **scope)


def make(kind: str, profile: str = "cheap", **scope: Any) -> int:
    made: int = create_override(Wish(kind, profile, REASON, **scope), ACTOR, NOW).pk
    return made


@pytest.fixture
def catalogue() -> None:
    for slug in ("aurora", "borealis"):
        factories.tenant(slug)
    for slug in ("essayist", "coder"):
        factories.persona(slug)
    factories.profile("cheap")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (claim("lock", **HERE), claim("lock", tenant="aurora"), True),
        (claim("lock", tenant="aurora"), claim("lock", **HERE), False),
        (claim("lock", id=2, **HERE), claim("lock", id=1, **HERE), True),
        (claim("lock", **HERE), claim("lock", id=1, **HERE), True),  # a new one is the newest
        (claim("lock", id=1, task="essay", **HERE), claim("lock", **HERE), True),
        (claim("lock"), claim("prefer", **HERE), True),  # whatever the specificity
        (claim("prefer", **HERE), claim("lock"), False),
        (claim("prefer", **HERE), claim("prefer", tenant="aurora"), True),
        (claim("lock"), claim("exclude", **HERE), True),
        (claim("lock", "gpt-5.4"), claim("exclude", **HERE), False),
        (claim("exclude"), claim("prefer", **HERE), True),
        (claim("exclude", "gpt-5.4"), claim("prefer", **HERE), False),
        (claim("exclude"), claim("lock", **HERE), False),
        (claim("exclude", **HERE), claim("exclude"), False),  # they add up
        (claim("lock", tenant="aurora"), claim("prefer", tenant="borealis"), False),
        (claim("lock", task="essay"), claim("prefer", task="code"), False),
        (claim("lock", tenant="aurora"), claim("prefer", persona="essayist"), True),  # they meet in one scope
    ],
)
def test_one_override_shadows_another_by_what_the_engine_would_do(
    one: Hypothetical, other: Hypothetical, expected: bool
) -> None:
    assert shadows(one, other) is expected


POOL = [
    cases.evidence("incumbent", cost="0.01"),
    cases.evidence("cheap", cost="0.002"),
    cases.evidence("gpt-5.4", cost="0.003"),
]


def given(*overrides: Hypothetical) -> str:
    standing = tuple(
        StandingOverride(
            o.id if o.id is not None else 99, Kind(o.kind), o.profile, o.tenant, o.persona, o.task
        )
        for o in overrides
    )
    policy = cases.bundle(*POOL, standing=Standing(standing), flag=FlagState(everyone=False))
    return decide(policy, cases.request(task="essay")).profile.slug


SHAPES: list[dict[str, Any]] = [
    {"tenant": t, "persona": p, "task": k}
    for t, p, k in product((None, "aurora"), (None, "essayist"), (None, "essay"))
]


def test_what_is_shadowed_changes_no_decision_and_what_is_not_could() -> None:
    wished = [
        claim(kind, profile, **shape)
        for kind, profile, shape in product(("lock", "prefer", "exclude"), ("cheap", "gpt-5.4"), SHAPES)
    ]
    for one, other in product(wished, wished):
        first, second = replace(one, id=2), replace(other, id=1)
        if shadows(first, second):
            assert given(first, second) == given(first), (first, second)
        elif second.kind != "exclude" and not shadows(second, first):
            # Neither shadows the other: only an exclusion of something else, which changes nothing here, stays.
            assert first.kind == "exclude"
            assert first.profile != second.profile or second.kind == "lock"


@pytest.mark.django_db
def test_the_database_answers_as_the_pure_rule_does(catalogue: None) -> None:
    kinds, profiles = ("lock", "prefer", "exclude"), ("cheap", "gpt-5.4")
    scopes = list(product((None, "aurora", "borealis"), (None, "essayist", "coder"), (None, "essay", "code")))
    chance = random.Random(7)
    for _ in range(45):
        tenant, persona, task = chance.choice(scopes)
        make(chance.choice(kinds), chance.choice(profiles), tenant=tenant, persona=persona, task=task)
    rows = [claim_of(row) for row in Override.objects.all()]
    wished = [
        claim(kind, profile, tenant=t, persona=p, task=k)
        for kind, profile, (t, p, k) in product(kinds, profiles, scopes)
    ]
    for candidate in [*rows, *wished]:
        others = [row for row in rows if row.id != candidate.id]
        below = sorted((o.id or 0 for o in others if shadows(candidate, o)), reverse=True)
        above = sorted((o.id or 0 for o in others if shadows(o, candidate)), reverse=True)
        assert shadowing(candidate, NOW, None) == {
            "shadows": below,
            "shadowed_by": above,
            "shadows_count": len(below),
            "shadowed_by_count": len(above),
        }, candidate
        assert all(overlaps(candidate, o) for o in others if o.id in {*below, *above})


@pytest.mark.django_db
def test_what_was_revoked_or_has_expired_shadows_nothing(catalogue: None) -> None:
    ended, brief = (
        make("lock", **HERE),
        make("lock", expires_at=NOW + timedelta(hours=1), tenant="aurora", persona="essayist"),
    )
    revoke_override(ended, 1, REASON, ACTOR, NOW)
    wished = claim("prefer", **HERE)
    assert shadowing(wished, NOW, None)["shadowed_by"] == [brief]
    assert shadowing(wished, NOW + timedelta(hours=1), None)["shadowed_by_count"] == 0


@pytest.mark.django_db
def test_overrides_of_foreign_tenants_are_counted_but_not_named(catalogue: None) -> None:
    own, foreign, shared = make("prefer", **HERE), make("prefer", tenant="borealis"), make("prefer")
    told = shadowing(claim("lock", persona="essayist"), NOW, frozenset({"aurora"}))
    assert (told["shadows"], told["shadows_count"]) == ([shared, own], 3)
    assert shadowing(claim("lock", persona="essayist"), NOW, None)["shadows"] == [shared, foreign, own]


@pytest.mark.django_db
def test_many_are_counted_and_the_newest_fifty_named_in_four_queries(
    catalogue: None, django_assert_num_queries: Any
) -> None:
    made = [make("prefer", **HERE) for _ in range(MOST + 3)]
    with django_assert_num_queries(4):
        told = shadowing(claim("lock", tenant="aurora"), NOW, frozenset({"aurora"}))
    assert (told["shadows_count"], told["shadows"]) == (MOST + 3, made[:2:-1])


def test_a_wish_becomes_what_it_would_come_to() -> None:
    wish = Wish("lock", "cheap", REASON, **HERE, expires_at=NOW)
    assert Hypothetical.of(wish, 7) == Hypothetical(
        7, "lock", "cheap", "aurora", "essayist", None, expires_at=NOW
    )
