"""The scope page: candidates, charts, overrides, activity; rights, foreign tenants, query budgets, ClickHouse away."""

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from catalog.models import Persona
from commandcenter.candidates import rows_of
from commandcenter.charts import DRAWN_LINES, MOST_LINES
from overrides import services
from overrides.audit import Actor
from overrides.models import Override
from overrides.services import Wish
from overrides.settings import change_settings
from routing.bundle import current_bundle, forget_bundle
from routing.models import OverrideMeter
from telemetry.clickhouse import ClickHouse, close_clickhouse
from tests import factories
from tests.commandcenter.html import hidden
from tests.overrides.people import REASON, call, someone
from tests.routing.cases import totals
from tests.routing.scenes import ASKED, ranked_scope, scope, snapshot
from tests.telemetry.pipeline import run_pipeline

pytestmark = pytest.mark.django_db
SCOPE = "/admin/center/scopes/aurora/essayist/"
PARTS = ("", "candidates", "live", "charts")
HTMX = {"HX-Request": "true"}
ROOT = Actor("user:root", "admin")
HOUR = timedelta(hours=1)
Budget = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def operator() -> Client:
    ranked_scope()
    factories.tenant("borealis")
    forget_bundle()
    return someone("olga", at={"aurora": "operator"})


def shown(client: Client, part: str = "", **query: str) -> str:
    answer = client.get(f"{SCOPE}{part}", query, headers=HTMX if part else {})
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", answer.content.decode())


def override(kind: str = "lock", profile: str = "incumbent", **of: Any) -> Override:
    made = services.create_override(Wish(kind, profile, of.pop("reason", REASON), **of), ROOT, timezone.now())
    forget_bundle()
    return made


# --- candidates


def test_each_candidate_shows_figures_terms_weights_and_verdicts(operator: Client) -> None:
    page = shown(operator)
    for told in ("$0.002000", "$0.0200", "90.0%", "success PASS", "latency_p95 PASS", "safety PASS"):
        assert told in page
    # cost 1 - 0.002 / 0.02 = 0.9, by the default weight 0.5
    assert "cost 0.900 × 0.50 = 0.450" in page
    assert "Best score of those that meet the SLA." in page


def test_points_add_up_to_the_score() -> None:
    ranked_scope()
    bundle = current_bundle()
    scores = bundle.scores("aurora", "essayist")
    assert scores is not None
    assert scores.rules is not None
    rows = rows_of([card.to_dict() for card in scores.scorecards], scores.rules.weights, "cheap")
    assert [row.is_given for row in rows] == [True, False]
    for row in rows:
        assert sum(part.points or 0 for part in row.parts) == pytest.approx(row.card["score"])


def test_a_loser_says_by_how_much_and_what_would_win(operator: Client) -> None:
    page = shown(operator, "candidates")
    assert re.search(r"lost by 0\.450", page)
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.018", latency_ms=1000))
    assert "<strong>wins if proven success &gt; 0.946</strong>" in shown(operator, "candidates")


def test_a_gated_one_names_its_clauses_once_and_why_else(operator: Client) -> None:
    snapshot(
        incumbent=totals(cost="0.02"), cheap=totals(cost="0.002", success=0.2), new=totals(n=5, priced=0)
    )
    factories.profile("new")
    snapshot(
        incumbent=totals(cost="0.02"), cheap=totals(cost="0.002", success=0.2), new=totals(n=5, priced=0)
    )
    page = shown(operator, "candidates")
    assert "cannot win by rank: success not proved" in page
    assert "✗</span> success FAIL" in page
    assert "cost unknown: 0 priced completions, 30 needed" in page
    assert "not enough data" in page


def test_what_an_override_excludes_stands_below_and_says_so(operator: Client) -> None:
    override("exclude", "cheap", tenant="aurora")
    page = shown(operator, "candidates")
    assert "excluded by an override" in page
    assert page.index("incumbent") < page.index("cheap")


def test_before_anything_is_scored_the_next_step_is_named(admin_client: Client) -> None:
    scope()
    page = shown(admin_client) + shown(admin_client, "live")
    for told in (
        "Nothing is scored here yet",
        "POST /api/v1/completions",
        "Nobody has asked for this scope yet",
        "the machine decides here",
    ):
        assert told in page
    assert "0.0%</td>" not in page


# --- overrides that touch it


def test_overrides_that_touch_the_scope_say_what_they_do_here(operator: Client) -> None:
    lock = override("lock", "incumbent", tenant="aurora", reason="it is safer for now")
    override("prefer", "cheap", reason="everybody prefers it")
    override("exclude", "cheap", persona="essayist", reason="essays go wrong with it")
    override("lock", "cheap", tenant="aurora", task="code", reason="only for the coders")
    override("lock", "cheap", tenant="borealis", reason="a secret of others")
    page = shown(operator, "live")
    for told in (
        "decides now",
        "keeps cheap out",
        "for task code only",
        "no effect now: something stronger decides",
        "it is safer for now",
        "by user:root",
        f"version {lock.version}",
        "until it is revoked",
    ):
        assert told in page
    assert "a secret of others" not in page


def test_an_override_that_cannot_hold_or_is_stopped_says_so(operator: Client) -> None:
    factories.profile("gone", enabled=False)
    Override.objects.create(
        kind="lock",
        profile=factories.profile("gone"),
        tenant=factories.tenant(),
        reason=REASON,
        created_by="x",
        created_at=timezone.now(),
    )
    forget_bundle()
    page = shown(operator, "live")
    assert "nobody is given now: the card says why" in page
    services.set_kill_switch("aurora", True, REASON, ROOT, timezone.now())
    forget_bundle()
    assert "no effect now: the kill switch is on" in shown(operator, "live")


def measure(row: Override, **figures: Any) -> None:
    whole = {"verdict": "cost", "regret_usd": "1.25", "n": 50, "scopes": [], "problem": None, **figures}
    OverrideMeter.objects.create(override=row, measured_at=timezone.now(), figures=whole)


def test_the_regret_meter_says_cost_saved_or_not_known(operator: Client) -> None:
    here = {"tenant": "aurora", "persona": "essayist"}
    assert "not measured yet" not in shown(operator, "live")
    row = override(**here)
    assert "not measured yet" in shown(operator, "live")
    measure(row)
    assert "it has cost $1.25" in shown(operator, "live")
    meter = OverrideMeter.objects.get()
    for figures, told in (
        ({"verdict": "saved", "regret_usd": "-0.5"}, "it has saved $0.5000"),
        ({"verdict": "not_enough_data", "regret_usd": None, "n": 0}, "not enough data"),
        ({"verdict": "same_choice", "regret_usd": "0"}, "the same profile would be given"),
        ({"problem": "Its metrics could not be read in time."}, "could not be read in time"),
    ):
        OverrideMeter.objects.update(figures={**meter.figures, **figures})
        assert told in shown(operator, "live"), told


def test_the_sum_over_foreign_tenants_is_not_told(operator: Client, admin_client: Client) -> None:
    row = override("lock", "incumbent", persona="essayist")
    measure(row, regret_usd="7.77")
    assert "7.77" not in shown(operator, "live")
    assert "over all its scopes" in shown(admin_client, "live")
    own = {"tenant": "aurora", "persona": "essayist", "task": None, "verdict": "cost", "given": {"n": 9}}
    OverrideMeter.objects.update(
        figures={"verdict": "cost", "regret_usd": "7.77", "scopes": [{**own, "regret_usd": "0.11"}]}
    )
    page = shown(operator, "live")
    assert "Regret here" in page
    assert "it has cost $0.1100" in page
    assert "7.77" not in page


# --- activity


def test_the_log_has_the_tenant_s_changes_and_those_of_all_that_touch_the_scope(operator: Client) -> None:
    factories.persona("coder", default_profile=factories.profile("incumbent"))
    override(tenant="aurora", persona="coder", reason="of the tenant, elsewhere")
    override(persona="essayist", reason="of the persona, for all")
    override(reason="of everybody at once")
    override(persona="coder", reason="of another persona, for all")
    override(tenant="borealis", reason="of a foreign tenant")
    services.set_kill_switch(None, True, "stopped for everybody", ROOT, timezone.now())
    essayist = Persona.objects.get(slug="essayist")
    now = timezone.now()
    change_settings("persona", str(essayist.pk), {"min_samples": 40}, "the persona's own change", ROOT, now)
    page = shown(operator, "live").split('id="activity-title"')[1]
    for told in (
        "of the tenant, elsewhere",
        "of the persona, for all",
        "of everybody at once",
        "stopped for everybody",
        "the persona&#x27;s own change",
    ):
        assert told in page, told
    assert "of another persona" not in page
    assert "of a foreign tenant" not in page


# --- charts


def calls(profile: str, count: int, at: datetime, **fields: Any) -> list[dict[str, Any]]:
    common = {"profile": profile, "occurred_at": at.isoformat(), "cost_usd": "0.002"}
    return [factories.event(**{**common, **fields}) for _ in range(count)]


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="charts-data" type="application/json">(.*?)</script>', page)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_charts_hold_every_hour_and_say_nothing_where_nothing_is_known(
    operator: Client, door: ClickHouse
) -> None:
    now = timezone.now()
    hour = now.replace(minute=0, second=0, microsecond=0)
    events = [
        *calls("cheap", 3, hour - 2 * HOUR, latency_ms=1000),
        *calls("cheap", 1, hour - 2 * HOUR, success=False, latency_ms=1000),
        *calls("incumbent", 5, hour - 30 * HOUR, cost_usd="0.01"),
    ]
    run_pipeline(door, events, now)
    data = data_of(shown(operator, "charts"))
    assert len(data["hours"]) == 24
    assert data["hours"][-1] == int(hour.timestamp())
    [cheap] = data["lines"]
    at = data["hours"].index(int((hour - 2 * HOUR).timestamp()))
    assert (cheap["profile"], cheap["n"][at], cheap["success"][at]) == ("cheap", 4, 0.75)
    assert cheap["cost"][at] == pytest.approx(0.002)
    assert cheap["p95"][at] == pytest.approx(1000, rel=0.1)
    for metric in ("cost", "success", "p95"):
        assert [value for index, value in enumerate(cheap[metric]) if index != at] == [None] * 23
    assert data["limits"] == {"cost": None, "success": 0.6, "p95": 60000}
    week = data_of(shown(operator, "charts", range="7d"))
    assert len(week["hours"]) == 168
    # What is given comes first, then the default.
    assert [line["profile"] for line in week["lines"]] == ["cheap", "incumbent"]


def test_the_table_has_the_same_figures(operator: Client, door: ClickHouse) -> None:
    now = timezone.now()
    run_pipeline(door, calls("cheap", 4, now - 2 * HOUR), now)
    page = shown(operator, "charts")
    for told in ("The same figures as a table", "$0.002000", "100.0%", 'scope="row"'):
        assert told in page


def test_there_are_no_more_lines_than_can_be_told_apart(operator: Client, door: ClickHouse) -> None:
    now = timezone.now()
    slugs = [f"p-{number}" for number in range(MOST_LINES + 2)]
    for slug in slugs:
        factories.profile(slug)
    forget_bundle()
    counted = [calls(slug, 2 + index, now - HOUR) for index, slug in enumerate(slugs)]
    run_pipeline(door, [event for group in counted for event in group], now)
    page = shown(operator, "charts")
    assert len(data_of(page)["lines"]) == MOST_LINES
    assert "not drawn: p-1, p-0" in page
    assert page.count("checked") == DRAWN_LINES


def test_without_completions_charts_name_the_next_step(operator: Client, door: ClickHouse) -> None:
    page = shown(operator, "charts")
    assert "No completion was reported here in the last 24 hours" in page
    assert "charts-data" not in page


def test_a_foreign_tenant_s_completions_are_not_in_the_charts(operator: Client, door: ClickHouse) -> None:
    now = timezone.now()
    run_pipeline(door, calls("cheap", 9, now - HOUR, tenant="borealis"), now)
    assert "No completion was reported" in shown(operator, "charts")


def test_without_clickhouse_everything_but_the_charts_stands(operator: Client, settings: Any) -> None:
    settings.CLICKHOUSE_URL = "clickhouse://127.0.0.1:1/selection"
    close_clickhouse()
    page, charts = shown(operator), shown(operator, "charts")
    close_clickhouse()
    assert "cheap" in page
    assert "the card is without its trends" in page
    assert "ClickHouse cannot be asked now" in charts
    assert "charts-data" not in charts


def test_the_range_stands_in_the_address(operator: Client) -> None:
    assert "charts?range=7d" in shown(operator, range="7d")
    assert "charts?range=24h" in shown(operator, range="forever")
    fragment = shown(operator, "charts", range="7d")
    assert f'hx-push-url="{SCOPE}?range=24h"' in fragment
    assert re.search(r'range=7d"\s*aria-current="true"', fragment)


# --- rights, budgets, polling


@pytest.mark.parametrize("part", PARTS)
def test_a_foreign_or_unknown_scope_is_not_there(operator: Client, part: str) -> None:
    assert operator.get(f"/admin/center/scopes/borealis/essayist/{part}").status_code == 404
    assert operator.get(f"/admin/center/scopes/nobody/essayist/{part}").status_code == 404
    assert operator.get(f"/admin/center/scopes/aurora/nobody/{part}").status_code == 404


@pytest.mark.parametrize("part", PARTS)
def test_staff_without_a_role_get_a_403_and_nobody_the_login_page(
    operator: Client, client: Client, part: str
) -> None:
    assert someone("nadia").get(f"{SCOPE}{part}").status_code == 403
    assert client.get(f"{SCOPE}{part}").status_code == 302


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_changed_by_posting(operator: Client, part: str) -> None:
    assert operator.post(f"{SCOPE}{part}", {"profile": "cheap"}).status_code == 405


def test_the_override_panel_opens_here_for_operators_only(operator: Client) -> None:
    assert 'id="slot-scope-aurora-essayist"' in shown(operator)
    assert "this takes the role operator at aurora" in shown(someone("vera", at={"aurora": "viewer"}))
    assert hidden(shown(operator, "override"))["key"]


@pytest.mark.parametrize("many", [1, 40])
@pytest.mark.parametrize("part", PARTS)
def test_it_takes_few_queries_however_much_there_is(
    operator: Client, django_assert_max_num_queries: Budget, part: str, many: int
) -> None:
    key = factories.key("select")
    for number in range(many):
        row = override("prefer", "cheap", tenant="aurora", task=f"task-{number}")
        measure(row)
    for number in range(min(many, 12)):
        asked = {**ASKED, "conversation_id": f"c-{number}"}
        assert call(operator, "post", "/selections", asked, key).status_code == 200
    shown(operator, part)
    with django_assert_max_num_queries(12):
        shown(operator, part)


@pytest.mark.parametrize("part", ["candidates", "live"])
def test_a_fragment_that_did_not_change_is_a_304_and_one_that_did_is_not(
    operator: Client, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commandcenter.views.scope._SECONDS", 10**9)
    tag = operator.get(f"{SCOPE}{part}", headers=HTMX)["ETag"]
    again = operator.get(f"{SCOPE}{part}", headers={**HTMX, "If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    override(tenant="aurora")
    after = operator.get(f"{SCOPE}{part}", headers={**HTMX, "If-None-Match": tag})
    assert after.status_code == 200


def test_more_overrides_than_fit_are_counted(operator: Client) -> None:
    now = timezone.now()
    first = override(tenant="aurora", task="a-0")
    Override.objects.bulk_create(
        Override(
            kind="lock",
            profile=first.profile,
            tenant=first.tenant,
            task=f"t-{number}",
            reason=REASON,
            created_by="x",
            created_at=now,
        )
        for number in range(52)
    )
    page = shown(operator, "live")
    assert "3 more" in page
    assert page.count("not measured yet") == 50


def test_money_in_the_facts_is_told_when_the_persona_caps_it(operator: Client) -> None:
    assert "what incumbent costs" in shown(operator)
    Persona.objects.update(max_cost_per_completion=Decimal("0.05"))
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"))
    assert "$0.0500, the persona" in shown(operator)
