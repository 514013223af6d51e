"""Draws the plots of docs/performance.md from what the benchmarks have written by `--json`.

    python -m tests.benchmarks.plots [--scaling FILE] [--memory FILE] [--quality FILE]
                                     [--out docs/images]

Each file that is given becomes <out>/scaling.png, memory.png or time_to_quality.png. Needs the
extra `examples`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LABELS = {
    "batch": "real samples in a batch",
    "width": "width of the networks, over the source's",
    "samples": "images in the data, mapped into memory",
    "d_steps": "steps of D for one of G",
    "callbacks": "callbacks that hear of each step",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    plots = {"scaling": scaling, "memory": memory, "quality": time_to_quality}
    for name, draw in plots.items():
        meaning = f"what tests.benchmarks.{draw.__name__} has written"
        parser.add_argument(f"--{name}", type=Path, help=meaning, metavar="FILE")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), metavar="FOLDER")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, draw in plots.items():
        path = getattr(options, name)
        if path is not None:
            figures = json.loads(path.read_text())["figures"]
            draw(figures).savefig(options.out / f"{draw.__name__}.png", dpi=120)


def scaling(figures: dict[str, dict[str, Any]]) -> Figure:
    """Steps a second along each axis."""
    axes = {axis: figures[axis] for axis in LABELS if axis in figures}
    figure = Figure(figsize=(3.2 * len(axes), 3.2), layout="constrained")
    for place, (axis, rows) in zip(
        figure.subplots(1, len(axes), squeeze=False)[0], axes.items(), strict=True
    ):
        points = [
            (float(name), 1 / statistics.median(row["seconds"]))
            for name, row in rows.items()
            if isinstance(row, dict) and name != "in memory"
        ]
        place.plot(*zip(*points, strict=True), marker="o", label="measured")
        if isinstance(rows.get("in memory"), dict):
            speed = 1 / statistics.median(rows["in memory"]["seconds"])
            place.axhline(speed, color="grey", linestyle=":", label="60,000 in memory")
            place.legend()
        place.set(xscale="symlog" if axis == "callbacks" else "log", xlabel=LABELS[axis])
        places = [x for x, _ in points]
        place.set_xticks(places, labels=[f"{x:,.0f}" if x > 1 else f"{x:g}" for x in places])
        place.minorticks_off()
        start_at_zero(place)
        place.grid(alpha=0.3)
    figure.axes[0].set(ylabel="steps a second")
    return figure


def memory(figures: dict[str, Any]) -> Figure:
    """The memory over the steps of a long run."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(figures["steps"], [value / 1e6 for value in figures["bytes"]])
    axes.set(xlabel="steps", ylabel="memory of the process (RSS), MB")
    start_at_zero(axes)
    axes.grid(alpha=0.3)
    return figure


def start_at_zero(axes: Axes) -> None:
    """Lets the y axis reach from 0 to a little more than the largest value."""
    largest = max(max(line.get_ydata()) for line in axes.lines)
    axes.set(ylim=(0, 1.1 * largest))


def time_to_quality(figures: dict[str, Any]) -> Figure:
    """The Frechet distance against seconds: each seed faintly, and the median over them."""
    runs: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in figures["rows"]:
        runs[row["name"]][row["seed"]].append(row)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, seeds) in enumerate(runs.items()):
        colour = f"C{number}"
        for rows in seeds.values():
            points = [(row["seconds"], row["frechet"]) for row in rows]
            axes.plot(*zip(*points, strict=True), color=colour, alpha=0.25, linewidth=0.8)
        looks = list(zip(*seeds.values(), strict=False))
        axes.plot(
            [statistics.median(row["seconds"] for row in look) for look in looks],
            [statistics.median(row["frechet"] for row in look) for look in looks],
            color=colour, marker="o", markersize=3, label=f"{name} (seeds: {len(seeds)})",
        )  # fmt: skip
    axes.axhline(
        figures["real"]["frechet"], color="grey", linestyle=":", label="real training images"
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="seconds of training",
        ylabel="Frechet distance to the test set",
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
