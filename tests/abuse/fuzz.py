"""`python -m tests.abuse.fuzz -max_total_time=60`: coverage-guided fuzzing of ingest with atheris (`make fuzz`).

From bytes to a row of the spool, without a database: unpack, split, judge, convert, describe. Whatever comes, the only
errors are those that become a 4xx, and what they say and what is stored is JSON.
"""

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import atheris
import orjson

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
UNDER_TEST = (
    "telemetry.events",
    "telemetry.ingest",
    "telemetry.histogram",
    "catalog.bodies",
    "catalog.prices",
    "json",
)


def main() -> None:
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    # Setting Django up imports what is under test.
    with atheris.instrument_imports(include=list(UNDER_TEST)):
        import django

        django.setup()
        from telemetry import events, ingest
    from django.test import RequestFactory

    from catalog.bodies import read_body
    from catalog.problems import Problem
    from tests.abuse.events import TOKENS, text_with

    names = _names()
    requests = RequestFactory()

    def one(data: bytes) -> None:
        packed, body = data[:1] == b"z", data[1:]
        encoding = {"Content-Encoding": "gzip"} if packed else {}
        try:
            items = ingest.split(
                read_body(requests.post("/", body, content_type="application/json", headers=encoding))
            )
        except (ingest.BadBatch, Problem):
            return
        rejected = []
        for index, item in enumerate(items):
            try:
                if isinstance(item, ingest.Broken):
                    raise events.Rejected("invalid_json", item.reason)
                event = events.parse(item)
                events.check(event, names, NOW, None, NOW - timedelta(hours=48))
                orjson.dumps(events.to_row(event, names))
            except events.Rejected as why:
                rejected.append(events.Rejection(index, why.code, why.detail))
                ingest._raw(item).encode()
        orjson.dumps(ingest.describe(rejected))

    with tempfile.TemporaryDirectory(prefix="fuzz-") as corpus:
        seeds = [text_with(_event(), field, token) for field in _event() for token in TOKENS]
        for number, text in enumerate([*seeds, *map("[{}]".format, seeds[::7])]):
            (Path(corpus) / str(number)).write_bytes(b"j" + text.encode())
        atheris.Setup([sys.argv[0], "-max_len=8192", *sys.argv[1:], corpus], one)
        atheris.Fuzz()


def _event() -> dict[str, Any]:
    from tests import factories

    return factories.event(
        occurred_at=NOW.isoformat(), accuracy=0.5, cached_tokens=3, served_model="other", task="code"
    )


def _names() -> Any:
    from catalog.directory import Directory
    from catalog.prices import PriceBook

    return Directory(
        version=1,
        tenants=frozenset({"aurora"}),
        personas=frozenset({"essayist"}),
        profiles=frozenset({"gpt-5.4"}),
        models={"gpt-5.4": "gpt-5.4"},
        prices=PriceBook({}),
    )


if __name__ == "__main__":
    main()
