"""`python -m worker`, as its user meets it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.api import Api, serving
from tests.worker.scenes import DEFAULT, event, playing, policy
from worker.outbox import Kind, Outbox

ROOT = Path(__file__).parents[2]


@pytest.fixture
def api() -> Iterator[Api]:
    with serving(policy()) as running:
        yield running


def run(folder: Path, url: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = {
        "WORKER_API_URL": url,
        "WORKER_API_KEY": "key",
        "WORKER_STATE_DIR": str(folder),
        "WORKER_DEFAULT_PROFILE": DEFAULT.model_dump_json(),
        # A subprocess on a busy machine is slow to ask; how fast is another test's matter.
        "WORKER_READ_TIMEOUT_MS": "5000",
    }
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=ROOT,
        env={**kept, **environment, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_ask_prints_the_answer_and_why_and_reports_it(api: Api, tmp_path: Path) -> None:
    about = ["--tenant", "aurora", "--persona", "essayist", "--task", "essay"]
    with playing() as provider:
        urls = f'{{"*": "{provider.url}"}}'
        done = run(tmp_path, api.url, "ask", "hello", *about, WORKER_PROVIDER_URLS=urls)
        streamed = run(tmp_path, api.url, "ask", "hello", *about, "--stream", WORKER_PROVIDER_URLS=urls)
    assert done.returncode == 0, done.stderr
    assert "Recorded: Gemini 2.5 Flash" in done.stdout
    assert "profile   cheap" in done.stdout
    assert "reason    ranked (remote): cheap has the best score" in done.stdout
    assert "try 1     cheap: answered after" in done.stdout
    assert "Recorded: Gemini 2.5 Flash" in streamed.stdout
    assert len(api.events) == 2


def test_ask_when_nothing_answers_says_so_and_fails(tmp_path: Path) -> None:
    done = run(tmp_path, "http://127.0.0.1:9", "ask", "hello", "--tenant", "aurora", "--persona", "essayist")
    assert done.returncode == 1
    assert "(no profile answered)" in done.stdout
    assert "try 1     house: unreachable" in done.stdout


def test_status_and_flush_show_what_waits(api: Api, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(Kind.COMPLETION, event())
    outbox.close()
    status = run(tmp_path, api.url, "status")
    assert status.returncode == 0
    assert "completions waiting 1" in status.stdout
    assert "policy bundle       none yet" in status.stdout
    assert run(tmp_path, api.url, "flush").stdout == "1 sent, 0 waiting\n"
    assert "delivered           1" in run(tmp_path, api.url, "status").stdout


def test_flush_without_the_service_says_why_and_fails(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(Kind.COMPLETION, event())
    outbox.close()
    done = run(tmp_path, "http://127.0.0.1:9", "flush")
    assert (done.returncode, done.stdout) == (1, "0 sent, 1 waiting\n")
    assert "Connection refused" in done.stderr


def test_a_bad_setting_a_missing_broker_and_a_bad_message_are_clear_errors(tmp_path: Path) -> None:
    bad = run(tmp_path, "http://127.0.0.1:9", "status", WORKER_READ_TIMEOUT_MS="soon")
    assert (bad.returncode, bad.stderr.startswith("worker: WORKER_READ_TIMEOUT_MS: ")) == (2, True)
    run_ = run(tmp_path, "http://127.0.0.1:9", "run")
    assert (run_.returncode, run_.stderr.startswith("worker: WORKER_BROKER_URL: ")) == (2, True)
    ask = run(tmp_path, "http://127.0.0.1:9", "ask", "x", "--tenant", "No Slug", "--persona", "essayist")
    assert (ask.returncode, ask.stderr.startswith("worker: tenant: ")) == (2, True)
    assert "Traceback" not in bad.stderr + run_.stderr + ask.stderr


def test_it_runs_without_django() -> None:
    # Kombu takes a string class of Django's when that is installed; what must not be there is what needs settings.
    program = (
        "import sys, worker.__main__, worker.tasks, demo.provider; "
        "found = {'django.conf', 'django.db', 'rest_framework', 'catalog', 'overrides.models'} & set(sys.modules); "
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
