"""Measure training on a GPU, with random images in place of a data set.

    python -m tests.benchmarks.gpu [--batches 64 1024 8192] [--seconds 300] [--json FILE] [--quick]

Milliseconds of a step and peak memory of the reference loop, of a hand-written one, of that as one
CUDA graph, and of GANTrainer: as it is, with data on the device, and with cuda_graphs=True. What is
not begun after --seconds is left out. --quick makes everything small; it also runs on a CPU, where
graphs are emulated. `python -m pytest tests/gpu` checks what is measured here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from tests.benchmarks.loops import (
    SAMPLE_SHAPE,
    Options,
    hand_written_step,
    own_networks,
    reference_networks,
    train_as_reference,
)
from tests.benchmarks.machine import write_figures
from tests.benchmarks.options import Parser
from tests.helpers.graphs import EmulatedGraphs
from vanillagan import Callback, GANTrainer, StepResult
from vanillagan.data import ByteImages
from vanillagan.runtime import graphs

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main() -> int:
    parser = Parser(__doc__)
    parser.add("--batches", default=[64, 1024, 8192], help="Measure with these batch sizes")
    parser.add("--seconds", default=300, help="Begin nothing after this time")
    parser.add("--json")
    parser.add("--quick", action="store_true", help="Make everything small; also for a CPU")
    options = parser.parse_args()
    if DEVICE.type == "cpu":
        if not options.quick:
            parser.error("there is no CUDA device; `--quick` also runs on a CPU")
        graphs.CUDAGraphs = EmulatedGraphs  # type: ignore[assignment, misc]
    figures: list[dict[str, Any]] = [about()]
    end = time.monotonic() + options.seconds
    for networks in ("mlp",) if options.quick else ("mlp", "conv"):
        for batch_size in (64,) if options.quick else options.batches:
            for precision in ("fp32", "bf16"):
                settings: Any = {"precision": precision, "networks": networks}
                if time.monotonic() > end:
                    figures.append(settings | {"batch": batch_size, "left out": "no time"})
                    continue
                row = Options(Path(), batch_size, device=str(DEVICE), **settings)
                figures += [
                    settings | {"batch": batch_size} | found
                    for found in compare(row, quick=options.quick)
                ]
                write_figures(options.json, "tests.benchmarks.gpu", figures)
    return 0


def about() -> dict[str, Any]:
    """Return the card and the versions of its software."""
    found: dict[str, Any] = {"device": str(DEVICE)}
    if DEVICE.type == "cuda":
        properties = torch.cuda.get_device_properties(DEVICE)
        found |= {
            "name": properties.name,
            "memory": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    print(found, flush=True)
    return found


def compare(options: Options, *, quick: bool) -> list[dict[str, Any]]:
    """Time all rows in turns; return their medians in milliseconds and their peak memory."""
    count = (2 if quick else max(1, 60_000 // options.batch_size)) * options.batch_size
    images = torch.randint(256, (count, *SAMPLE_SHAPE), dtype=torch.uint8)
    rows: dict[str, Callable[..., Turn]] = {
        "reference loop": reference_turn,
        "hand-written loop": hand_written_turn,
        "hand-written loop, one CUDA graph": partial(
            hand_written_turn, as_graph=DEVICE.type == "cuda"
        ),
        "GANTrainer": trainer_turn,
        "GANTrainer, data on the device": partial(trainer_turn, on_device=True),
        "GANTrainer, cuda_graphs": partial(trainer_turn, on_device=True, cuda_graphs=True),
    }
    turns: dict[str, Turn] = {}
    table: dict[str, dict[str, Any]] = {name: {} for name in rows}
    for name, row in rows.items():
        before = peak(reset=True)
        turn = started(partial(row, options, images))
        if callable(turn):
            turns[name] = turn
            table[name]["peak MB"] = round((peak() - before) / 1e6, 1)
        else:
            table[name]["error"] = turn
    steps, rounds = (2, 1) if quick else (40, 3)
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            times[name].append(turn(steps) * 1e3)
    for name, values in times.items():
        table[name] |= {"ms": round(median(values), 4), "all": [round(v, 4) for v in values]}
    for name, row_found in table.items():
        print(
            f"{options.networks:5} {options.batch_size:5} {options.precision} {name:36} "
            f"{row_found.get('ms', row_found.get('error'))}",
            flush=True,
        )
    return [{"row": name} | row_found for name, row_found in table.items()]


Turn = Callable[[int], float]
"""Function that makes some steps, and returns the seconds of one of them."""


def started(row: Callable[[], Turn]) -> Turn | str:
    """Return the row's turn after a first one, or the error that it raises."""
    try:
        turn = row()
        turn(12)
    except Exception as error:  # such as of memory
        return f"{type(error).__name__}: {str(error)[:200]}"
    return turn


def peak(*, reset: bool = False) -> int:
    """Return the peak memory since the last reset; with `reset` the memory that is in use."""
    if DEVICE.type == "cpu":
        return 0
    if reset:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated()


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


class Ended(Exception):  # noqa: N818 - it is no error
    """Raised after the last step of a turn."""


class Clock(Callback):
    """Times the steps of a turn but for the first ones, in which graphs are recorded."""

    priority = 9
    SKIPPED = 8

    def __init__(self) -> None:
        self.start(0)

    def start(self, steps: int) -> None:
        """Begin a turn of so many timed steps."""
        self.done, self.steps = 0, steps

    def tick(self) -> None:
        """Count a step; the last one raises `Ended`."""
        self.done += 1
        if self.done == self.SKIPPED:
            synchronize()
            self.started = time.perf_counter()
        if self.done == self.SKIPPED + self.steps:
            synchronize()
            self.seconds = (time.perf_counter() - self.started) / self.steps
            raise Ended

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        try:
            self.tick()
        except Ended:
            trainer.stop("the turn has ended")


def timed(clock: Clock, run: Callable[[], object]) -> Turn:
    def turn(steps: int) -> float:
        clock.start(steps)
        with suppress(Ended):
            run()
        return clock.seconds

    return turn


def batches(images: Tensor, options: Options) -> Iterator[Tensor]:
    """Yield batches of floats on the device of the images, forever."""
    while True:
        order = torch.randperm(len(images), device=images.device)
        for indices in order.split(options.batch_size):
            yield images.index_select(0, indices).float().div_(127.5).sub_(1.0)


def reference_turn(options: Options, images: Tensor) -> Turn:
    """Return a turn of the reference loop, with data in memory instead of files."""
    pair = [network.to(DEVICE) for network in reference_networks(options, sigmoid=True)]
    clock = Clock()

    def loader() -> Iterator[tuple[Tensor, Tensor]]:
        for real in batches(images, options):
            yield real.to(DEVICE), real

    return timed(clock, lambda: train_as_reference(pair[0], pair[1], loader(), options, clock.tick))


def hand_written_turn(options: Options, images: Tensor, *, as_graph: bool = False) -> Turn:
    """Return a turn of the hand-written loop, with data on the device."""
    pair: list[nn.Module] = [network.to(DEVICE) for network in own_networks(options)]
    step = hand_written_step(pair[0], pair[1], options)
    source = batches(images.to(DEVICE), options)
    if as_graph:
        step = recorded(step, next(source))
    clock = Clock()

    def run() -> None:
        for real in source:
            step(real)
            clock.tick()

    return timed(clock, run)


def recorded(step: Callable[[Tensor], None], batch: Tensor) -> Callable[[Tensor], None]:
    """Return a step as one CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(batch)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(batch)

    def replayed(real: Tensor) -> None:
        batch.copy_(real)
        graph.replay()

    return replayed


def trainer_turn(
    options: Options,
    images: Tensor,
    *,
    on_device: bool = False,
    cuda_graphs: bool = False,
) -> Turn:
    """Return a turn of `GANTrainer.fit`."""
    clock = Clock()
    trainer = GANTrainer(
        *own_networks(options),
        device=DEVICE,
        precision=options.precision,
        cuda_graphs=cuda_graphs,
        callbacks=[clock],
    )
    data = ByteImages(images.to(DEVICE) if on_device else images)
    return timed(
        clock,
        lambda: trainer.fit(data, max_steps=10**9, batch_size=options.batch_size),
    )


if __name__ == "__main__":
    sys.exit(main())
