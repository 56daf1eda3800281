"""Settings from the environment: a bad value stops the start with its name; PRODUCTION is strict."""

import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.env import Env, Mode, key_bytes, load_env, local_secret_key, local_signing_key

ROOT = Path(__file__).parents[2]
PRODUCTION = {
    "DEPLOYMENT_MODE": "PRODUCTION",
    "SECRET_KEY": "k" * 60,
    "ALLOWED_HOSTS": "selection.example.com",
    "DATABASE_URL": "postgres://user@db/selection",
    "REDIS_URL": "redis://cache:6379/0",
    "CLICKHOUSE_URL": "clickhouse://metrics:9000/selection",
    "AUDIT_SIGNING_KEY": base64.b64encode(b"k" * 32).decode(),
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Env.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_nothing_needs_to_be_set_on_a_developers_machine() -> None:
    env = load_env()
    assert (env.deployment_mode, env.use_https) == (Mode.LOCAL, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEPLOYMENT_MODE", "STAGING"),
        ("DATABASE_URL", "mysql://x"),
        ("REDIS_URL", "localhost:6379"),
        ("CLICKHOUSE_URL", "http://localhost:8123"),
        ("CLICKHOUSE_CLUSTER", "a-b; DROP"),
        ("CLICKHOUSE_CONNECT_TIMEOUT", "2"),
        ("CLICKHOUSE_QUERY_TIMEOUT", "soon"),
        ("CLICKHOUSE_POOL_SIZE", "0"),
        ("ENABLED_TIERS", "llm,huge"),
        ("ENABLED_TIERS", ""),
        ("BUNDLE_REFRESH_SECONDS", "60"),
        ("SERVICE_KEY_CACHE_SECONDS", "-1"),
        ("SNAPSHOT_KEEP_DAYS", "0"),
        ("DRAIN_BLOCK_ROWS", "many"),
        ("QUARANTINE_KEEP", "-1"),
        ("RETENTION_RAW_DAYS", "1"),
        ("LOG_LEVEL", "LOUD"),
        ("HTTPS", "perhaps"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("AUDIT_SIGNING_KEY", "k"),
        ("AUDIT_SIGNING_KEY", "k" * 32),
        ("AUDIT_PUBLIC_KEYS", "AAAA"),
    ],
)
def test_a_bad_value_is_refused_with_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured, match=name):
        load_env()


def test_a_refused_value_is_not_repeated_it_may_hold_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://user:hunter2@db/x")
    with pytest.raises(ImproperlyConfigured) as refusal:
        load_env()
    assert "hunter2" not in str(refusal.value)


def test_a_roll_up_may_not_go_before_the_one_it_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETENTION_1H_DAYS", "10")
    with pytest.raises(ImproperlyConfigured, match="RETENTION_5M_DAYS <= RETENTION_1H_DAYS"):
        load_env()


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "a.example.com, b.example.com,")
    monkeypatch.setenv("ENABLED_TIERS", "llm,slm")
    env = load_env()
    assert env.allowed_hosts == ("a.example.com", "b.example.com")
    assert env.enabled_tiers == ("llm", "slm")


def test_production_starts_with_complete_settings_and_insists_on_https(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_all(monkeypatch, PRODUCTION)
    assert load_env().use_https


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", ""),
        ("SECRET_KEY", "short"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", ""),
        ("HTTPS", "false"),
        ("DATABASE_URL", "sqlite:///x"),
        ("DATABASE_URL", ""),
        ("REDIS_URL", ""),
        ("CLICKHOUSE_URL", "chdb:///data"),
        ("LOG_LEVEL", "DEBUG"),
        ("AUDIT_SIGNING_KEY", ""),
    ],
)
def test_production_refuses_an_insecure_setting_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    set_all(monkeypatch, {**PRODUCTION, name: value})
    with pytest.raises(ImproperlyConfigured, match=name):
        load_env()


def test_a_machines_own_secret_key_is_random_kept_and_private(tmp_path: Path) -> None:
    key = local_secret_key(tmp_path)
    assert len(key) >= 50
    assert local_secret_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600


def test_a_machines_own_signing_key_is_valid_kept_and_private(tmp_path: Path) -> None:
    key = local_signing_key(tmp_path / "new")
    assert len(key_bytes(key)) == 32
    assert local_signing_key(tmp_path / "new") == key
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["audit_signing_key"]
    assert stat.S_IMODE((tmp_path / "new" / "audit_signing_key").stat().st_mode) == 0o600


def test_the_command_line_says_the_variables_name_too(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), "DEPLOYMENT_MODE": "PRODUCTION"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode != 0
    assert "DEPLOYMENT_MODE=PRODUCTION refuses to start" in answer.stderr
