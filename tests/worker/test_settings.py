"""A worker's settings: a bad one stops the start with its name, and the docs name them all."""

import json
import re
from pathlib import Path

import pytest

from worker.settings import BadSettings, Settings, load_settings

ROOT = Path(__file__).parents[2]
PROFILE = {
    "slug": "gpt-5.4",
    "provider": "openai",
    "model": "gpt-5.4",
    "base_url": "https://api.example.com/v1/",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKER_API_URL", "https://selection.example.com/api/v1/")
    monkeypatch.setenv("WORKER_API_KEY", "k")
    monkeypatch.setenv("WORKER_STATE_DIR", str(tmp_path / "new" / "state"))
    monkeypatch.setenv("WORKER_DEFAULT_PROFILE", json.dumps(PROFILE))


def test_they_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKER_DEFAULT_FALLBACKS", json.dumps([{**PROFILE, "slug": "spare"}]))
    monkeypatch.setenv("WORKER_PROVIDER_KEYS", '{"openai": "sk"}')
    made = load_settings()
    assert made.api_url == "https://selection.example.com"
    assert [profile.slug for profile in made.defaults] == ["gpt-5.4", "spare"]
    assert made.default_profile.base_url == "https://api.example.com/v1"
    assert made.provider_keys == {"openai": "sk"}
    assert made.bound_seconds == pytest.approx(0.3)
    assert (tmp_path / "new" / "state").is_dir()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_URL", "selection.example.com"),
        ("API_KEY", ""),
        ("EVALUATION", "sometimes"),
        ("DEFAULT_PROFILE", "gpt-5.4"),
        ("DEFAULT_PROFILE", '{"slug": "gpt-5.4"}'),
        ("DEFAULT_FALLBACKS", "{"),
        ("CONNECT_TIMEOUT_MS", "soon"),
        ("READ_TIMEOUT_MS", "0"),
        ("POLICY_REFRESH_SECONDS", "-1"),
        ("PROVIDER_KEYS", "sk-secret"),
        ("PROVIDER_URLS", '{"*": "nowhere"}'),
        ("BUDGET_SECONDS", "nan"),
    ],
)
def test_a_bad_value_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"WORKER_{name}", value)
    with pytest.raises(BadSettings, match=f"WORKER_{name}") as found:
        load_settings()
    assert "sk-secret" not in str(found.value)


@pytest.mark.parametrize("name", ["API_URL", "API_KEY", "DEFAULT_PROFILE", "STATE_DIR"])
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(f"WORKER_{name}")
    with pytest.raises(BadSettings, match=f"WORKER_{name}: must be set"):
        load_settings()


def test_a_state_folder_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WORKER_STATE_DIR", str(tmp_path / "file" / "state"))
    with pytest.raises(BadSettings, match="WORKER_STATE_DIR"):
        load_settings()


def test_keys_are_not_shown() -> None:
    made = load_settings(provider_keys={"openai": "sk-secret"}, api_key="also-secret")
    assert "secret" not in repr(made)


def test_every_setting_is_documented_and_nothing_else() -> None:
    text = (ROOT / "docs" / "worker.md").read_text()
    documented = set(re.findall(r"^\| `WORKER_([A-Z_]+)` \|", text, re.MULTILINE))
    assert documented == {name.upper() for name in Settings.model_fields}
