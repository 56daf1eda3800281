"""Unleash's client SDK, its flags from the file that FLAGS names; nothing is fetched and nothing reported."""

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
from UnleashClient import UnleashClient  # type: ignore[import-not-found]
from UnleashClient.cache import FileCache  # type: ignore[import-not-found]


def _client() -> UnleashClient:
    folder = tempfile.mkdtemp(dir=os.environ["HOME"])
    cache = FileCache("bench", directory=folder)
    cache.bootstrap_from_dict(json.loads(Path(os.environ["FLAGS"]).read_text()))
    client = UnleashClient(
        "http://127.0.0.1:1/api", "bench", cache=cache, disable_metrics=True, disable_registration=True
    )
    client.initialize_client(fetch_toggles=False)
    return client


_CLIENT = _client()


def _variant(user: str) -> dict[str, Any]:
    chosen: dict[str, Any] = _CLIENT.get_variant("profile", {"userId": user})
    return chosen


def variant() -> Callable[[int], object]:
    def one(n: int) -> None:
        assert _variant(f"c-{n}")["name"].startswith("profile-")

    return one


def enabled() -> Callable[[int], object]:
    def one(n: int) -> None:
        assert _CLIENT.is_enabled("profile", {"userId": f"c-{n}"})

    return one


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """WSGI: the query is the user's id, the answer its variant."""
    body = orjson.dumps(_variant(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
