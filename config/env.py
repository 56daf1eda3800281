"""Every setting an operator can give, typed, from environment variables (docs/settings.md).

A bad value stops the start with the variable's name. Nothing else in the project reads the environment.
"""

import base64
import binascii
import secrets
from collections.abc import Callable
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

BASE_DIR = Path(__file__).resolve().parent.parent


class Mode(StrEnum):
    """Deployment modes; docs/modes.md says what each switches."""

    LOCAL = "LOCAL"
    DEVELOPMENT = "DEVELOPMENT"
    TRAINING = "TRAINING"
    PRODUCTION = "PRODUCTION"


CommaSeparated = Annotated[tuple[str, ...], NoDecode]


class Env(BaseSettings):
    """The environment, validated. Field names in capitals are the variables' names."""

    model_config = SettingsConfigDict(env_file=BASE_DIR / ".env", extra="ignore", frozen=True)

    deployment_mode: Mode = Mode.LOCAL
    data_dir: Path = BASE_DIR / "var"
    secret_key: str = ""
    secret_key_fallbacks: CommaSeparated = ()
    allowed_hosts: CommaSeparated = ()
    csrf_trusted_origins: CommaSeparated = ()
    https: bool | None = None
    trusted_proxies: CommaSeparated = ()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["", "line", "json"] = ""
    otel_exporter_otlp_endpoint: str = Field("", pattern=r"^(|https?://\S+)$")
    metrics_listen: str = Field("", pattern=r"^(|(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5})$")

    database_url: str = ""
    redis_url: str = ""
    clickhouse_url: str = ""
    clickhouse_cluster: str = Field("", pattern=r"^[A-Za-z0-9_]*$")
    clickhouse_connect_timeout: float = Field(1.0, gt=0, le=1.0)
    clickhouse_query_timeout: float = Field(10.0, gt=0, le=300)
    clickhouse_pool_size: int = Field(8, ge=1, le=256)

    enabled_tiers: CommaSeparated = ("llm",)
    personas_lend: bool = True
    bundle_refresh_seconds: float = Field(2.0, ge=0, le=5)
    service_key_cache_seconds: float = Field(3.0, ge=0, le=5)
    service_key_grace_seconds: int = Field(3600, ge=0, le=86_400)
    scoring_partitions: int = Field(1, ge=1, le=256)
    scoring_deadline_seconds: int = Field(240, ge=60, le=3600)
    selection_store: Literal["commit", "write-behind"] = "commit"
    selection_sync_ms: int = Field(10, ge=1, le=1000)
    selection_front: bool = True
    snapshot_keep_days: int = Field(7, ge=1, le=400)
    selection_keep_days: int = Field(30, ge=3, le=400)
    event_source: str = Field("/automated-llm-selection", min_length=1, max_length=200, pattern=r"^\S+$")
    alert_repeat_seconds: int = Field(300, ge=30, le=86_400)

    sentinels_enabled: bool = True
    sentinel_min_samples: int = Field(10, ge=3, le=10_000)
    sentinel_excess: float = Field(0.2, ge=0.02, le=0.9)
    sentinel_token_ratio: float = Field(2.0, ge=1.1, le=100)
    sentinel_price_rise: float = Field(0.2, ge=0.01, le=10)
    profile_quarantine_cooldown_seconds: int = Field(120, ge=10, le=3600)
    profile_quarantine_expiry_seconds: int = Field(3600, ge=60, le=86_400)
    profile_quarantine_probe_share: float = Field(0.05, ge=0, le=0.5)

    audit_signing_key: str = ""
    audit_public_keys: CommaSeparated = ()
    audit_checkpoint_file: Path | None = None

    drain_block_rows: int = Field(10_000, ge=1, le=1_000_000)
    quarantine_keep: int = Field(10_000, ge=0, le=10_000_000)
    retention_raw_days: int = Field(30, ge=3)
    retention_5m_days: int = Field(30, ge=3)
    retention_1h_days: int = Field(400, ge=3)
    retention_24h_days: int = Field(1826, ge=3)
    retention_selections_days: int = Field(90, ge=3)

    @field_validator(
        "secret_key_fallbacks",
        "allowed_hosts",
        "csrf_trusted_origins",
        "trusted_proxies",
        "enabled_tiers",
        "audit_public_keys",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("enabled_tiers")
    @classmethod
    def _known_tiers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = set(value) - {"llm", "slm", "micro"}
        if unknown or not value:
            raise ValueError("name at least one of llm, slm, micro")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError("must be addresses or networks, such as 10.0.0.7 or 10.0.0.0/8") from None
        return value

    @field_validator("audit_signing_key")
    @classmethod
    def _signing_key(cls, value: str) -> str:
        if value:
            key_bytes(value)
        return value

    @field_validator("audit_public_keys")
    @classmethod
    def _public_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for key in value:
            key_bytes(key)
        return value

    @field_validator("audit_checkpoint_file", mode="before")
    @classmethod
    def _unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("database_url")
    @classmethod
    def _database_scheme(cls, value: str) -> str:
        return _with_scheme(value, "sqlite", "postgres", "postgresql")

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: str) -> str:
        return _with_scheme(value, "redis", "rediss")

    @field_validator("clickhouse_url")
    @classmethod
    def _clickhouse_scheme(cls, value: str) -> str:
        return _with_scheme(value, "clickhouse", "chdb")

    @model_validator(mode="after")
    def _roll_ups_outlive_their_source(self) -> "Env":
        ladder = (
            self.retention_5m_days,
            self.retention_1h_days,
            self.retention_24h_days,
        )
        if list(ladder) != sorted(ladder):
            raise ValueError(
                "RETENTION_5M_DAYS <= RETENTION_1H_DAYS <= RETENTION_24H_DAYS must hold: "
                "each roll-up is recomputed from the one before it"
            )
        return self

    @property
    def use_https(self) -> bool:
        """Unless told, only the modes that real people reach over a network insist on HTTPS."""
        return self.https if self.https is not None else self.is_hardened

    @property
    def logs_json(self) -> bool:
        """Unless told, only logs that machines read: those of PRODUCTION."""
        return self.log_format == "json" or (not self.log_format and self.deployment_mode is Mode.PRODUCTION)

    @property
    def is_hardened(self) -> bool:
        return self.deployment_mode in (Mode.TRAINING, Mode.PRODUCTION)

    def insecure_settings(self) -> list[str]:
        """Why PRODUCTION must not start like this, one sentence each, naming the variable."""
        checks = {
            "SECRET_KEY must be set to 50 or more random characters": len(self.secret_key) < 50,
            "ALLOWED_HOSTS must name the hosts, and * is not one": not self.allowed_hosts
            or "*" in self.allowed_hosts,
            "HTTPS must not be off": not self.use_https,
            "DATABASE_URL must name a PostgreSQL database": not self.database_url.startswith("postgres"),
            "REDIS_URL must name a Redis server (broker and shared cache)": not self.redis_url,
            "CLICKHOUSE_URL must name a ClickHouse server (clickhouse://)": not (
                self.clickhouse_url.startswith("clickhouse://")
            ),
            "AUDIT_SIGNING_KEY must be set to 32 random bytes in base64 (openssl rand -base64 32)": not (
                self.audit_signing_key
            ),
            "LOG_LEVEL must not be DEBUG": self.log_level == "DEBUG",
        }
        return [sentence for sentence, broken in checks.items() if broken]


def _with_scheme(value: str, *schemes: str) -> str:
    if value and urlsplit(value).scheme not in schemes:
        raise ValueError("must be a URL that starts with " + " or ".join(f"{s}://" for s in schemes))
    return value


def load_env() -> Env:
    """Read and validate the environment; ImproperlyConfigured names every bad variable."""
    try:
        env = Env()
    except ValidationError as error:
        raise ImproperlyConfigured(_explain(error)) from None
    if env.deployment_mode is Mode.PRODUCTION and (insecure := env.insecure_settings()):
        raise ImproperlyConfigured("DEPLOYMENT_MODE=PRODUCTION refuses to start: " + "; ".join(insecure))
    return env


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        variable = str(problem["loc"][0]).upper() if problem["loc"] else "environment"
        # The value is not repeated: it may be a password.
        lines.append(f"{variable}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)


def key_bytes(text: str) -> bytes:
    """The 32 bytes of an Ed25519 key in base64; ValueError otherwise."""
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise ValueError("must be 32 bytes in base64, as `manage.py audit key` prints them")
    return key


def local_secret_key(data_dir: Path) -> str:
    """A random key of this machine, kept in the data folder, for modes that may run without SECRET_KEY."""
    return _kept(data_dir / "secret_key", lambda: secrets.token_urlsafe(64))


def local_signing_key(data_dir: Path) -> str:
    """The same for AUDIT_SIGNING_KEY."""
    return _kept(data_dir / "audit_signing_key", lambda: base64.b64encode(secrets.token_bytes(32)).decode())


def _kept(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # It appears whole or not at all; of two processes that start together, one makes it and both read the same.
        draft = path.with_name(f"{path.name}-{secrets.token_hex(8)}")
        draft.touch(mode=0o600)
        try:
            draft.write_text(make())
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text()
