"""What a peer is: where it is installed, how it is started, and how it is asked."""

import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.loadgen import Load, wrk
from tests.services import ServiceMissing, require, wait_until

#: LiteLLM's proxy imports for some ten seconds, and more beside other work.
START_TIMEOUT = 120.0
INSIDE = Path(__file__).parent / "inside"


class PeerMissing(ServiceMissing):
    """A peer that could not be installed; the message says why."""


#: Asked over so many connections for so many seconds.
Ask = Callable[[int, float], Load]
#: Given an empty folder and what to put before its command.
Start = Callable[[Path, Sequence[str]], AbstractContextManager[Ask]]


@dataclass(frozen=True)
class Up:
    """A running peer."""

    name: str
    version: str
    note: str
    ask: Ask


@dataclass(frozen=True)
class Peer:
    """``note``: what it does more and less than our selection endpoint. ``install`` gives the installed version or
    raises PeerMissing."""

    name: str
    note: str
    install: Callable[[], str]
    start: Start
    in_process: bool = False

    @contextmanager
    def running(self, *, pinned: bool = False) -> Iterator[Up]:
        """Installed if need be, started, and answering rightly; nothing of it is left at the end. ``pinned``: itself,
        not what it stands on, on the first core. PeerMissing, or RuntimeError with the end of its log."""
        version = self.install()
        before = [require("taskset"), "-c", "0"] if pinned else []
        # A process that was just ended may still be deleting files of its own.
        folder = tempfile.TemporaryDirectory(prefix=f"peer-{self.name}-", ignore_cleanup_errors=True)
        with folder as name, self.start(Path(name), before) as ask:
            yield Up(self.name, version, self.note, ask)


@dataclass(frozen=True)
class Request:
    """One request and what a right answer to it contains. ``{n}`` in the path: a number of its own each time."""

    method: str
    path: str
    right: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    def lua(self) -> str:
        """wrk's script for it."""
        headers = "".join(
            f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}\n" for k, v in self.headers.items()
        )
        told = f"wrk.method = {json.dumps(self.method)}\n{headers}"
        if self.body:
            told += f"wrk.body = {json.dumps(self.body)}\n"
        if "{n}" not in self.path:
            return told + f"wrk.path = {json.dumps(self.path)}\n"
        before, _, after = self.path.partition("{n}")
        path = f"{json.dumps(before)} .. n .. {json.dumps(after)}"
        return told + f"local n = 0\nfunction request()\n  n = n + 1\n  return wrk.format(nil, {path})\nend\n"

    def answered(self, base: str) -> bool:
        """Whether one such request is answered rightly now."""
        try:
            url, headers = base + self.path.replace("{n}", "0"), dict(self.headers)
            answer = httpx.request(self.method, url, headers=headers, content=self.body or None, timeout=30)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and self.right in answer.text


def served(base: str, request: Request, folder: Path, pids: Sequence[int], beside: Sequence[int] = ()) -> Ask:
    """Asks a peer that listens at ``base`` by wrk. ``beside``: what it stands on, counted apart."""
    script = folder / "ask.lua"
    script.write_text(request.lua())
    families = (lambda: pids, lambda: beside)
    return lambda connections, seconds: wrk(
        base,
        connections=connections,
        seconds=seconds,
        script=script,
        watched=families if beside else families[:1],
    )


@contextmanager
def process(
    command: Sequence[str], folder: Path, ready: Callable[[], bool], environment: Mapping[str, str]
) -> Iterator[int]:
    """A process with this environment and nothing else, its home in ``folder``; its id, once it is ready."""
    log = folder / "output.log"
    with log.open("ab") as output:
        one = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=own_environment(folder, environment),
        )
    try:
        try:
            wait_until(lambda: one.poll() is not None or ready(), f"start of {command[0]}", START_TIMEOUT)
        except TimeoutError as error:
            raise RuntimeError(f"{error}\n{_tail(log)}") from error
        if one.poll() is not None:
            raise RuntimeError(f"{command[0]} exited with {one.returncode}\n{_tail(log)}")
        yield one.pid
    finally:
        end(one)


def own_environment(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """No secret of ours reaches a peer: it is other people's code."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", **environment}


def end(one: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    """Ask it to end, insist after 10 s."""
    one.terminate()
    try:
        one.wait(timeout=10)
    except subprocess.TimeoutExpired:
        one.kill()
        one.wait()


def _tail(log: Path, characters: int = 2000) -> str:
    return log.read_text(errors="replace")[-characters:]


@contextmanager
def in_process(
    python: Path, operation: str, folder: Path, before: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Ask]:
    """Calls ``module:function`` of the folder ``inside`` in a process of the peer's own Python."""
    command = [*before, str(python), str(INSIDE / "measure.py"), operation]
    with (folder / "output.log").open("ab") as output:
        one = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            cwd=folder,
            env=own_environment(folder, environment),
        )
    try:
        yield lambda connections, seconds: _calls(one, seconds, folder / "output.log")
    finally:
        end(one)
        for pipe in (one.stdin, one.stdout):
            if pipe:
                pipe.close()


def _calls(one: "subprocess.Popen[str]", seconds: float, log: Path) -> Load:
    assert one.stdin
    assert one.stdout
    # A read has no timeout of its own: who says nothing is ended, and then says nothing for good.
    watch = threading.Timer(START_TIMEOUT + seconds, one.kill)
    watch.start()
    try:
        one.stdin.write(f"{seconds}\n")
        one.stdin.flush()
        # A library may greet on the same pipe.
        told = next((line for line in one.stdout if line.startswith('{"calls"')), None)
    except BrokenPipeError:
        told = None
    finally:
        watch.cancel()
    if told is None:
        raise RuntimeError(f"it ended without a figure\n{_tail(log)}")
    found = json.loads(told)
    return Load(
        rps=found["calls"] / found["seconds"],
        p50_us=found["p50_us"],
        p99_us=found["p99_us"],
        requests=found["calls"],
        errors=found["errors"],
        cpu_us=(found["cpu_us"],),
    )
