"""Load is bounded, and for this machine only."""

from dataclasses import replace

import pytest

from load.__main__ import main
from load.forms import (
    FORMS,
    MOST_RPS,
    MOST_SECONDS,
    Cold,
    Compare,
    NotLoopbackError,
    Steady,
    check,
    loopback,
    parts,
)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://127.9.9.9", "http://[::1]:80/api"])
def test_load_goes_to_loopback_addresses(url: str) -> None:
    assert loopback(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.7:8000",
        "http://192.168.1.1",
        "https://127.0.0.1",
        "http://selection.example.com",
        "http://127.0.0.1.example.com",
        # A name means what a file or a server says it does.
        "http://localhost:8000",
        "http://127.0.0.1@example.com",
        "http://0.0.0.0",
        "127.0.0.1:8000",
        "",
        None,
    ],
)
def test_any_other_host_is_refused(url: str | None) -> None:
    with pytest.raises(NotLoopbackError, match="loopback"):
        loopback(url)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_within_the_bounds(form: str) -> None:
    for part in parts(form):
        check(part)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (Steady(0, 10), "rps"),
        (Steady(MOST_RPS + 1, 10), "rps"),
        (Steady(10, MOST_SECONDS + 1), "seconds"),
        (Steady(10, -1), "seconds"),
        (Cold(2_001), "clients"),
        (Compare(0, 20), "conversations"),
    ],
)
def test_what_is_beyond_the_bounds_is_refused_and_named(part: Steady | Cold | Compare, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}: "):
        check(part)


def test_rate_and_time_of_steady_parts_can_be_given_and_nothing_else_changes() -> None:
    assert parts("short", rps=7, seconds=9) == tuple(
        replace(part, rps=7, seconds=9) if isinstance(part, Steady) else part for part in FORMS["short"]
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rps", "1001"],
        ["--rps", "0"],
        ["--form", "rate", "--seconds", "7201"],
        ["--form", "flood"],
        ["--host", "http://10.0.0.7"],
    ],
)
def test_the_command_refuses_before_it_starts_anything(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("load.__main__.product", None)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
