"""`python -m tests.check_deploy`: Django's deployment checks under complete PRODUCTION settings."""

import base64
import os
import secrets
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def production_environment(**changes: str) -> dict[str, str]:
    """An environment that PRODUCTION accepts; nothing in it is reachable."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "DEPLOYMENT_MODE": "PRODUCTION",
        "SECRET_KEY": secrets.token_urlsafe(64),
        "ALLOWED_HOSTS": "selection.example.com",
        "DATABASE_URL": "postgres://selection@db.example.com/selection",
        "REDIS_URL": "redis://cache.example.com:6379/0",
        "CLICKHOUSE_URL": "clickhouse://metrics.example.com:9000/selection",
        "AUDIT_SIGNING_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        **changes,
    }


def main() -> int:
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    return subprocess.run(command, cwd=ROOT, env=production_environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
