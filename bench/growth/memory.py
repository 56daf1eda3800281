"""Memory of a web process: a granian worker of its own on PostgreSQL, warmed up, then asked for every tenant."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import orjson

from bench.growth.curves import Curve
from bench.loadgen import family

#: Tenants of the product at its largest, and what it may take then (issue: 5,000 tenants, 100,000 overrides).
TENANTS = 5_000
MOST_MB = 200.0
#: Scopes with scores of their own, overrides.
SIZES = ((10, 0), (1_000, 0), (10_000, 0), (10, 100_000), (1_000, 100_000), (10_000, 100_000))
QUICK = ((10, 0), (1_000, 0), (1_000, 10_000))


@dataclass(frozen=True)
class Taken:
    """Megabytes (10^6 bytes) of one web process: ``warm`` after its first selections, ``served`` after selections for
    every tenant, ``after`` when a new snapshot has replaced the first one, and every tenant has been asked for again.
    ``pss`` counts what it shares with its parent by halves."""

    scopes: int
    overrides: int
    warm: float
    served: float
    after: float
    pss: float


def curves(sizes: tuple[tuple[int, int], ...]) -> Iterator[Curve]:
    """RSS over scopes, at each number of overrides, at its most."""
    found: dict[int, list[Taken]] = {}
    for taken in memory(sizes):
        print(taken, flush=True)
        found.setdefault(taken.overrides, []).append(taken)
    for overrides, of in found.items():
        name = f"web process, {TENANTS:,} tenants, {overrides:,} overrides: RSS after a new snapshot"
        points = tuple((taken.scopes, max(taken.served, taken.after)) for taken in of)
        yield Curve(name, "scopes with scores", "MB", points, ceiling=MOST_MB)


def memory(sizes: tuple[tuple[int, int], ...] = SIZES, tenants: int = TENANTS) -> Iterator[Taken]:
    """One web process for each size, smallest first. Sets Django up: once per process. Raises ServiceMissing."""
    from tests.services import postgres

    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder,
        postgres() as database,
    ):
        environment = {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DATA_DIR": folder,
            "DATABASE_URL": database,
            "CLICKHOUSE_URL": f"chdb://{folder}/clickhouse",
            "LOG_LEVEL": "ERROR",
        }
        key = _fill(environment, tenants)
        for scopes, overrides in sorted(sizes, key=lambda size: (size[1], size[0])):
            from bench.growth import world
            from overrides.models import Override
            from tests.crowd import crowd

            crowd(overrides - Override.objects.count(), tenants)
            world.store(scopes)
            with _web(folder, environment) as (address, pid):
                yield _taken(scopes, overrides, _asker(address, key, tenants), pid)


def _fill(environment: dict[str, str], tenants: int) -> str:
    os.environ |= environment
    import django
    from django.core.management import call_command

    django.setup()
    from catalog.models import ServiceKey
    from overrides.models import Flag
    from tests.crowd import crowd

    call_command("migrate", verbosity=0)
    crowd(0, tenants)
    Flag.objects.update(everyone=True)
    return str(ServiceKey.objects.create_key(name="bench", verbs=["select"], all_tenants=True)[1])


@contextmanager
def _web(folder: str, environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    """A web server of one worker; its address, and the worker's process id."""
    from tests.flows.apart import apart
    from tests.services import wait_until

    with apart(Path(folder), **environment) as running:
        address = f"127.0.0.1:{running.port}"
        where = ["--host", "127.0.0.1", "--port", str(running.port), "--workers", "1"]
        granian = str(_runtime(Path(folder)) / "bin" / "granian")
        parent = running.start("web", granian, "--interface", "wsgi", "config.wsgi:application", *where)
        wait_until(lambda: _answers(address), "the web server")
        [worker] = [pid for pid in family([parent.pid]) if pid != parent.pid and "granian" in _command(pid)]
        yield address, worker


def _runtime(folder: Path) -> Path:
    """A virtual environment as in production: development's packages would be imported where libraries find them, and
    take another 14 MB."""
    where = folder / "runtime"
    if not where.exists():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(where)], check=True)
        install = [
            uv,
            "pip",
            "install",
            "-q",
            "--compile-bytecode",
            "--python",
            str(where / "bin" / "python"),
            "--require-hashes",
        ]
        subprocess.run([*install, "-r", str(Path(__file__).parents[2] / "requirements.txt")], check=True)
    return where


def _answers(address: str) -> bool:
    connection = HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def _asker(address: str, key: str, tenants: int) -> Callable[[int], None]:
    """Asks for every persona of the first so many tenants, one after the other, over one connection."""
    from tests.crowd import PERSONAS

    headers = {"Authorization": f"Api-Key {key}", "Content-Type": "application/json", "Host": "localhost"}

    def ask(most: int) -> None:
        # Of its own, since an idle one is closed meanwhile.
        connection = HTTPConnection(address, timeout=30)
        for number in range(min(most, tenants) * PERSONAS):
            tenant, persona = f"tenant-{number // PERSONAS}", f"persona-{number % PERSONAS}"
            body = {"tenant": tenant, "persona": persona, "conversation_id": f"c-{number}"}
            connection.request("POST", "/api/v1/selections", orjson.dumps(body), headers)
            answer = connection.getresponse()
            told = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {told[:300]!r}")
        connection.close()

    return ask


def _taken(scopes: int, overrides: int, ask: Callable[[int], None], pid: int) -> Taken:
    from bench.growth import world

    ask(20)
    warm = resident(pid)[0]
    ask(TENANTS)
    served = resident(pid)[0]
    world.store(scopes)
    _until_refreshed(ask)
    ask(TENANTS)
    after, pss = resident(pid)
    return Taken(scopes, overrides, warm, served, after, pss)


def _until_refreshed(ask: Callable[[int], None]) -> None:
    """The process looks for news as it is asked, and builds apart: a change is in effect within 5 s."""
    until = time.monotonic() + 6
    while time.monotonic() < until:
        ask(1)
        time.sleep(0.25)


def resident(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process, in megabytes."""
    told = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        if line.endswith("kB")
    )

    def megabytes(name: str) -> float:
        return int(told[name].split()[0]) * 1024 / 1e6

    return megabytes("Rss"), megabytes("Pss")
