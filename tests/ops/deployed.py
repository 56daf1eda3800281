"""The product as ops/ deploys it: the units' own commands, env.sample filled in, on real servers, behind real nginx."""

import base64
import secrets
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.flows.apart import BIN, Apart, apart
from tests.ops.files import OPS, sample, unit
from tests.services import (
    Server,
    clickhouse_server,
    free_ports,
    postgres,
    redis,
    require,
    running,
    wait_until,
)

HOST = "selection.example.com"


@dataclass
class Deployed:
    """Starts what units start; ``moved`` says where the unit's paths and ports are here."""

    product: Apart
    directory: Path
    broker: str

    def commands(self, service: str, port: int | None = None) -> list[list[str]]:
        (self.directory / "backups").mkdir(exist_ok=True)
        moved = {
            "/opt/selection/.venv/bin/": f"{BIN}/",
            "/var/backups/selection": str(self.directory / "backups"),
            # As many as there are cores, which here are two.
            "--workers\0004": "--workers\0002",
            "--concurrency\0004": "--concurrency\0002",
        }
        commands = []
        for command in unit(service).commands():
            text = "\0".join(command)
            for here, there in moved.items():
                text = text.replace(here, there)
            commands.append((text.replace("8000", str(port)) if port else text).split("\0"))
        return commands

    def run(self, service: str) -> list[str]:
        """A oneshot's commands, one after the other; what each wrote. They must succeed."""
        # Collecting static files compresses them all.
        return [self.product.run(*command, timeout=400) for command in self.commands(service)]

    def start(self, service: str, port: int | None = None) -> "subprocess.Popen[bytes]":
        [command] = self.commands(service, port)
        return self.product.start(service, *command)

    def start_web(self, port: int) -> "subprocess.Popen[bytes]":
        process = self.start("selection-web.service", port)
        wait_until(lambda: healthy(port), "the web server", timeout=120)
        return process

    def end(self, process: "subprocess.Popen[bytes]", service: str) -> int:
        """As systemd ends it: SIGTERM to the main process; TimeoutExpired after the unit's TimeoutStopSec."""
        process.send_signal(signal.SIGTERM)
        return process.wait(unit(service).seconds("TimeoutStopSec"))


def healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def deployed(directory: Path) -> Iterator[Deployed]:
    """PostgreSQL, Redis and ClickHouse, and the sample environment with their addresses. Raises ServiceMissing."""
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        broker = stack.enter_context(redis())
        clickhouse = stack.enter_context(clickhouse_server())
        environment = {
            **sample("env.sample"),
            "SECRET_KEY": secrets.token_urlsafe(64),
            "AUDIT_SIGNING_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "ALLOWED_HOSTS": HOST,
            "CSRF_TRUSTED_ORIGINS": f"https://{HOST}",
            "DATABASE_URL": database,
            "REDIS_URL": broker.url,
            "CLICKHOUSE_URL": clickhouse.url("selection"),
            "DATA_DIR": str(directory),
            "AUDIT_CHECKPOINT_FILE": str(directory / "audit-checkpoints.jsonl"),
        }
        assert not [value for value in environment.values() if "<" in value]
        product = stack.enter_context(apart(directory, **environment))
        yield Deployed(product, directory, broker.url)


@contextmanager
def nginx(directory: Path, ports: tuple[int, ...]) -> Iterator[httpx.Client]:
    """ops/nginx in front of web servers at ``ports``, with a certificate of its own; a client that trusts it."""
    program = require("nginx", "/usr/sbin/nginx")
    home = directory / "nginx"
    home.mkdir()
    tls, plain = free_ports(2)
    _certificate(home)
    servers = "".join(f"server 127.0.0.1:{port} max_fails=1 fail_timeout=2s;" for port in ports)
    upstream = (OPS / "nginx" / "upstream.conf").read_text()
    line = "server 127.0.0.1:8000 max_fails=1 fail_timeout=2s;"
    assert line in upstream
    (home / "upstream.conf").write_text(upstream.replace(line, servers))
    site = (OPS / "nginx" / "selection.conf").read_text().replace("/etc/selection/tls/", f"{home}/")
    # How long an answer takes here says more about the machine.
    site = site.replace("proxy_read_timeout 20s", "proxy_read_timeout 60s")
    for port, here in ((443, tls), (80, plain)):
        site = site.replace(f"listen {port}", f"listen 127.0.0.1:{here}")
        site = site.replace(f"listen [::]:{port}", f"listen [::1]:{here}")
    (home / "selection.conf").write_text(site)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    scratch = "".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds)
    (home / "nginx.conf").write_text(
        f"daemon off; user root; pid {home}/pid; error_log {home}/error.log; events {{}}\n"
        f"http {{ access_log off; {scratch} include {home}/upstream.conf; include {home}/selection.conf; }}"
    )
    command = [program, "-p", str(home), "-e", f"{home}/error.log", "-c", f"{home}/nginx.conf"]
    subprocess.run([*command, "-t"], check=True, capture_output=True, timeout=30)
    with running(Server("nginx", command, tls, home)):
        trusted = ssl.create_default_context(cafile=str(home / "fullchain.pem"))
        # The certificate names the host; nginx listens on loopback.
        with httpx.Client(
            base_url=f"https://127.0.0.1:{tls}",
            verify=trusted,
            headers={"Host": HOST},
            timeout=90,
        ) as client:
            yield client


def _certificate(home: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(home / "privkey.pem"), "-out", str(home / "fullchain.pem")),
            *("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST},IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
