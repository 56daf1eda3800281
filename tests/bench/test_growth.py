"""The exponent that a cost grows by, and how a curve is told."""

from pathlib import Path

import pytest

from bench.growth.curves import FLAT, LINEAR, Curve, put, slope, table
from bench.growth.plot import draw


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_its_power(power: float) -> None:
    assert slope((n, 3 * n**power) for n in (10, 100, 1_000)) == pytest.approx(power)


def test_a_size_of_nothing_is_told_but_not_fitted() -> None:
    curve = Curve("decide()", "overrides", "us", ((0, 20), (1_000, 20), (100_000, 20)), FLAT)
    assert curve.exponent == pytest.approx(0)
    assert "0: 20, 1,000: 20, 100,000: 20" in table([curve])


def test_one_size_has_no_exponent() -> None:
    assert slope([(10, 1.0)]) is None
    assert slope([(0, 1.0), (10, 1.0)]) is None
    assert slope([(10, 1.0), (10, 2.0)]) is None


def test_what_is_fixed_does_not_hide_how_the_largest_sizes_grow() -> None:
    # A second whatever the size, and a square beside it.
    curve = Curve("build", "scopes", "s", tuple((n, 1 + 1e-6 * n**2) for n in (10, 1_000, 10_000)), LINEAR)
    assert curve.exponent is not None
    assert curve.exponent < LINEAR < (curve.last or 0)
    assert not curve.is_met


def test_a_cost_above_its_ceiling_misses_the_target() -> None:
    points = ((1_000, 150.0), (10_000, 201.0))
    assert not Curve("memory", "scopes", "MB", points, ceiling=200).is_met
    assert Curve("memory", "scopes", "MB", points, ceiling=210).is_met
    assert "MISSED" in table([Curve("memory", "scopes", "MB", points, ceiling=200)])


def test_the_picture_is_small(tmp_path: Path) -> None:
    curve = Curve("decide()", "overrides", "us", ((0, 20), (1_000, 21), (100_000, 20)), FLAT, ceiling=50)
    draw([curve] * 9, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "growth.png").stat().st_size < 150_000


def test_a_section_is_put_between_its_markers_and_the_rest_stays() -> None:
    page = "# Speeds\n\n<!-- growth -->\nold\n<!-- end growth -->\n\n## Others\n"
    told = put(page, "growth", "new")
    assert told == page.replace("old", "new")
    assert put(told, "growth", "new") == told
    with pytest.raises(ValueError, match="events"):
        put(page, "events", "new")
