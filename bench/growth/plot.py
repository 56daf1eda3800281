"""The curves as one picture of small multiples."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from bench.growth.curves import Curve


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Both axes logarithmic where a size of 0 does not forbid it, each panel from where its own costs are; a dashed
    line shows what growing with the size would be, a dotted one the target."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = 3
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(12, 2.9 * rows), squeeze=False)
    for axis in axes.flat[len(curves) :]:
        axis.remove()
    for axis, curve in zip(axes.flat, curves, strict=False):
        sizes, costs = zip(*curve.points, strict=True)
        has_zero = min(sizes) == 0
        axis.set_xscale("symlog", linthresh=min(s for s in sizes if s)) if has_zero else axis.set_xscale(
            "log"
        )
        axis.set_yscale("log")
        axis.plot(sizes, costs, "o-", color="#1f5fa8", markersize=4)
        first = next((s, c) for s, c in curve.points if s)
        linear = [(s, first[1] * s / first[0]) for s in sizes if s]
        # A decade at least, so that noise does not look like growth.
        bottom, top = min(costs) / 3, max(costs) * 3.4
        if curve.ceiling is not None:
            axis.axhline(curve.ceiling, color="#b23b3b", linestyle=":", linewidth=1)
            top = max(top, curve.ceiling * 1.3)
        axis.plot(*zip(*linear, strict=True), "--", color="#999999", linewidth=1)
        axis.set_ylim(bottom, top)
        exponent = "" if curve.exponent is None else f" (exponent {curve.exponent:.2f})"
        axis.set_title(textwrap.fill(f"{curve.name}{exponent}", 48), fontsize=8)
        axis.set_xlabel(curve.axis, fontsize=8)
        axis.set_ylabel(curve.unit, fontsize=8)
        axis.tick_params(which="both", labelsize=7)
        axis.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)
