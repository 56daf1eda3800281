"""Every setting of a worker, typed, from environment variables that start with WORKER_ (docs/worker.md).

A bad value stops the start with the variable's name.
"""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

#: What is left of a selection's time for deciding locally, once the service did not answer.
LOCAL_SECONDS = 0.05


class BadSettings(Exception):
    """The worker cannot start; the message names every bad variable."""


class Evaluation(StrEnum):
    """Where decisions are made: by the service, or here with its policy bundle."""

    REMOTE = "remote"
    LOCAL = "local"


class Profile(BaseModel):
    """What is needed to call a model: its slug in the catalogue, and where its provider takes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slug: str = Field(min_length=1)
    provider: str = Field(min_length=1)
    model: str = Field(min_length=1)
    base_url: str

    @field_validator("base_url")
    @classmethod
    def _http(cls, value: str) -> str:
        return _http_url(value)


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL that starts with http:// or https://")
    return value.rstrip("/")


def _from_json(value: object) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("must be JSON") from None


class Settings(BaseSettings):
    """The environment, validated. Field names in capitals, after WORKER_, are the variables' names."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", extra="ignore", frozen=True)

    api_url: str
    api_key: str = Field(min_length=1, repr=False)
    evaluation: Evaluation = Evaluation.REMOTE
    default_profile: Annotated[Profile, NoDecode]
    default_fallbacks: Annotated[tuple[Profile, ...], NoDecode] = ()
    state_dir: Path

    connect_timeout_ms: int = Field(50, ge=1, le=10_000)
    read_timeout_ms: int = Field(200, ge=1, le=60_000)
    policy_refresh_seconds: float = Field(2.0, gt=0, le=300)
    breaker_failures: int = Field(5, ge=1, le=1000)
    breaker_seconds: float = Field(5.0, gt=0, le=600)

    provider_keys: Annotated[dict[str, str], NoDecode] = Field({}, repr=False)
    provider_urls: Annotated[dict[str, str], NoDecode] = {}
    provider_metadata: bool = False
    provider_connect_seconds: float = Field(2.0, gt=0, le=60)
    provider_timeout_seconds: float = Field(60.0, gt=0, le=3600)
    budget_seconds: float = Field(90.0, gt=0, le=3600)

    broker_url: str = Field("", repr=False)
    result_url: str = Field("", repr=False)
    queue: str = Field("conversations", min_length=1)

    @field_validator("default_profile", "default_fallbacks", "provider_keys", "provider_urls", mode="before")
    @classmethod
    def _json(cls, value: object) -> Any:
        return _from_json(value)

    @field_validator("api_url")
    @classmethod
    def _api_url(cls, value: str) -> str:
        return _http_url(value).removesuffix("/api/v1")

    @field_validator("provider_urls")
    @classmethod
    def _provider_urls(cls, value: dict[str, str]) -> dict[str, str]:
        return {provider: _http_url(url) for provider, url in value.items()}

    @property
    def remote_seconds(self) -> float:
        """The most that asking the service may take, whatever it does."""
        return (self.connect_timeout_ms + self.read_timeout_ms) / 1000

    @property
    def bound_seconds(self) -> float:
        """The most that a selection takes: 0.3 by default."""
        return self.remote_seconds + LOCAL_SECONDS

    @property
    def defaults(self) -> tuple[Profile, ...]:
        """What is called when nothing else is known, in order."""
        return (self.default_profile, *self.default_fallbacks)


def load_settings(**overrides: Any) -> Settings:
    """Read and validate the environment; BadSettings names every bad variable. Values are not repeated:
    they may be keys."""
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise BadSettings(_explain(error)) from None
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSettings(f"WORKER_STATE_DIR: cannot be made: {error.strerror}") from None
    return settings


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        variable, *inside = (str(part) for part in problem["loc"] or ("environment",))
        where = f" ({'.'.join(inside)})" if inside else ""
        message = "must be set" if problem["type"] == "missing" else problem["msg"]
        name = variable.upper().removeprefix("WORKER_")
        lines.append(f"WORKER_{name}{where}: {message.removeprefix('Value error, ')}")
    return "; ".join(lines)
