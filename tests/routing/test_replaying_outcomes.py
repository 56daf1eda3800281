"""Reading recorded outcomes: what is kept, and what is refused where."""

import gzip
import io
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from routing.replaying.outcomes import BadOutcomesError, Outcome, parse, read_outcomes, record
from tests.routing.recorded import call

HEADER = (
    "prompt_id,category,model,success,prompt_tokens,completion_tokens,cost_usd,latency_ms,source,score,n_runs,"
    "recorded_on,outcome"
)
GOOD = "essay/1,essay,GPT,1,10,20,0.0003,1500,lab,0.9,3,2026-05-01,ok"


def read(*lines: str) -> list[Outcome]:
    return list(parse(io.StringIO("\n".join((HEADER, *lines)) + "\n")))


def test_a_row_is_read_with_money_exact() -> None:
    (found,) = read(GOOD)
    assert found == call(
        "essay/1",
        "GPT",
        prompt_tokens=10,
        completion_tokens=20,
        cost_usd=Decimal("0.0003"),
        latency_ms=1500,
        runs=3,
    )


def test_what_was_not_recorded_is_unknown_and_not_zero() -> None:
    (found,) = read("essay/1,essay,GPT,0,0,0,,,lab,,,2026-05-01,runtime_error")
    assert (found.cost_usd, found.latency_ms, found.score, found.error) == (None, None, None, True)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (",1,10,", ",yes,10,", "line 3: success must be 0 or 1, not 'yes'"),
        (",10,20,", ",-1,20,", "line 3: prompt_tokens must be a whole number, 0 or more, not '-1'"),
        ("0.0003", "NaN", "line 3: cost_usd must be US dollars, 0 or more, not 'NaN'"),
        ("0.0003", "-1", "line 3: cost_usd must be US dollars, 0 or more, not '-1'"),
        (",1500,", ",1.5,", "line 3: latency_ms must be a whole number, 0 or more, not '1.5'"),
        (",0.9,", ",1.9,", "line 3: score must be 0 to 1, not '1.9'"),
        (",0.9,", ",nan,", "line 3: score must be 0 to 1, not 'nan'"),
        ("2026-05-01", "May", "line 3: recorded_on must be an ISO 8601 date or time, not 'May'"),
        ("GPT", "", "line 3: model must be given, not ''"),
    ],
)
def test_a_bad_cell_is_refused_by_line_and_column(old: str, new: str, told: str) -> None:
    with pytest.raises(BadOutcomesError) as refused:
        read(GOOD, GOOD.replace(old, new))
    assert str(refused.value) == told


def test_missing_columns_are_named() -> None:
    with pytest.raises(BadOutcomesError, match="line 1: missing columns: cost_usd, latency_ms"):
        list(parse(io.StringIO(HEADER.replace("cost_usd,latency_ms,", "") + "\n")))


def test_a_short_row_is_refused() -> None:
    with pytest.raises(BadOutcomesError, match="line 2: completion_tokens must be"):
        read("essay/1,essay,GPT,1,10")


def test_a_row_with_too_many_cells_is_refused() -> None:
    with pytest.raises(BadOutcomesError, match="line 2: more cells than columns"):
        read(GOOD + ",more")


def test_times_of_other_zones_are_put_in_order() -> None:
    early, late = "2026-05-01T01:00:00+02:00", "2026-04-30T23:30:00"
    found = record(read(*(GOOD.replace("2026-05-01", at).replace("essay/1", at) for at in (late, early))))
    assert [c.prompt_id for c in found.conversations] == [early, late]


def test_gzipped_and_plain_files_read_the_same(tmp_path: Path) -> None:
    text = f"{HEADER}\n{GOOD}\n"
    plain, zipped = tmp_path / "a.csv", tmp_path / "a.csv.gz"
    plain.write_text(text)
    zipped.write_bytes(gzip.compress(text.encode()))
    assert read_outcomes(plain) == read_outcomes(zipped) == read(GOOD)


@pytest.mark.parametrize("damage", [b"no gzip", gzip.compress(f"{HEADER}\n{GOOD}\n".encode())[:-9]])
def test_a_damaged_file_is_told_and_not_half_read(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(damage)
    with pytest.raises(BadOutcomesError, match=r"a\.csv\.gz: cannot be read"):
        read_outcomes(path)


def test_conversations_come_in_order_of_time_with_the_earliest_recording_of_each_model() -> None:
    late = call("a", "m", recorded_on="2026-06-02", success=False)
    found = record(
        [late, call("a", "m", recorded_on="2026-06-01"), call("b", "m", recorded_on="2026-05-01", runs=3)]
    )
    assert [c.prompt_id for c in found.conversations] == ["b", "a"]
    assert found.conversations[1].outcomes["m"].success
    assert (found.outcomes, found.repeated, found.averaged) == (2, 1, 1)


def test_only_the_models_and_categories_asked_for_are_kept() -> None:
    calls = [call("a", "m"), call("a", "n"), call("b", "m", category="code")]
    found = record(calls, models=["m"], categories=["essay"])
    assert (found.models, [c.prompt_id for c in found.conversations]) == (("m",), ["a"])


@pytest.mark.parametrize(
    ("models", "categories", "told"),
    [(["gone"], None, "model 'gone'"), (None, ["gone"], "category 'gone'")],
)
def test_a_model_or_category_that_never_occurs_is_an_error(
    models: list[str] | None, categories: list[str] | None, told: str
) -> None:
    with pytest.raises(BadOutcomesError, match=told):
        record([call()], models, categories)


def test_a_prompt_of_two_categories_is_an_error() -> None:
    with pytest.raises(BadOutcomesError, match="prompt 'p' has several categories: code, essay"):
        record([call(), call(model="n", category="code")])


def test_a_failed_safety_test_is_a_violation_unless_there_was_no_answer() -> None:
    failed = call(category="safety_injection", success=False)
    assert failed.safety_violation
    assert not replace(failed, error=True).safety_violation
    assert not call(success=False).safety_violation
