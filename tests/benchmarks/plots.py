"""Draw the plots of docs/results/performance.md from the files that benchmarks write by `--json`.

    python -m tests.benchmarks.plots [--scaling FILE] [--memory FILE] [--quality FILE]
                                     [--out docs/images]

Each file becomes <out>/scaling.png, memory.png or time_to_quality.png. Needs the extra `examples`.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.benchmarks.options import Parser

LABELS = {
    "batch": "real samples in a batch",
    "width": "width of the networks, relative to the reference",
    "samples": "images in a memory-mapped file",
    "d_steps": "discriminator steps per generator step",
    "callbacks": "callbacks with `on_step_end`",
}


def main() -> None:
    parser = Parser(__doc__)
    plots = {"scaling": scaling, "memory": memory, "quality": time_to_quality}
    for name, draw in plots.items():
        meaning = f"Plot this file, written by tests.benchmarks.{draw.__name__}"
        parser.add(f"--{name}", type=Path, metavar="FILE", help=meaning)
    parser.add("--out", default=Path("docs/images"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, draw in plots.items():
        path = getattr(options, name)
        if path is not None:
            figures = json.loads(path.read_text())["figures"]
            draw(figures).savefig(options.out / f"{draw.__name__}.png", dpi=120)


def scaling(figures: dict[str, dict[str, Any]]) -> Figure:
    """Plot steps per second along each axis."""
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
            place.axhline(speed, color="gray", linestyle=":", label="60,000 in memory")
            place.legend()
        place.set(xscale="symlog" if axis == "callbacks" else "log", xlabel=LABELS[axis])
        places = [x for x, _ in points]
        place.set_xticks(places, labels=[f"{x:,.0f}" if x > 1 else f"{x:g}" for x in places])
        place.minorticks_off()
        start_at_zero(place)
        place.grid(alpha=0.3)
    figure.axes[0].set(ylabel="steps per second")
    return figure


def memory(figures: dict[str, Any]) -> Figure:
    """Plot the memory over the steps of a long run."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(figures["steps"], [value / 1e6 for value in figures["bytes"]])
    axes.set(xlabel="steps", ylabel="memory of the process (RSS), MB")
    start_at_zero(axes)
    axes.grid(alpha=0.3)
    return figure


def start_at_zero(axes: Axes) -> None:
    """Let the y axis range from 0 to 1.1 times the largest value."""
    largest = max(max(line.get_ydata()) for line in axes.lines)
    axes.set(ylim=(0, 1.1 * largest))


def time_to_quality(figures: dict[str, Any]) -> Figure:
    """Plot Fréchet distance over seconds: each seed faintly, and the median."""
    runs: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in figures["rows"]:
        runs[row["name"]][row["seed"]].append(row)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, seeds) in enumerate(runs.items()):
        color = f"C{number}"
        for rows in seeds.values():
            points = [(row["seconds"], row["frechet"]) for row in rows]
            axes.plot(*zip(*points, strict=True), color=color, alpha=0.25, linewidth=0.8)
        evaluations = list(zip(*seeds.values(), strict=False))
        axes.plot(
            [statistics.median(row["seconds"] for row in rows) for rows in evaluations],
            [statistics.median(row["frechet"] for row in rows) for rows in evaluations],
            color=color, marker="o", markersize=3, label=f"{name} (seeds: {len(seeds)})",
        )  # fmt: skip
    axes.axhline(
        figures["real"]["frechet"], color="gray", linestyle=":", label="real training images"
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="seconds of training",
        ylabel="Fréchet distance to the test set",
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
