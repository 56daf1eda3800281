"""A product in use is backed up, lost, restored: every event counts once, every decision replays, the log verifies."""

import base64
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from demo import timeline
from tests.flows.apart import Apart, apart
from tests.ops.scene import AFTER, BEFORE
from tests.services import ServiceMissing, clickhouse_server, postgres
from tests.telemetry.engines import missing

pytestmark = pytest.mark.slow
KEY = base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Apart]:
    (data := tmp_path / "data").mkdir()
    with apart(data, DEPLOYMENT_MODE="DEVELOPMENT", AUDIT_SIGNING_KEY=KEY) as product:
        yield product


@pytest.fixture
def on_servers(tmp_path: Path) -> Iterator[Apart]:
    try:
        with postgres() as database, clickhouse_server() as clickhouse:
            environment = {
                "DEPLOYMENT_MODE": "DEVELOPMENT",
                "AUDIT_SIGNING_KEY": KEY,
                "DATABASE_URL": database,
                "CLICKHOUSE_URL": clickhouse.url("selection"),
            }
            with apart(tmp_path / "data", **environment) as product:
                yield product
    except ServiceMissing as reason:
        missing(reason)


def run(product: Apart, call: str) -> str:
    return product.manage("shell", "--no-imports", "-c", f"from tests.ops import scene; scene.{call}")


def assert_as_it_was(product: Apart, before: dict[str, Any]) -> None:
    told = run(product, "look()")
    after = json.loads(told.splitlines()[-1])
    now = datetime.fromisoformat(before["now"])
    events = list(timeline.events(now - BEFORE, now + AFTER))
    count: Counter[tuple[str, str, str]] = Counter()
    tokens: Counter[tuple[str, str, str]] = Counter()
    for event in events:
        scope = (event["tenant"], event["persona"], event["profile"])
        count[scope] += 1
        tokens[scope] += event["prompt_tokens"]
    expected = [[*scope, count[scope], tokens[scope]] for scope in sorted(count)]
    assert after["grains"] == dict.fromkeys(("rollup_5m", "rollup_1h", "rollup_24h"), expected)
    assert after["raw"] == len(events)
    assert after["decisions"] == before["decisions"]
    assert set(after["replayed"]) == {"equal"}
    assert after["published"] == len(before["decisions"])
    # No version of a bundle that somebody may have kept is given to another one.
    assert after["next"] > 1_000_000
    assert "all as they were written" in told


def test_what_was_lost_with_its_disk_is_restored_from_a_backup_made_while_it_was_used(
    embedded: Apart, tmp_path: Path
) -> None:
    before = json.loads(run(embedded, f"fill('{tmp_path}/backups')").splitlines()[-1])
    shutil.rmtree(tmp_path / "data")
    told = embedded.manage("restore", "--from", before["folder"], "--no-progress")
    assert "Restored as of" in told
    assert_as_it_was(embedded, before)


@pytest.mark.services
def test_on_servers_a_restore_takes_the_place_of_what_is_there_only_when_it_is_forced(
    on_servers: Apart, tmp_path: Path
) -> None:
    before = json.loads(run(on_servers, f"fill('{tmp_path}/backups')").splitlines()[-1])
    run(on_servers, "go_on()")
    with pytest.raises(AssertionError, match="not empty; --force replaces"):
        on_servers.manage("restore", "--from", before["folder"], "--no-progress")
    told = on_servers.manage("restore", "--from", before["folder"], "--force", "--no-progress")
    assert "1 audit entries were checkpointed after the backup and are lost" in told
    assert [path.name for path in (tmp_path / "data").glob("*before-restore*")]
    assert_as_it_was(on_servers, before)
