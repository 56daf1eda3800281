"""Unleash: feature flags, whose variants choose among profiles as a rollout would. Its server, and its client SDK."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.peers.base import INSIDE, START_TIMEOUT, Ask, Peer, Request, Start, in_process, process, served
from bench.peers.install import from_npm, from_pypi, modules, node, python
from tests.services import free_ports, postgres_server, wait_until

CANDIDATES = 20
_ADMIN, _FRONTEND = "*:*.bench-admin", "default:development.bench-frontend"
_FEATURES = "/api/admin/projects/default/features"


def strategy() -> dict[str, object]:
    """For everybody, one of 20 variants by a hash of the user's id; weights are thousandths."""
    weight = 1000 // CANDIDATES
    return {
        "name": "flexibleRollout",
        "parameters": {"rollout": "100", "stickiness": "userId", "groupId": "profile"},
        "constraints": [],
        "variants": [
            {"name": f"profile-{n}", "weight": weight, "weightType": "variable", "stickiness": "userId"}
            for n in range(CANDIDATES)
        ],
    }


@contextmanager
def _server(folder: Path, before: Sequence[str]) -> Iterator[Ask]:
    with postgres_server() as database:
        [port] = free_ports(1)
        program = modules("unleash-server") / "unleash-server" / "dist" / "server.js"
        environment = {
            "NODE_ENV": "production",
            "DATABASE_URL": database.url,
            "DATABASE_SSL": "false",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(port),
            "LOG_LEVEL": "warn",
            "CHECK_VERSION": "false",
            "SEND_TELEMETRY": "false",
            "INIT_ADMIN_API_TOKENS": _ADMIN,
            "INIT_FRONTEND_API_TOKENS": _FRONTEND,
        }
        base = f"http://127.0.0.1:{port}"
        healthy = Request("GET", "/health", "GOOD")
        command = [*before, str(node("unleash-server")), str(program)]
        with process(command, folder, lambda: healthy.answered(base), environment) as pid:
            _make_flag(base)
            headers = {"Authorization": _FRONTEND}
            request = Request("GET", "/api/frontend?userId=c-{n}", '"name":"profile-', headers)
            # It reads its flags again every so often.
            wait_until(lambda: request.answered(base), "an evaluation by Unleash's server", START_TIMEOUT)
            beside = [database.server._process.pid] if database.server._process else []
            yield served(base, request, folder, [pid], beside)


def _make_flag(base: str) -> None:
    with httpx.Client(base_url=base, headers={"Authorization": _ADMIN}, timeout=30) as admin:
        environment = f"{_FEATURES}/profile/environments/development"
        admin.post(_FEATURES, json={"name": "profile", "type": "experiment"}).raise_for_status()
        admin.post(f"{environment}/strategies", json=strategy()).raise_for_status()
        admin.post(f"{environment}/on").raise_for_status()


def _flags(folder: Path) -> dict[str, str]:
    """The flag in a file of the form that the server gives its clients; the environment that names it."""
    feature = {
        "name": "profile",
        "type": "experiment",
        "enabled": True,
        "stale": False,
        "strategies": [strategy()],
        "variants": [],
    }
    path = folder / "flags.json"
    path.write_text(json.dumps({"version": 2, "features": [feature]}))
    return {"FLAGS": str(path)}


@contextmanager
def _service(folder: Path, before: Sequence[str]) -> Iterator[Ask]:
    [port] = free_ports(1)
    command = [
        *before, str(python("unleash").with_name("granian")), "--interface", "wsgi", "--working-dir", str(INSIDE),
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--blocking-threads", "1",
        "--log-level", "warning", "unleash_sdk:application",
    ]  # fmt: skip
    base, request = f"http://127.0.0.1:{port}", Request("GET", "/?c-{n}", '"name":"profile-')
    with process(command, folder, lambda: request.answered(base), _flags(folder)) as pid:
        yield served(base, request, folder, [pid])


def _sdk(operation: str) -> Start:
    return lambda folder, before: in_process(
        python("unleash"), f"unleash_sdk:{operation}", folder, before, _flags(folder)
    )


def _install_sdk() -> str:
    return from_pypi("unleash", "UnleashClient")


UNLEASH = (
    Peer(
        "unleash-server",
        "Unleash's server on Node.js 22 and PostgreSQL, one process; its frontend API evaluates one flag with 20 "
        "variants for a user of its own each time. As we: asks for a token, keeps HTTP metrics. Less: no metrics of "
        "models, no SLA; a hash of the user chooses; no evaluation is stored or counted.",
        lambda: from_npm("unleash-server", "unleash-server", "8.2.0"),
        _server,
    ),
    Peer(
        "unleash-service",
        "Unleash's client SDK (its Rust engine) behind the thinnest service we could write: a WSGI function on "
        "granian, one worker, one thread, one flag with 20 variants. Less: no key, no metrics, nothing stored, nothing "
        "checked.",
        _install_sdk,
        _service,
    ),
    Peer(
        "unleash-sdk-variant",
        "Unleash's client SDK in process: get_variant of a flag with 20 variants, a user of its own each time. "
        "Less: no HTTP, nothing stored; a hash of the user chooses.",
        _install_sdk,
        _sdk("variant"),
        in_process=True,
    ),
    Peer(
        "unleash-sdk-enabled",
        "Unleash's client SDK in process: is_enabled of that flag, which chooses nothing.",
        _install_sdk,
        _sdk("enabled"),
        in_process=True,
    ),
)
