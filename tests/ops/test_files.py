"""Units, compose file and environment samples: valid, hardened, and one with each other and the code."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyCompose, PyOptions

from config.env import Env
from tests.ops import files
from tests.ops.files import OPS, UNITS, services, unit
from tests.services import ServiceMissing, require
from tests.telemetry.engines import missing
from worker.settings import Settings as WorkerSettings

HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
    "User": "selection",
}
EVERYWHERE = "0.0.0.0"  # noqa: S104  # a container's own network
#: The same command in both: systemd's service and compose's.
PAIRS = {
    "selection-web.service": "web",
    "selection-worker.service": "worker",
    "selection-beat.service": "beat",
    "selection-conversations.service": "conversations",
    "selection-backup.service": "backup",
}


@pytest.fixture(scope="module")
def analyze() -> str:
    try:
        return require("systemd-analyze")
    except ServiceMissing as reason:
        missing(reason)
    raise AssertionError


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, as if the programs that they start were there."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("granian", "celery", "python"):
        (programs / name).symlink_to("/bin/true")
    units = tmp_path / "units"
    shutil.copytree(UNITS, units)
    for path in units.iterdir():
        path.write_text(path.read_text().replace("/opt/selection/.venv/bin/", f"{programs}/"))
    return units


@pytest.mark.services
def test_systemd_finds_nothing_wrong_with_the_units(analyze: str, installed: Path) -> None:
    names = sorted(str(path) for path in installed.iterdir())
    done = subprocess.run(
        [analyze, "verify", "--man=no", *names], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.services
def test_every_service_is_exposed_little(analyze: str, installed: Path) -> None:
    for path in sorted(installed.glob("*.service")):
        done = subprocess.run(
            [analyze, "security", "--offline=true", "--no-pager", "--threshold=20", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # Of 10; the threshold is in tenths.
        assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_every_service_is_hardened_and_bounded() -> None:
    for one in services():
        assert {name: one.one(name) for name in HARDENED} == HARDENED, one.name
        assert "MemoryMax" in one.settings, one.name
        assert "network-online.target" in one.one("After"), one.name


def test_the_target_starts_what_runs_all_the_time_and_the_timer_what_it_is_named_for() -> None:
    wanted = " ".join(unit("selection.target").settings["Wants"]).split()
    assert {"selection-web.service", "selection-worker.service", "selection-beat.service"} <= set(wanted)
    assert (UNITS / "selection-backup.service").exists()
    assert unit("selection-backup.timer").one("OnCalendar").endswith("UTC")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file's services, by the rules of the compose specification: unknown keys are refused."""
    options = PyOptions()
    options.apply_merge = True
    found: PyCompose = options.from_yaml((OPS / "compose" / "compose.yaml").read_text())
    found.validate()
    found.validate_volumes()
    return dict(found.services or {})


def test_the_compose_file_is_valid_and_its_services_wait_for_ones_that_exist(compose: dict[str, Any]) -> None:
    for name, service in compose.items():
        assert set(service.depends_on or {}) <= set(compose), name


def test_what_compose_runs_is_what_the_units_run(compose: dict[str, Any]) -> None:
    def plain(words: list[str]) -> list[str]:
        # Where programs and scratch files are, and what is listened to, are the place's.
        words = [re.sub(r"^/opt/selection/\.venv/bin/|^/tmp/", "", word) for word in words]
        return [word.replace("127.0.0.1", EVERYWHERE) for word in words]

    for service, name in PAIRS.items():
        [command] = unit(service).commands()
        assert plain(shlex.split(compose[name].command)) == plain(command), name
    script = compose["migrate"].command[-1]
    assert [plain(shlex.split(line)) for line in script.splitlines()] == [
        plain(command) for command in unit("selection-migrate.service").commands()
    ]


def test_containers_have_no_more_rights_than_they_need(compose: dict[str, Any]) -> None:
    for name in [*PAIRS.values(), "migrate"]:
        service = compose[name]
        assert service.read_only, name
        assert (service.user, service.cap_drop) == ("10001:10001", {"ALL"}), name
        assert service.security_opt == {"no-new-privileges:true"}, name


def test_the_image_runs_as_nobody_in_particular_the_web_server_that_the_unit_starts() -> None:
    lines = (OPS / "compose" / "Containerfile").read_text().splitlines()
    assert "USER 10001:10001" in lines
    assert not [line for line in lines if line.startswith("FROM") and line.endswith((":latest", " python"))]
    [cmd] = [line.removeprefix("CMD ") for line in lines if line.startswith("CMD ")]
    [command] = unit("selection-web.service").commands()
    assert re.findall(r'"([^"]*)"', cmd) == [
        EVERYWHERE if word == "127.0.0.1" else word for word in ("granian", *command[1:])
    ]


def required() -> set[str]:
    """What PRODUCTION refuses to start without."""
    return {sentence.split()[0] for sentence in Env(_env_file=None).insecure_settings()}


def test_the_sample_names_what_production_requires_and_no_unknown_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {name.upper() for name in Env.model_fields}
    for name in known:
        monkeypatch.delenv(name, raising=False)
    named = files.sample("env.sample")
    assert required() - {"HTTPS", "LOG_LEVEL"} <= set(named)
    assert set(named) | set(files.sample("env.sample", optional=True)) <= known


def test_the_workers_sample_names_what_a_worker_requires_and_no_unknown_variable() -> None:
    named = set(files.sample("worker.env.sample"))
    fields = WorkerSettings.model_fields.items()
    assert {f"WORKER_{name.upper()}" for name, field in fields if field.is_required()} <= named
    assert named <= {f"WORKER_{name.upper()}" for name, _ in fields}


def test_defaults_that_the_sample_shows_are_the_codes() -> None:
    shown = {name: value for name, value in files.sample("env.sample", optional=True).items() if value}
    del shown["CLICKHOUSE_CLUSTER"]
    for name, value in shown.items():
        default = Env.model_fields[name.lower()].default
        assert value == (
            ",".join(default) if isinstance(default, tuple) else f"{default}".removesuffix(".0")
        ), name
