"""The front answers plain selections as the canonical view does, byte for byte, and hands over everything else."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from unittest import mock

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_started
from django.db import close_old_connections, transaction
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from config.front import PATH, Front, parse, way_of
from observability.meters import meters
from observability.tally import tally
from routing.bundle import current_bundle, forget_bundle
from routing.models import Selection
from tests import factories
from tests.routing.scenes import ASKED, ranked_scope

pytestmark = pytest.mark.django_db
AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
#: Random by design, or the request's own.
UNLIKE = frozenset({"X-Request-ID"})


class Handed:
    """The canonical handler, which counts what it was handed."""

    def __init__(self) -> None:
        self.count = 0
        self._handler = WSGIHandler()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.count += 1
        return self._handler(environ, start_response)


Told = tuple[str, list[tuple[str, str]], bytes]


def ask(application: Any, body: bytes, **changes: Any) -> Told:
    """Status, headers, body. ``changes`` to the environment; None leaves a variable out."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": PATH,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
        "wsgi.url_scheme": "http",
        **changes,
    }
    told: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        told.extend((status, headers))

    answer = application({name: value for name, value in environ.items() if value is not None}, start)
    content = b"".join(answer)
    return told[0], sorted((name, value) for name, value in told[1] if name not in UNLIKE), content


@contextmanager
def taken_back() -> Iterator[None]:
    """Nothing of it stays in the database, so that the next request meets what this one met."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture(autouse=True)
def _one_connection() -> Iterator[None]:
    """The test's connection is the handler's: it is not closed when a request begins."""
    request_started.disconnect(close_old_connections)
    yield
    request_started.connect(close_old_connections)


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> tuple[Front, Handed, dict[str, str]]:
    """A front that has learnt its headers, the canonical handler behind it, and a key's header. Time stands still."""
    ranked_scope(switch_margin="0.2")
    factories.tenant("borealis")
    factories.tenant("closed", enabled=False)
    key = {"HTTP_AUTHORIZATION": factories.key("select", tenants=("aurora", "closed"))["Authorization"]}
    forget_bundle()
    current_bundle()
    monkeypatch.setattr("django.utils.timezone.now", lambda: AT)
    handed = Handed()
    front = Front(handed)
    with taken_back():
        assert ask(front, json.dumps(ASKED).encode(), **key)[0] == "200 OK"
    assert handed.count == 1
    return front, handed, key


def compare(front: Front, handed: Handed, body: bytes, **changes: Any) -> bool:
    """Hold the two equal for a request; whether the front answered by itself."""
    before = handed.count
    with taken_back():
        mine = ask(front, body, **changes)
        stored = list(Selection.objects.order_by("id").values_list("core", flat=True))
    alone = handed.count == before
    with taken_back():
        theirs = ask(handed, body, **changes)
        assert list(Selection.objects.order_by("id").values_list("core", flat=True)) == stored
    assert without_ids(mine) == without_ids(theirs)
    return alone


def without_ids(told: Told) -> Told:
    """A problem names its request, and its length with it stays the same."""
    status, headers, content = told
    if ("Content-Type", "application/problem+json") not in headers:
        return told
    body = json.loads(content)
    body.pop("request_id", None)
    return status, headers, json.dumps(body).encode()


def test_a_plain_request_is_answered_by_the_front_and_equal_byte_for_byte(both: Any) -> None:
    front, handed, key = both
    assert compare(front, handed, json.dumps(ASKED).encode(), **key)
    full = {**ASKED, "task": "essay", "exclude": ["x", "cheap", "x"], "request_id": "r-1"}
    assert compare(front, handed, json.dumps(full).encode(), **key)
    assert compare(front, handed, json.dumps({**ASKED, "conversation_id": "ü" * 200}).encode(), **key)
    assert compare(front, handed, json.dumps({**ASKED, "candidates": False}).encode(), **key)


def test_the_request_s_own_id_comes_back(both: Any) -> None:
    front, handed, key = both
    before, told = handed.count, []
    with taken_back():
        environ = {**key, "HTTP_X_REQUEST_ID": "r-of-mine"}
        with mock.patch.object(Front, "_learning", side_effect=AssertionError("it has learnt")):
            ask(front, json.dumps(ASKED).encode(), **environ)
    assert handed.count == before
    body = json.dumps(ASKED).encode()
    with taken_back():

        def start(status: str, headers: list[tuple[str, str]]) -> None:
            told.extend(headers)

        environ = {
            **key, "REQUEST_METHOD": "POST", "PATH_INFO": PATH, "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)), "HTTP_HOST": "localhost", "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(body), "HTTP_X_REQUEST_ID": "r-of-mine",
        }  # fmt: skip
        front(environ, start)
    assert ("X-Request-ID", "r-of-mine") in told


UNUSUAL: dict[str, dict[str, Any]] = {
    "a query": {"QUERY_STRING": "format=xml"},
    "another method": {"REQUEST_METHOD": "GET"},
    "another content type": {"CONTENT_TYPE": "text/plain"},
    "a charset": {"CONTENT_TYPE": "application/json; charset=utf-8"},
    "no content type": {"CONTENT_TYPE": None},
    "an encoding": {"HTTP_CONTENT_ENCODING": "gzip"},
    "a strange encoding": {"HTTP_CONTENT_ENCODING": "br"},
    "chunks": {"HTTP_TRANSFER_ENCODING": "chunked"},
    "a cookie": {"HTTP_COOKIE": "sessionid=x"},
    "what takes no JSON": {"HTTP_ACCEPT": "text/html"},
    "no key": {"HTTP_AUTHORIZATION": None},
    "an unknown key": {"HTTP_AUTHORIZATION": "Api-Key nobody.knows"},
    "another scheme": {"HTTP_AUTHORIZATION": "Bearer x"},
    "half a header": {"HTTP_AUTHORIZATION": "Api-Key"},
    "too much of a header": {"HTTP_AUTHORIZATION": "Api-Key a b"},
    "a foreign host": {"HTTP_HOST": "evil.example"},
    "no length": {"CONTENT_LENGTH": None},
    "an empty length": {"CONTENT_LENGTH": ""},
    "another path": {"PATH_INFO": PATH + "/"},
}


@pytest.mark.parametrize("changes", UNUSUAL.values(), ids=UNUSUAL)
def test_a_request_with(both: Any, changes: dict[str, Any]) -> None:
    front, handed, key = both
    assert not compare(front, handed, json.dumps(ASKED).encode(), **{**key, **changes})


BODIES: dict[str, Any] = {
    "an unknown tenant": {**ASKED, "tenant": "nowhere"},
    "a foreign tenant": {**ASKED, "tenant": "borealis"},
    "a disabled tenant": {**ASKED, "tenant": "closed"},
    "an unknown persona": {**ASKED, "persona": "nobody"},
    "everything excluded": {**ASKED, "exclude": ["cheap", "incumbent"]},
    "a member too many": {**ASKED, "tenants": "aurora"},
    "a member too few": {"tenant": "aurora", "persona": "essayist"},
    "a number for a name": {**ASKED, "tenant": 7},
    "an empty conversation": {**ASKED, "conversation_id": ""},
    "a conversation of 201": {**ASKED, "conversation_id": "x" * 201},
    "a line break": {**ASKED, "conversation_id": "a\nb"},
    "a task of no form": {**ASKED, "task": "An Essay"},
    "no task": {**ASKED, "task": None},
    "no list": {**ASKED, "exclude": "cheap"},
    "a null list": {**ASKED, "exclude": None},
    "51 excluded": {**ASKED, "exclude": [f"p-{number}" for number in range(51)]},
    "no truth": {**ASKED, "candidates": "yes"},
    "a number for a truth": {**ASKED, "candidates": 1},
    "an empty request_id": {**ASKED, "request_id": ""},
    "a list": [ASKED],
    "null": None,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_with(both: Any, body: Any) -> None:
    front, handed, key = both
    assert not compare(front, handed, json.dumps(body).encode(), **key)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"tenant": NaN}', b"[" * 5000, b"\xef\xbb\xbf{}"])
def test_bytes_that_are_no_json(both: Any, body: bytes) -> None:
    front, handed, key = both
    assert not compare(front, handed, body, **key)


def test_a_key_without_the_verb_is_told_so_by_the_view(both: Any) -> None:
    front, handed, _ = both
    reader = {"HTTP_AUTHORIZATION": factories.key("read")["Authorization"]}
    assert not compare(front, handed, json.dumps(ASKED).encode(), **reader)


NAMES = st.one_of(
    st.sampled_from(
        ["aurora", "essayist", "borealis", "closed", "cheap", "incumbent", "general", "c-1", "", "A", "-"]
    ),
    st.text(max_size=80),
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
VALID: dict[str, st.SearchStrategy[Any]] = {
    "tenant": st.just("aurora"),
    "persona": st.just("essayist"),
    "conversation_id": st.text(
        st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=60
    ),
    "task": st.sampled_from(["general", "essay"]),
    "exclude": st.lists(st.sampled_from(["cheap", "x", "y"]), max_size=5),
    "candidates": st.booleans(),
    "request_id": st.none() | st.text("abc-19", min_size=1, max_size=20),
}


@st.composite
def bodies(draw: Callable[..., Any]) -> Any:
    """Mostly a valid request, with at most a few members left out, twisted or added."""
    body = {name: draw(values) for name, values in VALID.items()}
    for name in draw(st.lists(st.sampled_from([*VALID]), max_size=2)):
        if draw(st.booleans()):
            body.pop(name, None)
        else:
            body[name] = draw(ANYTHING)
    if draw(st.integers(0, 9)) == 0:
        body[draw(st.text(max_size=20))] = draw(ANYTHING)
    return body


def test_random_and_hostile_requests_are_answered_alike(both: Any) -> None:
    front, handed, key = both
    alone = 0

    @hypothesis_settings(max_examples=150)
    @given(
        bodies() | bodies() | bodies() | ANYTHING | st.binary(max_size=200),
        st.just({}) | st.just({}) | st.just({}) | st.sampled_from([*UNUSUAL.values()]),
    )
    def check(body: Any, changes: dict[str, Any]) -> None:
        nonlocal alone
        sent = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8", "surrogatepass")
        alone += compare(front, handed, sent, **{**key, **changes})

    check()
    assert alone > 10


def test_a_scheme_that_the_view_redirects_is_never_learnt(both: Any, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    _, _, key = both
    handed = Handed()
    front = Front(handed)
    body = json.dumps(ASKED).encode()
    for _ in range(3):
        with taken_back():
            assert ask(front, body, **key)[0].startswith("301")
    assert handed.count == 3


def test_hosts_that_are_learnt_are_bounded(both: Any, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    _, _, key = both
    handed = Handed()
    front = Front(handed)
    with taken_back():
        for number in range(80):
            ask(front, json.dumps(ASKED).encode(), HTTP_HOST=f"h{number}.example.com", **key)
    assert len(front._headers) == 64


def test_what_the_front_answers_is_counted_like_any_request(both: Any) -> None:
    front, _, key = both

    def count() -> float:
        tally.fold()
        return float(
            meters().registry.get_sample_value(
                "selection_http_requests_total", {"method": "POST", "route": "selections", "status": "2xx"}
            )
            or 0
        )

    before = count()
    with taken_back():
        ask(front, json.dumps(ASKED).encode(), **key)
    assert count() == before + 1


def test_what_fails_within_is_the_view_s_to_tell(both: Any) -> None:
    front, handed, key = both
    with mock.patch("config.front.select", side_effect=RuntimeError("a bug")):
        assert not compare(front, handed, json.dumps(ASKED).encode(), **key)


def test_the_front_takes_nothing_that_it_would_have_to_guess() -> None:
    assert parse(json.dumps({**ASKED, "exclude": []}).encode()) == parse(json.dumps(ASKED).encode())
    assert way_of({"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": "70000", "HTTP_HOST": "h"}) is None
    assert way_of({"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": "9", "HTTP_HOST": "h"}) == (
        "h",
        "",
        "",
    )
