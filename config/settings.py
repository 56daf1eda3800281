"""Django settings, derived from config.env. Modes are documented in docs/modes.md."""

import os
from datetime import timedelta
from typing import Any

import dj_database_url
import django_stubs_ext
from csp.constants import NONE, SELF

from config.env import BASE_DIR, Mode, load_env, local_secret_key, local_signing_key
from config.logs import logging_config

# Lets generic classes of Django and its stubs be subscripted at run time.
django_stubs_ext.monkeypatch()

ENV = load_env()
MODE = ENV.deployment_mode
DATA_DIR = ENV.data_dir

DEBUG = MODE in (Mode.LOCAL, Mode.DEVELOPMENT)
SECRET_KEY = ENV.secret_key or local_secret_key(DATA_DIR)
SECRET_KEY_FALLBACKS = list(ENV.secret_key_fallbacks)
ALLOWED_HOSTS = list(ENV.allowed_hosts) or ["localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = list(ENV.csrf_trusted_origins)

INSTALLED_APPS = [
    "commandcenter.apps.CommandCenterAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework_api_key",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "csp",
    "axes",
    "waffle",
    "observability",
    "catalog",
    "telemetry",
    "overrides",
    "routing",
    "commandcenter",
    "ops",
    *([] if MODE is Mode.PRODUCTION else ["demo"]),
]

MIDDLEWARE = [
    # First: whatever becomes of a request, it is told of.
    "observability.requests.Requests",
    # Before the rest: what comes after sees who asks, not the proxy in between.
    "catalog.proxies.TrustedProxies",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    # Last: its answer stands in for the login page's.
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]


def _database(url: str) -> dict[str, Any]:
    config: dict[str, Any] = dict(dj_database_url.parse(url))
    if config["ENGINE"] == "django.db.backends.sqlite3":
        config["OPTIONS"] = {
            # Write locks are taken when a transaction begins, so two writers queue instead of failing.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            # FULL: an accepted event survives a power cut, not only a killed process.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
        }
    else:
        from config.postgres import BoundedConnection  # SQLite needs no driver of PostgreSQL's

        # A pool of kept connections: a new one per request costs an order of magnitude in throughput.
        config["OPTIONS"] = {
            **config.get("OPTIONS", {}),
            # Who waits longer than this for a connection does better without one.
            "pool": {"min_size": 1, "max_size": 16, "timeout": 1, "connection_class": BoundedConnection},
            "connect_timeout": 3,
            # Who looks at pg_stat_activity sees which process it is; a restore tells its own connections from others.
            "application_name": f"selection-{os.getpid()}",
            "options": "-c statement_timeout=15000 -c lock_timeout=5000",
        }
        # After a restart of the server the pool's connections are dead; checked, none reaches a request.
        config["CONN_HEALTH_CHECKS"] = True
    return config


if not ENV.database_url:
    DATA_DIR.mkdir(parents=True, exist_ok=True)
DATABASES = {"default": _database(ENV.database_url or f"sqlite:///{DATA_DIR / 'selection.sqlite3'}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES: dict[str, dict[str, Any]] = {
    "default": (
        {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": ENV.redis_url,
            "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
        }
        if ENV.redis_url
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "default"}
    ),
}

# --- ClickHouse (telemetry.clickhouse is the only door) ---
CLICKHOUSE_URL = ENV.clickhouse_url or f"chdb://{DATA_DIR / 'clickhouse'}"
CLICKHOUSE_CLUSTER = ENV.clickhouse_cluster
CLICKHOUSE_CONNECT_TIMEOUT = ENV.clickhouse_connect_timeout
CLICKHOUSE_QUERY_TIMEOUT = ENV.clickhouse_query_timeout
CLICKHOUSE_POOL_SIZE = ENV.clickhouse_pool_size

# --- What the product does ---
ENABLED_TIERS = frozenset(ENV.enabled_tiers)
PERSONAS_LEND = ENV.personas_lend
BUNDLE_REFRESH_SECONDS = ENV.bundle_refresh_seconds
SERVICE_KEY_CACHE_SECONDS = ENV.service_key_cache_seconds
SERVICE_KEY_GRACE_SECONDS = ENV.service_key_grace_seconds
SCORING_PARTITIONS = ENV.scoring_partitions
SCORING_DEADLINE_SECONDS = ENV.scoring_deadline_seconds
SELECTION_STORE = ENV.selection_store
SELECTION_SYNC_MS = ENV.selection_sync_ms
SELECTION_FRONT = ENV.selection_front
SNAPSHOT_KEEP_DAYS = ENV.snapshot_keep_days
SELECTION_KEEP_DAYS = ENV.selection_keep_days
EVENT_SOURCE = ENV.event_source
ALERT_REPEAT_SECONDS = ENV.alert_repeat_seconds
SENTINELS_ENABLED = ENV.sentinels_enabled
SENTINEL_MIN_SAMPLES = ENV.sentinel_min_samples
SENTINEL_EXCESS = ENV.sentinel_excess
SENTINEL_TOKEN_RATIO = ENV.sentinel_token_ratio
SENTINEL_PRICE_RISE = ENV.sentinel_price_rise
PROFILE_QUARANTINE_COOLDOWN_SECONDS = ENV.profile_quarantine_cooldown_seconds
PROFILE_QUARANTINE_EXPIRY_SECONDS = ENV.profile_quarantine_expiry_seconds
PROFILE_QUARANTINE_PROBE_SHARE = ENV.profile_quarantine_probe_share
DRAIN_BLOCK_ROWS = ENV.drain_block_rows
QUARANTINE_KEEP = ENV.quarantine_keep
RETENTION_DAYS = {
    "completions": ENV.retention_raw_days,
    "rollup_5m": ENV.retention_5m_days,
    "rollup_1h": ENV.retention_1h_days,
    "rollup_24h": ENV.retention_24h_days,
    "selections": ENV.retention_selections_days,
    "arms_24h": ENV.retention_24h_days,
}

# --- Audit log ---
AUDIT_SIGNING_KEY = ENV.audit_signing_key or local_signing_key(DATA_DIR)
AUDIT_PUBLIC_KEYS = ENV.audit_public_keys
#: None: in DATA_DIR.
AUDIT_CHECKPOINT_FILE = ENV.audit_checkpoint_file

# --- Flags ---
# The custom model stands before the first migration: waffle cannot change it afterwards.
WAFFLE_FLAG_MODEL = "overrides.Flag"
WAFFLE_CREATE_MISSING_FLAGS = False

# --- API ---
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "catalog.access.ServiceKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["catalog.access.HasVerb"],
    "DEFAULT_RENDERER_CLASSES": ["catalog.rendering.OrjsonRenderer"],
    "DEFAULT_PARSER_CLASSES": ["catalog.rendering.OrjsonParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "catalog.problems.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Automated LLM Selection",
    "DESCRIPTION": "Picks, per conversation, the cheapest LLM profile that still meets the persona's SLA.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "catalog.schema.finish"],
}

# --- Observability ---
METRICS_LISTEN = ENV.metrics_listen
OTLP_ENDPOINT = ENV.otel_exporter_otlp_endpoint

# --- Celery (the beat table stands in config.celery) ---
CELERY_BROKER_URL = ENV.redis_url or "memory://"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_SOFT_TIME_LIMIT = 240
CELERY_TASK_TIME_LIMIT = 300
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, float] = (
    # In the process the broker is looked at once a second, one task each time, unless told otherwise.
    # A broker that is silent, as behind a cut network, must not keep whoever sends a task for longer than this.
    {"visibility_timeout": 600, "socket_timeout": 5, "socket_connect_timeout": 3}
    if ENV.redis_url
    else {"polling_interval": 0.05}
)
CELERY_TIMEZONE = "UTC"

# --- Security ---
TRUSTED_PROXIES = ENV.trusted_proxies
SESSION_ENGINE = "commandcenter.sessions"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.use_https
if ENV.use_https:
    # Browsers hold such names to this very host: no subdomain can plant a cookie of its own.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
SESSION_COOKIE_HTTPONLY = True
# Strict would sign out whoever follows a link from a chat or a mail.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
# Since signing in, whatever is done meanwhile (commandcenter.sessions).
SESSION_COOKIE_AGE = int(timedelta(hours=12).total_seconds())
SECURE_SSL_REDIRECT = ENV.use_https
# Orchestrators probe a process directly, not through the proxy that speaks HTTPS.
SECURE_REDIRECT_EXEMPT = [r"^(health|ready)z$"]
SECURE_HSTS_SECONDS = int(timedelta(days=365).total_seconds()) if ENV.use_https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = ENV.use_https
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.use_https else None
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
# The largest body is telemetry's (2 MB); its view reads the stream itself and stops there.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_500_000
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
AUTHENTICATION_BACKENDS = [
    # First: refuses who is locked out, and signs in nobody.
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    # Permissions that are held for some tenants only.
    "catalog.grants.GrantBackend",
]
LOGIN_URL = "admin:login"

# --- Lockout (docs/security.md says why these) ---
AXES_HANDLER = "commandcenter.lockout.LockoutHandler"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
#: Failures with one name from all addresses together; it does not bind those that somebody signed in from before.
LOGIN_FAILURES_PER_NAME = 50
AXES_COOLOFF_TIME = timedelta(minutes=15)
# Trying on while locked out does not make it longer: nobody can keep others out for good.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_USERNAME_CALLABLE = "commandcenter.lockout.name_to_keep"
AXES_CLIENT_IP_CALLABLE = "commandcenter.lockout.address_to_keep"
AXES_CLIENT_STR_CALLABLE = "commandcenter.lockout.told_in_logs"
AXES_LOCKOUT_CALLABLE = "commandcenter.lockout.locked_out"
AXES_SENSITIVE_PARAMETERS = ["username", "csrfmiddlewaretoken"]
AXES_VERBOSE = False
# The Command Center has pages of its own for them.
AXES_ENABLE_ADMIN = False

# --- Language, time, files ---
LANGUAGE_CODE = "en"
USE_I18N = False
FORMAT_MODULE_PATH = ["config.formats"]
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
# Collected files are served only where finders are not (whitenoise warns of a folder that is missing).
STATIC_ROOT = None if DEBUG else DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "django.contrib.staticfiles.storage.StaticFilesStorage"
            if DEBUG
            else "whitenoise.storage.CompressedManifestStaticFilesStorage"
        )
    },
}
WHITENOISE_USE_FINDERS = DEBUG
# Pages name hashed files alone: the others would be compressed for nobody, and that takes longer than all else.
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
# What is compressed already, and source maps: only who debugs asks for them.
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = (
    "jpg",
    "jpeg",
    "png",
    "gif",
    "webp",
    "zip",
    "gz",
    "br",
    "woff",
    "woff2",
    "map",
)

LOGGING = logging_config(ENV.log_level, as_json=ENV.logs_json)
