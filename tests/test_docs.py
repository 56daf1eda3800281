"""The docs name what the code has, no more and no less."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.urls import URLResolver, get_resolver

from catalog.models import ServiceKey
from config.env import Env
from telemetry.events import CompletionEvent
from telemetry.freshness import Cause
from telemetry.freshness_state import Freshness

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def text(name: str) -> str:
    return (DOCS / name).read_text()


def cells(name: str) -> set[str]:
    """Everything in code marks in the first two columns of a page's tables."""
    rows = [line.split("|")[1:3] for line in text(name).splitlines() if line.startswith("|")]
    return {word for row in rows for cell in row for word in re.findall(r"`([^`]+)`", cell)}


def test_every_setting_has_a_heading_and_every_heading_is_a_setting() -> None:
    headings = set(re.findall(r"^### `([A-Z0-9_]+)`$", text("settings.md"), re.MULTILINE))
    assert headings == {name.upper() for name in Env.model_fields}


@pytest.mark.parametrize(
    "name",
    ["requirements", "requirements-embedded", "requirements-dev", "requirements-otel", "requirements-fuzz"],
)
def test_every_direct_dependency_is_justified(name: str) -> None:
    lines = (ROOT / f"{name}.in").read_text().splitlines()
    packages = {re.split(r"[=\[]", line)[0] for line in lines if line and line[0] not in "#-"}
    listed = set(re.findall(r"^\| ([a-z0-9-]+) \|", text("dependencies.md"), re.MULTILINE))
    assert packages <= listed


def test_every_event_field_is_explained() -> None:
    assert set(CompletionEvent.model_fields) <= cells("telemetry.md")


def test_every_rejection_code_is_explained() -> None:
    source = "".join((ROOT / "telemetry" / name).read_text() for name in ("events.py", "ingest.py"))
    codes = set(re.findall(r'Rejected\(\s*"([a-z_]+)"', source))
    assert len(codes) == 8
    assert codes <= cells("telemetry.md")


def test_every_state_and_cause_of_freshness_is_explained() -> None:
    assert {*map(str, Freshness), *map(str, Cause)} <= cells("telemetry.md")


def test_every_endpoint_and_verb_is_listed() -> None:
    def routes(resolver: URLResolver, prefix: str = "/") -> list[str]:
        found = []
        for pattern in resolver.url_patterns:
            route = prefix + str(pattern.pattern)
            found += routes(pattern, route) if isinstance(pattern, URLResolver) else [route]
        return found

    endpoints = {route for route in routes(get_resolver()) if route.startswith("/api/v1/")}
    listed = {cell.split(" ")[1] for cell in cells("api.md") if cell.startswith(("GET /", "POST /"))}
    assert endpoints == listed
    assert set(ServiceKey.Verb.values) <= cells("api.md")


def test_every_problem_code_of_the_code_is_listed() -> None:
    sources = "".join(
        path.read_text()
        for app in ("catalog", "telemetry", "routing")
        for path in (ROOT / app).glob("*.py")
        if path.name != "events.py"
    )
    pattern = r'(?:Problem|BadBatch|SelectionProblem)\(\s*(?:error\.)?\d{3},\s*"([a-z_]+)"'
    codes = set(re.findall(pattern, sources))
    assert len(codes) >= 12
    assert codes <= cells("api.md")


def test_the_committed_openapi_schema_is_the_codes(tmp_path: Path) -> None:
    fresh = tmp_path / "openapi.yaml"
    subprocess.run(
        [sys.executable, "manage.py", "spectacular", "--file", str(fresh), "--validate", "--fail-on-warn"],
        cwd=ROOT,
        check=True,
        timeout=60,
    )
    assert fresh.read_text() == text("openapi.yaml"), "run: manage.py spectacular --file docs/openapi.yaml"


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *DOCS.rglob("*.md")]), ids=lambda page: page.name
)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_member_of_a_selection_event_is_in_its_documented_schema() -> None:
    from routing.events import SCHEMA_FILE, TYPE
    from routing.webhooks import ALERT_TYPE

    assert {TYPE, ALERT_TYPE} <= cells("events.md")
    assert SCHEMA_FILE.exists()


def test_every_operation_of_the_schema_tells_of_problems() -> None:
    import yaml

    paths = yaml.safe_load(text("openapi.yaml"))["paths"]
    for operations in paths.values():
        for operation in operations.values():
            assert {"401", "403", "503"} <= set(operation["responses"])
            assert "application/problem+json" in operation["responses"]["401"]["content"]
