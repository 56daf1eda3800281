"""The product run apart, as in production: web, worker and beat as processes of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.services import free_ports, wait_until

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

#: Run by `manage.py shell`: the demo's catalogue, and a key, printed. No one is held out or explores, so that
#: a reason tells what a test did, and not which conversation it happened to ask for.
SEED = """
from catalog.models import Persona, ServiceKey
from demo.catalogue import load_catalogue
load_catalogue()
Persona.objects.update(holdout_share=0, exploration_share=0)
print(ServiceKey.objects.create_key(name="flow", verbs=list(ServiceKey.Verb.values), all_tenants=True)[1])
"""


@dataclass
class Apart:
    """Processes of the product on given engines; all are killed at the end."""

    environment: dict[str, str]
    directory: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def manage(self, *arguments: str) -> str:
        """Run manage.py to its end; its output."""
        return self.run(sys.executable, "manage.py", *arguments)

    def run(self, *command: str, timeout: float = 120) -> str:
        """Run a program to its end; its output."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        log = (self.directory / f"{name}-{len(self.processes)}.log").open("w")
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            cwd=ROOT,
            env={**self.environment, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.processes[f"{name}-{len(self.processes)}"] = process
        return process

    def start_web(self, port: int | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """A web server, by default at ``self.port``, with further variables of its own."""
        port = port or self.port
        address = ["--host", "127.0.0.1", "--port", str(port)]
        web = self.start(
            "web", "granian", "--interface", "wsgi", "config.wsgi:application", *address, **environment
        )
        wait_until(lambda: self._answers(port), "the web server")
        return web

    def start_worker(self) -> subprocess.Popen[bytes]:
        options = ["--concurrency", "2", "--loglevel", "WARNING"]
        return self.start("worker", "celery", "-A", "config", "worker", *options)

    def start_beat(self) -> subprocess.Popen[bytes]:
        return self.start("beat", "celery", "-A", "config", "beat", "--loglevel", "WARNING")

    def _answers(self, port: int) -> bool:
        try:
            headers = {"X-Forwarded-Proto": "https", "Host": "localhost"}
            return httpx.get(f"http://127.0.0.1:{port}/healthz", headers=headers).status_code == 200
        except httpx.TransportError:
            return False

    def client(self, key: str, port: int | None = None) -> httpx.Client:
        headers = {"Authorization": f"Api-Key {key}", "Host": "localhost", "X-Forwarded-Proto": "https"}
        return httpx.Client(
            base_url=f"http://127.0.0.1:{port or self.port}/api/v1", headers=headers, timeout=15
        )

    def stop(self) -> None:
        for process in self.processes.values():
            # The whole group, even when its leader is gone: children outlive a killed parent.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


@contextmanager
def apart(directory: Path, **environment: str) -> Iterator[Apart]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    running = Apart({**kept, "DATA_DIR": str(directory), **environment}, directory)
    try:
        yield running
    finally:
        running.stop()


def totals(client: httpx.Client, tenants: tuple[str, ...], personas: tuple[str, ...]) -> dict[Any, int]:
    """Requests of the last 24 hours by (tenant, persona, profile), as the API tells."""
    found: dict[Any, int] = {}
    for tenant in tenants:
        for persona in personas:
            answer = client.get("/metrics/profiles", params={"tenant": tenant, "persona": persona})
            assert answer.status_code == 200, answer.text
            for row in answer.json()["profiles"]:
                found[tenant, persona, row["profile"]] = row["requests"]
    return found
