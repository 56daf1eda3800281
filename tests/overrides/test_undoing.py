"""Undo: of one entry, and of everything by an actor since a time; by compensating, audited changes."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from catalog.models import ModelProfile, Persona, ServiceKey, Tenant
from overrides import approvals, changes, services, undoing
from overrides.audit import Actor, verify
from overrides.changes import Change
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import AuditEntry, ChangeRequest, Flag, KillSwitch, Override
from overrides.states import describe
from tests import factories
from tests.commandcenter.test_audited import form
from tests.overrides.people import REASON, call, someone
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
UNDO = "/settings/undo"
LOCK = {"kind": "lock", "profile": "incumbent", "tenant": "aurora", "persona": "essayist", "reason": REASON}
ALL = ("override_without_expiry", "override_all_tenants", "change_flagtenant", "change_persona")


@pytest.fixture
def eve() -> Client:
    """Did things that are to be taken back."""
    ranked_scope()
    factories.tenant("borealis")
    return someone("eve", role="operator", may=ALL)


@pytest.fixture
def root(eve: Client) -> Client:
    user = User.objects.create_superuser("root")
    client = Client()
    client.force_login(user)
    return client


def asked(**more: Any) -> dict[str, Any]:
    since = (timezone.now() - timedelta(hours=1)).isoformat()
    return {"actor": "user:eve", "since": since, "reason": "she was not herself", **more}


def take_back(client: Client, **more: Any) -> Any:
    plan = call(client, "post", f"{UNDO}?dry_run=1", asked(**more))
    assert plan.status_code == 200, plan.content
    done = call(client, "post", UNDO, asked(plan_hash=plan.json()["plan_hash"], **more))
    assert done.status_code == 200, done.content
    return done.json()["results"]


def mess_up(client: Client) -> None:
    """Several changes of several kinds, some of the same object."""
    made = call(client, "post", "/settings/overrides", LOCK).json()
    call(client, "put", f"/settings/overrides/{made['id']}", {**LOCK, "kind": "prefer"}, If_Match="1")
    call(client, "post", "/settings/overrides", {**LOCK, "profile": "cheap", "tenant": "borealis"})
    call(client, "put", "/settings/kill-switch", {"tenant": "aurora", "on": True, "reason": REASON})
    for path, body in (
        ("/settings/personas/essayist", {"min_samples": 99}),
        ("/settings/personas/essayist", {"min_samples": 7, "min_success_rate": "0.5"}),
        (f"/settings/flags/{AUTO_MODEL_SELECTION}", {"everyone": False, "tenants": {"aurora": "3"}}),
    ):
        seen = call(client, "get", path)["ETag"]
        assert call(client, "patch", path, {**body, "reason": REASON}, If_Match=seen).status_code == 200


def standing() -> Any:
    rows = [*Persona.objects.all(), *Flag.objects.all(), *Tenant.objects.all()]
    switches = set(KillSwitch.objects.filter(on=True).values_list("tenant__slug", flat=True))
    live = [services.describe(row) for row in Override.objects.filter(revoked_at=None)]
    return [describe(row) for row in rows], switches, live


def test_everything_by_an_actor_is_taken_back_and_told_before(eve: Client, root: Client) -> None:
    before = standing()
    mess_up(eve)
    assert standing() != before
    plan = call(root, "post", f"{UNDO}?dry_run=1", asked()).json()
    assert {step["object_type"] for step in plan["steps"]} == {"override", "kill_switch", "persona", "flag"}
    [persona] = [step for step in plan["steps"] if step["object_type"] == "persona"]
    assert (persona["now"]["min_samples"], persona["to"]["min_samples"], len(persona["entries"])) == (
        7,
        30,
        2,
    )
    assert AuditEntry.objects.filter(verb="undo").count() == 0
    results = take_back(root)
    assert {result["outcome"] for result in results} == {"undone"}
    assert standing() == before
    undone = AuditEntry.objects.filter(actor="user:root")
    assert {entry.reason for entry in undone} == {"she was not herself"}
    assert undone.count() == 5
    assert verify().broken_at is None


def test_what_others_changed_afterwards_stays(eve: Client, root: Client) -> None:
    made = call(eve, "post", "/settings/overrides", LOCK).json()
    call(root, "put", f"/settings/overrides/{made['id']}", {**LOCK, "profile": "cheap"}, If_Match="1")
    [result] = take_back(root)
    assert result["outcome"] == "kept"
    assert "user:root changed it afterwards (entry 2)" in result["why"]
    assert Override.objects.get().profile.slug == "cheap"


def test_only_the_latest_changes_in_a_row_go_back(eve: Client, root: Client) -> None:
    made = call(eve, "post", "/settings/overrides", LOCK).json()
    path = f"/settings/overrides/{made['id']}"
    call(root, "put", path, {**LOCK, "profile": "cheap"}, If_Match="1")
    call(eve, "put", path, {**LOCK, "kind": "exclude"}, If_Match="2")
    take_back(root)
    row = Override.objects.get()
    assert (row.kind, row.profile.slug, row.revoked_at) == ("lock", "cheap", None)


def test_what_is_done_is_the_plan_that_was_seen(eve: Client, root: Client) -> None:
    mess_up(eve)
    assert call(root, "post", UNDO, asked()).json()["code"] == "plan_needed"
    plan = call(root, "post", f"{UNDO}?dry_run=1", asked()).json()
    call(eve, "post", "/settings/overrides", {**LOCK, "kind": "exclude"})
    late = call(root, "post", UNDO, asked(plan_hash=plan["plan_hash"]))
    assert (late.status_code, late.json()["code"]) == (409, "plan_changed")


def test_what_the_caller_may_not_change_stays_and_says_so(eve: Client, root: Client) -> None:
    mess_up(eve)
    results = take_back(someone("olga", at={"aurora": "operator"}))
    told = {(result["object_type"], result["outcome"]) for result in results}
    assert told == {("override", "undone"), ("kill_switch", "undone"), ("persona", "kept")}
    assert Override.objects.filter(tenant__slug="borealis", revoked_at=None).exists()
    assert call(someone("vera", role="viewer"), "post", f"{UNDO}?dry_run=1", asked()).status_code == 403


def test_undoing_where_four_eyes_are_needed_waits(eve: Client, root: Client) -> None:
    call(eve, "post", "/settings/overrides", LOCK)
    Tenant.objects.filter(slug="aurora").update(four_eyes=True)
    [result] = take_back(root)
    assert (result["outcome"], ChangeRequest.objects.get().pk) == ("waits", result["change_request"])
    assert Override.objects.get().revoked_at is None


def test_a_time_without_changes_gives_an_empty_plan(root: Client) -> None:
    assert take_back(root, actor="user:nobody") == []


def test_too_many_changes_at_once_are_refused(
    eve: Client, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undoing, "MOST", 2)
    mess_up(eve)
    answer = call(root, "post", f"{UNDO}?dry_run=1", asked())
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "That are more than 2 changes: name a shorter time.",
    )


def test_one_entry_is_taken_back_by_its_number(eve: Client, root: Client) -> None:
    path = "/settings/personas/essayist"
    for samples in (99, 7):
        seen = call(eve, "get", path)["ETag"]
        call(eve, "patch", path, {"min_samples": samples, "reason": REASON}, If_Match=seen)
    early = call(root, "post", "/audit/1/undo", {"reason": "that was too many"})
    assert (early.status_code, early.json()["code"]) == (409, "not_undone")
    assert (
        call(root, "post", "/audit/2/undo?dry_run=1", {"reason": REASON}).json()["steps"][0]["to"][
            "min_samples"
        ]
        == 99
    )
    assert call(root, "post", "/audit/2/undo", {"reason": "that was too few"}).status_code == 200
    assert Persona.objects.get().min_samples == 99
    assert AuditEntry.objects.get(seq=3).verb == "undo"
    assert call(root, "post", "/audit/99/undo", {"reason": REASON}).status_code == 404


def test_what_an_admin_did_in_the_pages_is_taken_back(root: Client, admin_client: Client) -> None:
    """Keys, profiles with prices, people and their roles."""
    tenant = factories.tenant("aurora")
    profile = ModelProfile.objects.get(slug="cheap")
    factories.price(profile)
    before = describe(profile)
    form(
        admin_client,
        f"/admin/catalog/modelprofile/{profile.pk}/change/",
        name="Renamed",
        **{
            "prices-0-prompt_per_1k": "9",
            "prices-0-valid_from_0": "2026-01-01",
            "prices-0-valid_from_1": "00:00",
        },
    )
    form(admin_client, "/admin/catalog/servicekey/add/", name="mine", verbs=["read"], tenants=[tenant.pk])
    person = User.objects.create_user("olga")
    joined = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00"}
    form(admin_client, f"/admin/auth/user/{person.pk}/change/", is_staff="on", **joined)
    results = take_back(root, actor="user:admin")
    assert {result["outcome"] for result in results} == {"undone"}, results
    profile.refresh_from_db()
    assert describe(profile) == before
    assert ServiceKey.objects.get().revoked
    person.refresh_from_db()
    assert not person.is_staff


def test_what_cannot_be_taken_back_says_why(root: Client, admin_client: Client) -> None:
    form(admin_client, "/admin/auth/group/add/", name="friends")
    gone = factories.tenant("gone")
    admin_client.post(f"/admin/catalog/tenant/{gone.pk}/delete/", {"post": "yes"})
    told = {result["object_type"]: result["why"] for result in take_back(root, actor="user:admin")}
    assert told == {
        "group": "It was made new, and cannot be switched off: delete it by hand.",
        "tenant": "It was deleted, and is not made again.",
    }


WHO, OTHER = Actor("user:eve", "operator"), Actor("user:root", "admin")
OVERRIDES = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["lock", "prefer", "exclude"]),
        "profile": st.sampled_from(["cheap", "incumbent"]),
        "tenant": st.sampled_from([None, "aurora", "borealis"]),
        "persona": st.sampled_from([None, "essayist"]),
        "task": st.sampled_from([None, "essay"]),
        "expires_at": st.none(),
    }
)
CHANGES = st.one_of(
    st.tuples(st.just("create"), OVERRIDES),
    st.tuples(st.just("replace"), OVERRIDES),
    st.tuples(st.just("revoke"), st.none()),
    st.tuples(st.just("undo"), st.none()),
    st.tuples(st.just("kill_switch"), st.tuples(st.sampled_from([None, "aurora"]), st.booleans())),
    st.tuples(
        st.just("persona"),
        st.fixed_dictionaries({}, optional={
            "min_samples": st.integers(1, 500),
            "min_success_rate": st.sampled_from(["0", "0.5", "0.9999", "1"]),
            "max_cost_per_completion": st.sampled_from([None, "0.01", "3.5"]),
            "default_profile": st.sampled_from(["cheap", "incumbent"]),
            "enabled": st.booleans(),
        }),
    ),
    st.tuples(
        st.just("flag"),
        st.fixed_dictionaries({}, optional={
            "everyone": st.sampled_from([None, True, False]),
            "rollout_percent": st.sampled_from(["0", "12.5", "100"]),
            "tenants": st.dictionaries(st.sampled_from(["aurora", "borealis"]), st.sampled_from(["0", "50"])),
        }),
    ),
)  # fmt: skip


class UndoIsTheInverse(TestCase):
    """undo(apply(x)) == x, for any changes of any kinds."""

    @settings(max_examples=40)
    @given(st.lists(CHANGES, max_size=4), st.lists(CHANGES, min_size=1, max_size=6))
    def test_taking_everything_back_leaves_what_was_there(self, earlier: list[Any], later: list[Any]) -> None:
        ranked_scope()
        factories.tenant("borealis")
        start = timezone.now() - timedelta(hours=2)
        for index, one in enumerate(earlier):
            _do(one, OTHER, start + timedelta(minutes=index))
        before = _state()
        for index, one in enumerate(later):
            _do(one, WHO, start + timedelta(hours=1, minutes=index))
        plan = undoing.plan_of(undoing.by_actor(WHO.name, start))
        undoing.take_back(plan, "she was not herself", OTHER, timezone.now())
        assert _state() == before
        assert verify().broken_at is None


def _do(one: Any, who: Actor, now: Any) -> None:
    kind, body = one
    newest = Override.objects.order_by("-pk").first()
    if kind == "create":
        change = Change("override.create", "", {**body, "reason": REASON}, REASON)
    elif kind in ("replace", "revoke", "undo"):
        if newest is None:
            return
        wanted = {**(body or {}), "reason": REASON, "version": newest.version}
        change = Change(f"override.{kind}", str(newest.pk), wanted, REASON)
    elif kind == "kill_switch":
        change = Change("kill_switch", body[0] or "*", {"tenant": body[0], "on": body[1]}, REASON)
    else:
        model: Any = {"persona": Persona, "flag": Flag}[kind]
        change = Change(kind, str(model.objects.get().pk), {"set": body}, REASON)
    try:
        approvals.submit(change, who, now)
    except services.NotStanding:
        return  # revoked already


def _state() -> Any:
    """Without versions, which go up with every change, taken back or not."""
    states, switches, live = standing()
    live = [{name: value for name, value in one.items() if name != "version"} for one in live]
    return states, switches, live


def test_a_rehearsal_leaves_nothing(eve: Client) -> None:
    before = _state()
    change = Change("override.create", "", {**LOCK, "task": None, "expires_at": None}, REASON)
    assert changes.rehearse(change, WHO, timezone.now())["profile"] == "incumbent"
    assert _state() == before
    assert not AuditEntry.objects.exists()
