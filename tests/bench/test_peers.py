"""Peers beside us: what is asked reaches them, what goes wrong is told, and one that is missing stops no other."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.loadgen import Load
from bench.peers import ALL, __main__, install, peers, run_round
from bench.peers.base import Ask, Peer, PeerMissing, Request, process, served
from bench.peers.inside.measure import measure
from bench.peers.table import Run, table
from tests.services import ServiceMissing, require
from tests.telemetry.engines import missing

Asked = list[tuple[str, str, str | None, str]]
CHAT = Request("POST", "/chat", "constant", {"Authorization": "Bearer k"}, '{"said": "a \\"word\\""}')


def load(rps: float, *, errors: int = 0, cpu: tuple[float, ...] = (90.4,)) -> Load:
    return Load(rps=rps, p50_us=1630, p99_us=3020, requests=100, errors=errors, cpu_us=cpu)


@contextmanager
def server(answer: str) -> Iterator[tuple[str, Asked]]:
    """Answers everything with this, and notes what it was asked."""
    asked: Asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            asked.append((self.command, self.path, self.headers.get("Authorization"), body))
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        do_POST = do_GET  # noqa: N815  # its name is the library's

        def log_message(self, *_: object) -> None: ...

    one = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.daemon_threads = True
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{one.server_port}", asked
    finally:
        one.shutdown()
        thread.join()
        one.server_close()


@pytest.mark.services
def test_wrk_asks_what_the_request_says(tmp_path: Path) -> None:
    try:
        require("wrk")
    except ServiceMissing as reason:
        missing(reason)
    users = Request("GET", "/flags?user=c-{n}&more", "constant", {"Authorization": "k"})
    for request in (CHAT, users):
        with server("constant") as (base, asked):
            found = served(base, request, tmp_path, [])(2, 1)
        assert found.errors == 0
        assert found.requests > 0
        assert {(one[0], one[2], one[3]) for one in asked} == {
            (request.method, request.headers["Authorization"], request.body)
        }
    paths = [one[1] for one in asked]
    # wrk builds the first request for itself, and does not send it.
    assert {"/flags?user=c-2&more", "/flags?user=c-3&more"} <= set(paths)
    assert len(set(paths)) == len(paths)


def test_a_peer_that_answers_something_else_is_not_up() -> None:
    with server("a constant") as (base, _):
        assert CHAT.answered(base)
    with server("no such model") as (base, _):
        assert not CHAT.answered(base)
    assert not CHAT.answered(base), "nobody listens there any more"


def test_a_peer_that_ends_instead_of_starting_is_told_with_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such option'); raise SystemExit(3)"]
    with (
        pytest.raises(RuntimeError, match=r"exited with 3\nno such option"),
        process(command, tmp_path, lambda: False, {}),
    ):
        raise AssertionError("it never was ready")


def test_a_peer_gets_no_variable_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "ours")
    told = tmp_path / "told"
    code = f"import os, pathlib, time; pathlib.Path({str(told)!r}).write_text(str(dict(os.environ))); time.sleep(60)"
    with process(
        [sys.executable, "-c", code], tmp_path, lambda: told.exists() and bool(told.read_text()), {"A": "b"}
    ):
        assert "'A': 'b'" in told.read_text()
        assert "SECRET_KEY" not in told.read_text()


def test_calls_in_process_that_fail_are_errors_not_speed() -> None:
    def fails_later(n: int) -> None:
        if n >= 50:
            raise ValueError

    right, wrong = measure(lambda n: n, 0.05), measure(fails_later, 0.05)
    assert right["errors"] == 0
    assert right["p50_us"] <= right["p99_us"]
    assert wrong["errors"] == wrong["calls"] - 50


def test_the_table_gives_medians_and_tells_of_errors() -> None:
    runs = [Run("gate", "1.2", 16, n, load(rps, cpu=(90.4, 8))) for n, rps in enumerate([9527, 12000, 9000])]
    runs += [Run("sdk", "6", None, 0, load(28260, errors=3))]
    gate, sdk = table(runs)
    assert "gate 1.2" in gate
    assert "c=16" in gate
    assert "9,527 rps     (9,000 to 12,000)" in gate
    assert "CPU 90 + 8 us" in gate
    assert "ERRORS" not in gate
    assert "in process" in sdk
    assert "28,260 calls/s" in sdk
    assert sdk.endswith("ERRORS: 3 of 100")


def a_peer(name: str, *, install: Callable[[], str] = lambda: "1", errors: int = 0) -> Peer:
    @contextmanager
    def start(folder: Path, before: Sequence[str]) -> Iterator[Ask]:
        yield lambda connections, seconds: load(connections * 100.0, errors=errors)

    return Peer(name, f"what {name} does", install, start)


def run_main(chosen: list[Peer], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(__main__, "peers", lambda names: chosen)
    return __main__.main(["--rounds", "2", "--connections", "1", "16", *arguments])


def test_a_missing_peer_is_told_with_its_reason_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def refused() -> str:
        asked.append(1)
        raise PeerMissing("gone: npm is not installed")

    chosen = [a_peer("gone", install=refused), a_peer("here")]
    assert run_main(chosen, monkeypatch, "--json", str(tmp_path / "found.json")) == 1
    told = capsys.readouterr()
    assert "gone SKIPPED: gone: npm is not installed" in told.err
    assert "gone SKIPPED: gone: npm is not installed" in told.out
    assert "here: what here does" in told.out
    assert "what gone does" not in told.out
    assert len(asked) == 1, "it is not tried again in every round"
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(run["peer"], run["connections"], run["round"]) for run in found["runs"]] == [
        ("here", 1, 0), ("here", 16, 0), ("here", 1, 1), ("here", 16, 1)
    ]  # fmt: skip
    assert found["missing"] == {"gone": "SKIPPED: gone: npm is not installed"}


def test_a_run_with_errors_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main([a_peer("fine")], monkeypatch) == 0
    assert run_main([a_peer("fine"), a_peer("broken", errors=1)], monkeypatch) == 1
    assert "ERRORS: 2 of 200" in capsys.readouterr().out


def test_peers_are_asked_for_by_name() -> None:
    assert [peer.name for peer in peers(["portkey", "tensorzero"])] == ["portkey", "tensorzero"]
    assert peers() == list(ALL)
    assert len({peer.name for peer in ALL}) == len(ALL)
    with pytest.raises(KeyError, match="no-such"):
        peers(["no-such"])
    with a_peer("one").running() as up:
        assert run_round(up, 16, 5).rps == 1600


def test_an_installation_that_fails_says_why_and_leaves_no_word_that_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "HOMES", tmp_path)
    (tmp_path / "tensorzero.installed").write_text("of another day")
    answers = [
        subprocess.CompletedProcess([], 0, "", ""),
        subprocess.CompletedProcess([], 1, "", "no such version"),
    ]
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answers.pop(0))
    with pytest.raises(PeerMissing, match=r"tensorzero: .*no such version"):
        install.from_pypi("tensorzero", "tensorzero")
    assert not (tmp_path / "tensorzero.installed").exists()


@pytest.mark.parametrize("name", ["litellm", "py-spy", "tensorzero", "unleash"])
def test_every_package_of_a_peer_is_pinned_with_its_hashes(name: str) -> None:
    wanted = (install.REQUIREMENTS / f"{name}.in").read_text().splitlines()
    pinned = (install.REQUIREMENTS / f"{name}.txt").read_text()
    for line in wanted:
        if not line.startswith("#"):
            package, _, version = line.partition("==")
            assert f"\n{package.partition('[')[0].lower()}=={version} \\\n" in "\n" + pinned
    blocks = [block for block in ("\n" + pinned).split("\n") if block and not block.startswith(" ")]
    assert all(block.endswith(" \\") and "==" in block for block in blocks)
