"""Alert rules and dashboards: each rule fires when it should, tells of metrics that exist, and leads to a runbook."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observability.test_metrics import documented
from tests.services import ServiceMissing, require
from tests.telemetry.engines import missing

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "ops" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARDS = {
    path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "ops" / "grafana").glob("*.json"))
}
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"]
    for board in DASHBOARDS.values()
    for panel in board["panels"]
    for target in panel["targets"]
]


def promtool(*arguments: str) -> None:
    try:
        program = require("promtool")
    except ServiceMissing as reason:
        missing(reason)
    done = subprocess.run(
        [program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.services
def test_prometheus_takes_the_rules_and_the_sample_configuration(tmp_path: Path) -> None:
    promtool("check", "rules", "alerts.yml")
    # The key's file is where Prometheus runs, not here.
    sample = (PROMETHEUS / "prometheus.yml").read_text()
    key = tmp_path / "key"
    key.write_text("x")
    copy = tmp_path / "prometheus.yml"
    copy.write_text(sample.replace("/etc/prometheus/selection.key", str(key)))
    (tmp_path / "alerts.yml").write_text((PROMETHEUS / "alerts.yml").read_text())
    promtool("check", "config", str(copy))


@pytest.mark.services
def test_each_rule_fires_when_its_scenario_comes_and_no_other_does() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_every_rule_has_a_scenario_in_which_it_fires() -> None:
    cases = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    fire = {
        case["name"]
        for case in cases
        if any(
            f'alertname="{case["name"]}"' in sample["labels"]
            for check in case["promql_expr_test"]
            for sample in check["exp_samples"]
        )
    }
    assert fire == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_rule_says_how_bad_it_is_and_leads_to_a_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert re.fullmatch(r"docs/runbooks/[a-z-]+\.md", rule["annotations"]["runbook_url"])
    assert (ROOT / rule["annotations"]["runbook_url"]).exists()


def test_rules_and_dashboards_ask_for_metrics_that_there_are() -> None:
    known = set(documented())
    for expression in EXPRESSIONS:
        for name in re.findall(r"\bselection_[a-z0-9_]+", expression):
            # A histogram's series are called after it.
            assert {name, re.sub(r"_(bucket|sum|count)$", "", name)} & known, expression


def test_rules_and_dashboards_ask_for_labels_that_there_are() -> None:
    known = set().union(*documented().values()) | {"le", "job", "instance"}
    for expression in EXPRESSIONS:
        grouped = re.findall(r"\bby \(([^)]*)\)", expression)
        matched = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression)
        assert {*matched, *(name.strip() for names in grouped for name in names.split(","))} <= known, (
            expression
        )


def test_there_is_a_dashboard_for_service_telemetry_and_rollout() -> None:
    assert set(DASHBOARDS) == {"selection-service", "telemetry-pipeline", "rollout-and-savings"}
    assert len({board["uid"] for board in DASHBOARDS.values()}) == 3


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS.keys())
def test_panels_do_not_overlap_and_ask_the_chosen_data_source(board: dict[str, Any]) -> None:
    assert board["schemaVersion"] >= 39
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.services
def test_prometheus_can_read_every_panels_expression(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(EXPRESSIONS)
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(path))
