"""Rollouts in the Command Center: what is under way and proved, starting one, acting on one, who may."""

import re
from typing import Any

import pytest
from django.test import Client

from catalog.access import Caller
from catalog.models import Tenant
from commandcenter.rollouts import card_of
from overrides.flags import read_flag
from overrides.models import AuditEntry, ChangeRequest
from routing.bundle import forget_bundle
from routing.guarding import machine, services
from routing.guarding.models import Rollout
from routing.guarding.services import Wish
from telemetry.clickhouse import get_clickhouse
from tests import factories
from tests.commandcenter.html import hidden
from tests.commandcenter.test_flags import HTMX, Budget, words
from tests.overrides.people import REASON, someone
from tests.routing.scenes import flip, ranked_scope
from tests.routing.test_rollouts import ANNA

pytestmark = pytest.mark.django_db
PAGE, START, PREVIEW = (f"/admin/center/rollouts/{name}" for name in ("", "start", "preview"))
FIELDS = {
    "tenant": "aurora",
    "persona": "essayist",
    "steps": "1, 5, 100%",
    "minutes": "60",
    "conversations": "200",
    "step": "1",
    "reason": REASON,
}


@pytest.fixture
def admin() -> Client:
    ranked_scope()
    flip(0)
    factories.tenant("borealis")
    return someone("anna", role="admin", may=("override_all_tenants",))


def under_way(tenant: str = "aurora", **wish: Any) -> Rollout:
    made = services.start(Wish(tenant, "essayist", REASON, **wish), ANNA, factories.NOW)
    forget_bundle()
    return made


def judged(row: Rollout, **bound: Any) -> None:
    """As a look at the evidence leaves it."""
    told = {
        "estimate": 0.01,
        "lower": -0.03,
        "upper": 0.08,
        "margin": 0.1,
        "tolerance": 0.01,
        "state": "unproven",
    }
    verdict = {
        "bounds": {"success": {**told, **bound}},
        "treated": 12,
        "control": 1234,
        "waits_for": ["9 more minutes"],
    }
    look = {"at": factories.NOW.isoformat(), "verdict": verdict, "holds": ["the kill switch to be off"]}
    Rollout.objects.filter(pk=row.pk).update(look=look, looked_at=factories.NOW)


def act_on(client: Client, row: Rollout, what: str, **fields: str) -> Any:
    """Open the panel, and send it."""
    path = f"{PAGE}{row.pk}/{what}"
    panel = client.get(path, headers=HTMX)
    assert panel.status_code == 200, panel.content
    body = {**hidden(panel.content.decode()), "reason": REASON, **fields}
    return client.post(path, body, headers=HTMX)


def start(client: Client, **fields: str) -> Any:
    key = hidden(client.get(START, headers=HTMX).content.decode())
    return client.post(START, {**key, **FIELDS, **fields}, headers=HTMX)


def test_without_any_it_says_what_to_do_next(admin: Client) -> None:
    page = words(admin.get(PAGE))
    for word in (
        "No rollout is under way, and none ever was.",
        "Start one above",
        'href="/admin/center/flags/"',
    ):
        assert word in page
    assert "No rollout matches" in words(admin.get(PAGE, {"q": "zzz"}))


def test_a_card_tells_ladder_evidence_bounds_and_what_it_waits_for(admin: Client) -> None:
    row = under_way(step=1)
    assert "the first look at its evidence" in words(admin.get(PAGE))
    judged(row)
    page = words(admin.get(PAGE))
    for word in (
        "aurora × essayist</a>",
        ">running</span>",
        '1% <span>done</span> </li> <li class="rung-now" aria-current="step" > 5% <span>now</span>',
        "25% <span>ahead</span>",
        "12 and 1,234, of at least 200 each",
        "fall of success",
        "-3 pt to +8 pt",
        "not proven yet",
        'aria-label="fall of success between -3 pt to +8 pt, margin +10 pt: not proven yet"',
        "<li>the kill switch to be off</li>",
        "<li>9 more minutes</li>",
    ):
        assert re.sub(r"\s+", "", word) in re.sub(r"\s+", "", page), word


def test_bounds_are_drawn_to_the_margins_scale_and_never_leave_the_drawing(admin: Client) -> None:
    row = under_way()
    judged(row, lower=-1.0, upper=1.0, estimate=None)
    row.refresh_from_db()
    [one] = card_of(row, _admin()).proved
    bar = one.bar
    assert (bar.lower, bar.zero, bar.margin, bar.upper, bar.estimate) == (
        "4.0",
        "120.0",
        "178.0",
        "236.0",
        "",
    )
    assert one.interval == "anything to anything"


def _admin() -> Any:
    return Caller("user:x", frozenset({"read", "flags"}), None)


def test_starting_one_is_previewed_first_and_sets_the_share(admin: Client) -> None:
    told = words(admin.get(PREVIEW, {**FIELDS, "act": "start"}, headers=HTMX))
    for word in (
        "At first 1% of these conversations",
        "1 scope changes, 1 switch profile",
        "incumbent",
        "cheap",
    ):
        assert word in told
    assert not Rollout.objects.exists()
    answer = start(admin)
    assert answer.status_code == 200
    assert "Rollout of aurora/essayist started." in words(answer)
    assert "governed-changed" in answer["HX-Trigger-After-Settle"]
    row = Rollout.objects.get()
    assert (row.plan["steps"], row.created_by) == ([1, 5, 100], "user:anna")
    assert read_flag().scopes == {"aurora": {"essayist": 1.0}}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"reason": "short"}, "10 characters"),
        ({"steps": "1, many"}, "Percentages with commas between them"),
        ({"steps": "5, 1"}, "percentages rise from step to step"),
        ({"minutes": "-1"}, "A whole number"),
        ({"step": "4"}, "The plan&#x27;s steps are 0 to 2"),
        ({"tenant": ""}, "Name a tenant"),
        ({"tenant": "nobody"}, "There is no tenant"),
    ],
)
def test_what_is_wrong_is_said_what_was_typed_stays_and_nothing_begins(
    admin: Client, fields: dict[str, str], told: str
) -> None:
    answer = start(admin, **fields)
    assert answer.status_code == 400
    assert told in words(answer)
    assert fields.get("steps", FIELDS["steps"]) in words(answer)
    assert not Rollout.objects.exists()


def test_what_touches_much_traffic_takes_the_scopes_name_typed(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from commandcenter.views import rollouts

    def much(*_: Any) -> dict[str, Any]:
        return {"scopes": [], "share_of_traffic": 0.5, "conversations_per_hour": 100, "scopes_changed": 0}

    monkeypatch.setattr(rollouts, "preview", much)
    # One in a hundred of half the traffic is not much; half of it is.
    assert start(admin, steps="50, 100").status_code == 400
    assert start(admin, steps="50, 100", confirm="aurora/essayist").status_code == 200
    row = Rollout.objects.get()
    assert "type aurora/essayist to confirm" in words(act_on(admin, row, "roll-back"))
    assert Rollout.objects.get().state == "running"
    assert act_on(admin, row, "roll-back", confirm="aurora/essayist").status_code == 200
    assert Rollout.objects.get().state == "rolled_back"


def test_pause_resume_roll_back_and_cancel_each_with_a_reason(admin: Client) -> None:
    row = under_way()
    assert act_on(admin, row, "pause", reason="no").status_code == 400
    for what, state, said in (
        ("pause", "paused", "its share stays"),
        ("resume", "running", "resumed"),
        ("roll-back", "rolled_back", "the flag is off there"),
        ("resume", "running", "resumed"),
        ("cancel", "cancelled", "share stays as it is"),
    ):
        answer = act_on(admin, row, what)
        assert answer.status_code == 200, answer.content
        assert said in words(answer)
        assert Rollout.objects.get().state == state
    assert "Finished" in words(admin.get(PAGE))
    verbs = AuditEntry.objects.filter(object_type="rollout", actor="user:anna").order_by("seq")
    assert list(verbs.values_list("verb", flat=True)) == [
        "start", "pause", "resume", "roll_back", "resume", "cancel",
    ]  # fmt: skip


def test_resuming_at_a_step_that_was_reached_begins_anew(admin: Client) -> None:
    row = under_way(step=2)
    act_on(admin, row, "pause")
    panel = words(admin.get(f"{PAGE}{row.pk}/resume", headers=HTMX))
    assert "with the step as it stands" in panel
    assert "anew at step 2, 5%" in panel
    assert act_on(admin, row, "resume", step="2").status_code == 200
    row.refresh_from_db()
    assert (row.step, row.attempt, read_flag().scopes["aurora"]["essayist"]) == (1, 2, 5.0)


def test_a_roll_back_by_itself_stands_out_and_is_acknowledged(admin: Client) -> None:
    row = under_way()
    Rollout.objects.update(
        state="rolled_back", by_itself=True, share=0, reason="Rolls back: a fall is proved."
    )
    page = words(admin.get(PAGE))
    assert "rolled back by itself" in page
    assert '<p class="breach"> Rolls back: a fall is proved.' in page
    assert act_on(admin, row, "acknowledge").status_code == 200
    assert Rollout.objects.get().by_itself is False


def test_a_rollouts_entry_is_not_taken_back_but_the_flags_is_and_the_rollout_pauses(admin: Client) -> None:
    row = under_way()
    own: AuditEntry = AuditEntry.objects.get(object_type="rollout")
    page = words(admin.get("/admin/center/audit/"))
    assert page.count("This is no change that could be taken back.") >= 1
    path = f"/admin/center/audit/{own.seq}/undo"
    fields = {**hidden(admin.get(path, headers=HTMX).content.decode()), "reason": REASON, "key": "k"}
    assert "This entry is no change." in words(admin.post(path, fields, headers=HTMX))
    flag: AuditEntry = AuditEntry.objects.get(object_type="flag")
    path = f"/admin/center/audit/{flag.seq}/undo"
    fields = {**hidden(admin.get(path, headers=HTMX).content.decode()), "reason": REASON}
    assert "is taken back" in words(admin.post(path, fields, headers=HTMX))
    assert read_flag().scopes == {}
    assert machine.attend(Rollout.objects.get(), get_clickhouse(), factories.NOW) == "pause"
    row.refresh_from_db()
    assert "was taken away by hand" in row.reason


def test_what_somebody_did_meanwhile_is_no_ground_to_act_on(admin: Client) -> None:
    row = under_way()
    path = f"{PAGE}{row.pk}/pause"
    body = {**hidden(admin.get(path, headers=HTMX).content.decode()), "reason": REASON}
    services.pause(row.pk, 1, REASON, ANNA, factories.NOW)
    services.resume(row.pk, 2, None, REASON, ANNA, factories.NOW)
    late = admin.post(path, body, headers=HTMX)
    assert late.status_code == 409
    assert "is at version 3 now" in words(late)
    assert Rollout.objects.get().state == "running"
    again = admin.post(path, {**body, **hidden(late.content.decode())}, headers=HTMX)
    assert (again.status_code, Rollout.objects.get().state) == (200, "paused")


def test_a_double_click_is_one_rollout(admin: Client) -> None:
    key = hidden(admin.get(START, headers=HTMX).content.decode())
    for _ in range(2):
        answer = admin.post(START, {**key, **FIELDS}, headers=HTMX)
        assert answer.status_code == 200
        assert "started" in words(answer)
    assert Rollout.objects.count() == 1


def test_under_four_eyes_starting_waits(admin: Client) -> None:
    Tenant.objects.filter(slug="aurora").update(four_eyes=True)
    assert "it will wait for somebody else" in words(
        admin.get(PREVIEW, {**FIELDS, "act": "start"}, headers=HTMX)
    )
    answer = start(admin)
    assert f"change request {ChangeRequest.objects.get().pk} waits" in words(answer)
    assert not Rollout.objects.exists()


def test_who_only_looks_sees_buttons_that_tell_what_they_take(admin: Client) -> None:
    row = under_way()
    viewer = someone("vera", role="viewer")
    page = words(viewer.get(PAGE))
    assert page.count('disabled title="This takes the right “flags” at aurora."') == 3
    for path in (f"{PAGE}{row.pk}/pause", START):
        assert viewer.get(path, headers=HTMX).status_code == 403
        assert viewer.post(path, {"reason": REASON}, headers=HTMX).status_code == 403
    assert Rollout.objects.get().state == "running"


def test_an_operator_of_one_tenant_sees_and_starts_there_alone(admin: Client) -> None:
    foreign = under_way("borealis")
    olga = someone("olga", at={"aurora": "operator"}, may=("change_flagtenant",))
    assert "borealis" not in words(olga.get(PAGE))
    assert olga.get(f"{PAGE}{foreign.pk}/pause", headers=HTMX).status_code == 404
    assert "There is no such tenant that you may see." in words(start(olga, tenant="borealis"))
    assert "no such tenant" in words(olga.get(PREVIEW, {**FIELDS, "tenant": "borealis"}, headers=HTMX))
    assert Rollout.objects.count() == 1


def test_scope_and_flags_pages_link_to_what_is_under_way(admin: Client) -> None:
    row = under_way()
    link = f'href="/admin/center/rollouts/?q=aurora#rollout-{row.pk}"'
    for path in ("/admin/center/scopes/aurora/essayist/", "/admin/center/flags/"):
        page = words(admin.get(path))
        assert link in page
        assert "rollout of aurora × essayist: running" in page


@pytest.mark.parametrize("rows", [1, 20])
def test_the_page_takes_few_queries_however_many_there_are(
    admin: Client, django_assert_max_num_queries: Budget, rows: int
) -> None:
    for number in range(rows):
        factories.tenant(f"tenant-{number}")
        judged(under_way(f"tenant-{number}"))
    admin.get(PAGE)
    with django_assert_max_num_queries(10):
        page = admin.get(PAGE, headers=HTMX).content.decode()
    assert page.count('class="rollout"') == rows
