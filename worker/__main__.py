"""`python -m worker`: take messages from a queue, answer one from the command line, look, send what waits."""

import argparse
import logging
import os
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import TextIO

from worker import policy_cache, traces
from worker.conversation import Answer
from worker.flusher import Flusher
from worker.outbox import Outbox, OutboxUnavailable
from worker.runtime import Worker
from worker.settings import BadSettings, Settings, load_settings
from worker.tasks import BadMessage, make_app, read_message

_FIRST_POLICY_SECONDS = 2.0


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level, format="%(levelname)s %(name)s: %(message)s")
    # It would log an address per request.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    commands = {"run": _run, "ask": _ask, "status": _status, "flush": _flush}
    try:
        # Its other settings (OTEL_...) are read from there by OpenTelemetry itself.
        traces.start(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""))
        return commands[options.command](load_settings(), options)
    except ImportError as error:
        _say(f"worker: OTEL_EXPORTER_OTLP_ENDPOINT: {error.name} is not installed", sys.stderr)
        return 2
    except (BadSettings, BadMessage, OutboxUnavailable) as error:
        _say(f"worker: {error}", sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker",
        description="A conversation worker: selects a model profile, calls it, reports what happened. "
        "Its settings are environment variables that start with WORKER_ (docs/worker.md).",
    )
    parser.add_argument("--log-level", default="WARNING", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="take messages from the queue until it is stopped")
    run.add_argument("--concurrency", type=int, default=16, help="messages at once; default %(default)s")
    ask = commands.add_parser("ask", help="answer one message")
    ask.add_argument("text", help="what the user says")
    ask.add_argument("--tenant", required=True)
    ask.add_argument("--persona", required=True)
    ask.add_argument("--task", default="general")
    ask.add_argument("--conversation", default="", help="its id, to go on with one; default: a new one")
    ask.add_argument("--stream", action="store_true", help="print the answer as it comes")
    commands.add_parser("status", help="what waits to be sent, and how old the policy bundle is")
    commands.add_parser("flush", help="send what waits now")
    return parser


def _run(settings: Settings, options: argparse.Namespace) -> int:
    app = make_app(settings)
    # Threads: a call is waited for, not computed, and one process holds one client and one outbox.
    app.worker_main(
        [
            "worker",
            "--pool=threads",
            f"--concurrency={options.concurrency}",
            f"--queues={settings.queue}",
            f"--loglevel={options.log_level}",
        ]
    )


def _ask(settings: Settings, options: argparse.Namespace) -> int:
    message = read_message(
        {
            "tenant": options.tenant,
            "persona": options.persona,
            "conversation_id": options.conversation or f"ask-{uuid.uuid4()}",
            "message_id": str(uuid.uuid4()),
            "messages": [{"role": "user", "content": options.text}],
            "task": options.task,
        }
    )
    with Worker(settings) as worker:
        if not settings.state_dir.joinpath(policy_cache.FILE).exists():
            worker.client.wait_ready(_FIRST_POLICY_SECONDS)
        # A later try voids what an earlier one streamed; on a terminal it can only go on in a new line.
        shown = [1]

        def show(number: int, _: object, text: str) -> None:
            if number != shown[0]:
                shown[0] = number
                _say("")
            print(text, end="", flush=True)  # noqa: T201  # this is a program's face

        answer = worker.conversations.answer(message, show if options.stream else None)
        _tell(answer, streamed=options.stream)
        worker.flusher.flush()
    return 0 if answer.text is not None else 1


def _tell(answer: Answer, streamed: bool) -> None:
    _say("" if streamed else answer.text or "(no profile answered)")
    selected = answer.selected
    _say("")
    _say(f"profile   {answer.profile.slug if answer.profile else 'none'}")
    _say(f"reason    {selected.reason} ({selected.source.value}): {selected.explanation}")
    if selected.problem:
        _say(f"problem   {selected.problem.code}: {selected.problem.detail}")
    for number, one in enumerate(answer.tries, 1):
        _say(f"try {number}     {one.profile}: {one.error_code or 'answered'} after {one.latency_ms} ms")


def _status(settings: Settings, _: argparse.Namespace) -> int:
    outbox = Outbox(settings.state_dir)
    backlog = outbox.backlog()
    outbox.close()
    for kind, count in backlog.waiting.items():
        _say(f"{kind + 's waiting':<20}{count}")
    if backlog.oldest_at is not None:
        _say(f"{'oldest waits':<20}{_ago(time.time() - backlog.oldest_at)}")
    _say(f"{'delivered':<20}{backlog.delivered}")
    _say(f"{'refused':<20}{backlog.refused}")
    if backlog.newest_refusal:
        _say(f"{'newest refusal':<20}{backlog.newest_refusal}")
    path = settings.state_dir / policy_cache.FILE
    try:
        policy = policy_cache.read(path, settings.api_url)
    except FileNotFoundError:
        _say(f"{'policy bundle':<20}none yet")
        return 0
    except (policy_cache.Damaged, OSError) as error:
        _say(f"{'policy bundle':<20}not usable: {error}")
        return 1
    confirmed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    _say(f"{'policy bundle':<20}{policy.bundle.version}")
    _say(f"{'changed':<20}{_ago((datetime.now(UTC) - policy.fetched_at).total_seconds())} ago")
    _say(f"{'last confirmed':<20}{_ago((datetime.now(UTC) - confirmed).total_seconds())} ago")
    return 0


def _flush(settings: Settings, _: argparse.Namespace) -> int:
    outbox = Outbox(settings.state_dir)
    flusher = Flusher(settings, outbox)
    sent = flusher.flush()
    waiting = sum(outbox.backlog().waiting.values())
    flusher.close()
    outbox.close()
    _say(f"{sent} sent, {waiting} waiting")
    if waiting:
        _say(f"worker: {flusher.failure or 'the service did not take all'}", sys.stderr)
    return 1 if waiting else 0


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _say(line: str, file: TextIO | None = None) -> None:
    print(line, file=file or sys.stdout, flush=True)  # this is a program's face


if __name__ == "__main__":
    sys.exit(main())
