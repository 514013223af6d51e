"""Check and measure training on a GPU, with random images in place of a data set.

    python -m tests.benchmarks.gpu [--sections right waits graphs resume speed] [--seconds 90]
                                   [--batches 64 1024 8192] [--json FILE] [--quick]

Sections, in this order:

    right   configurations of losses, penalties, networks, data and callbacks train; checkpoints
            go from the device to the CPU and back
    waits   synchronizations with the device in 100 steps, by line of the library
    graphs  replayed CUDA graphs equal ordinary steps bit for bit, with deterministic algorithms
    resume  a resumed run equals an uninterrupted one bit for bit, with deterministic algorithms
    speed   milliseconds of a step and peak memory of the reference loop, of a hand-written one,
            of that as one CUDA graph, and of GANTrainer: as it is, with data on the device, and
            with cuda_graphs=True

A section leaves out what it has not begun after --seconds. Figures are printed, and written to
--json after each section. --quick makes everything small; it also runs on a CPU, where graphs are
emulated. The command exits with 1 if a check of the first four sections fails.
"""

from __future__ import annotations

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts

import math
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

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
from tests.helpers.graphs import CONFIGURATIONS, EmulatedGraphs, Stopped, fit, make, state, tapes
from tests.helpers.states import differences
from vanillagan import (
    EMA,
    BCEAdversarialLoss,
    Callback,
    GANTrainer,
    HingeLoss,
    LeastSquaresLoss,
    RelativisticLoss,
    StepResult,
    WassersteinLoss,
)
from vanillagan.callbacks import Checkpoint, CSVLog, MetricLog, NaNGuard, SampleGrid
from vanillagan.data import ByteImages
from vanillagan.runtime import graphs as library_graphs

SECTIONS = ("right", "waits", "graphs", "resume", "speed")
Check = Callable[[], object]


class GPU:
    """What the sections share: the device, the options, and the time at which a section ends."""

    def __init__(self, seconds: int, batches: list[int], *, quick: bool) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.is_cuda = self.device.type == "cuda"
        self.quick, self.seconds, self.batches = quick, seconds, [64] if quick else batches
        self.failed: list[str] = []
        self.begin()

    def begin(self) -> None:
        """Begin a section."""
        self.end = time.monotonic() + self.seconds

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.is_cuda:
            torch.cuda.synchronize()

    def check_all(self, checks: dict[str, Check]) -> dict[str, Any]:
        """Return what each check returns, or the error that it raises."""
        found: dict[str, Any] = {}
        for name, check in checks.items():
            if time.monotonic() > self.end:
                found[name] = "left out: no time"
                continue
            try:
                found[name] = check() or "passed"
            except Exception as error:
                lines = [line for line in traceback.extract_tb(error.__traceback__) if line.line]
                own = [line for line in lines if "vanillagan" in line.filename] or lines
                place = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
                found[name] = f"FAILED: {type(error).__name__} at {place}: {str(error)[:300]}"
                self.failed.append(name)
            print(f"{name:60} {found[name]}", flush=True)
        return found


def main() -> int:
    parser = Parser(__doc__)
    parser.add("--sections", choices=list(SECTIONS), default=list(SECTIONS), help="Run these")
    parser.add("--seconds", default=90, help="Begin nothing in a section after this time")
    parser.add("--batches", default=[64, 1024, 8192], help="Measure with these batch sizes")
    parser.add("--json")
    parser.add("--quick", action="store_true", help="Make everything small; also for a CPU")
    options = parser.parse_args()
    gpu = GPU(options.seconds, options.batches, quick=options.quick)
    if not gpu.is_cuda and not gpu.quick:
        parser.error("there is no CUDA device; `--quick` also runs on a CPU")
    if not gpu.is_cuda:
        library_graphs.CUDAGraphs = EmulatedGraphs  # type: ignore[assignment, misc]
    figures: list[dict[str, Any]] = [about(gpu)]
    for name in [name for name in SECTIONS if name in options.sections]:
        print(f"-- {name}", flush=True)
        gpu.begin()
        started = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = globals()[name](gpu)
        seconds = round(time.monotonic() - started, 1)
        figures.append({"section": name, "seconds": seconds, "found": found})
        write_figures(options.json, "tests.benchmarks.gpu", figures)
    print("failed:", gpu.failed or "nothing")
    return 1 if gpu.failed else 0


def about(gpu: GPU) -> dict[str, Any]:
    """Return the card and the versions of its software."""
    found: dict[str, Any] = {"section": "about", "device": str(gpu.device)}
    if gpu.is_cuda:
        properties = torch.cuda.get_device_properties(gpu.device)
        found |= {
            "name": properties.name,
            "memory": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    print(found, flush=True)
    return found


# -- right -----------------------------------------------------------------------------------------


def right(gpu: GPU) -> dict[str, Any]:
    """Train small networks in many configurations."""
    losses = {
        "minimax": BCEAdversarialLoss(generator_objective="minimax"),
        "hinge": HingeLoss(),
        "least squares": LeastSquaresLoss(),
        "Wasserstein": WassersteinLoss(),
        "relativistic": RelativisticLoss(),
    }
    checks: dict[str, Check] = {name: partial(train, gpu, name) for name in CONFIGURATIONS}
    for name, loss in losses.items():
        for order in ("generator_first", "discriminator_first"):
            checks[f"{name}, {order}"] = partial(
                train, gpu, "plain", loss=loss, update_order=order, ema=True
            )
    images = torch.randint(256, (64, 1, 6, 6), dtype=torch.uint8)
    labels = torch.arange(64) % 3
    sources = {
        "bytes": ByteImages(images),
        "bytes on the device": ByteImages(images.to(gpu.device)),
        "floats on the device": images.to(gpu.device) / 127.5 - 1,
        "samples on the device, labels not": TensorDataset(
            images.to(gpu.device) / 127.5 - 1, labels
        ),
    }
    for name, data in sources.items():
        kind = "labels" if "labels" in name else "plain"
        checks[f"data: {name}"] = partial(train, gpu, kind, data)
    checks["channels_last"] = partial(
        train, gpu, "relativistic, GP, convolutions, DiffAugment", channels_last=True
    )
    checks["callbacks"] = partial(train_with_callbacks, gpu)
    checks["checkpoints from the device to the CPU and back"] = partial(move, gpu)
    checks["sample leaves the random state of the device"] = partial(sample, gpu)
    return gpu.check_all(checks)


def train(
    gpu: GPU,
    name: str,
    data: Any = None,
    *,
    channels_last: bool = False,
    ema: bool = False,
    **options: Any,
) -> None:
    networks, default_data, default_options, _ = CONFIGURATIONS[name]
    pair = networks()
    if channels_last:
        pair = [network.to(memory_format=torch.channels_last) for network in pair]
    options = default_options() | options | ({"ema": EMA()} if ema else {})
    trainer = GANTrainer(*pair, device=gpu.device, **options)
    history = trainer.fit(default_data if data is None else data, max_steps=5, batch_size=16)
    if not all(map(math.isfinite, history.generator_loss + history.discriminator_loss)):
        raise ValueError(f"losses are not finite: {history}")


def train_with_callbacks(gpu: GPU) -> None:
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [
            CSVLog(Path(folder, "log.csv"), every_n_steps=2),
            SampleGrid(folder, every_n_steps=3),
            NaNGuard(every_n_steps=2),
            Checkpoint(Path(folder, "kept"), every_n_steps=3),
            MetricLog({"mean": lambda x: x.mean()}, num_samples=40, every_n_steps=3),
        ]
        train(gpu, "plain", callbacks=callbacks)


def move(gpu: GPU) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pt")
        for steps, device in ((3, str(gpu.device)), (6, "cpu"), (9, str(gpu.device))):
            trainer, data = make("EMA, lazy penalties", cuda_graphs=False, device=device)
            if steps > 3:
                trainer.load(path)
            fit(trainer, data, steps)
            trainer.save(path)


def sample(gpu: GPU) -> None:
    trainer, _ = make("plain", cuda_graphs=False, device=str(gpu.device))
    states = [torch.cuda.get_rng_state(gpu.device)] if gpu.is_cuda else []
    trainer.sample(4, seed=0)
    if states and not torch.equal(states[0], torch.cuda.get_rng_state(gpu.device)):
        raise ValueError("`sample` has changed the random state")


# -- waits -----------------------------------------------------------------------------------------


def waits(gpu: GPU) -> dict[str, Any]:
    """Count synchronizations in 100 steps; the steps of the warm-up are not counted."""
    checks = {
        f"{name}, cuda_graphs={cuda_graphs}, data on {place}": partial(
            count_waits, gpu, name, place, cuda_graphs=cuda_graphs
        )
        for name in ("plain", "EMA, lazy penalties", "labels", "accumulate")
        for cuda_graphs in (False, True)
        for place in ("cpu", str(gpu.device))
    }
    return gpu.check_all(checks)


def count_waits(gpu: GPU, name: str, place: str, *, cuda_graphs: bool) -> str:
    trainer, data = make(name, cuda_graphs=cuda_graphs, device=str(gpu.device))
    tensors = data.tensors if isinstance(data, TensorDataset) else (data,)
    batches = list(zip(*(tensor[:96].to(place).split(16) for tensor in tensors), strict=True))
    seen: Counter[str] = Counter()

    def note(message: Any, *_: object) -> None:
        frames = [f for f in traceback.extract_stack() if "/vanillagan/" in f.filename]
        if "synchroniz" in str(message) and frames:
            seen[f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"] += 1

    def steps(count: int) -> None:
        for index in range(count):
            batch = batches[index % len(batches)]
            trainer.train_step(batch if len(batch) > 1 else batch[0])

    steps(50)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        if gpu.is_cuda:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            steps(10 if gpu.quick else 100)
        finally:
            if gpu.is_cuda:
                torch.cuda.set_sync_debug_mode("default")
    if seen:
        raise ValueError(f"synchronizations by line: {dict(seen)}")
    return "none" if gpu.is_cuda else "not counted on a CPU"


# -- graphs and resume -----------------------------------------------------------------------------


def graphs(gpu: GPU) -> dict[str, Any]:
    """Compare replayed steps with ordinary ones."""
    return with_repeatable_kernels(gpu, {name: partial(replay, gpu, name) for name in some(gpu)})


def resume(gpu: GPU) -> dict[str, Any]:
    """Compare resumed runs with uninterrupted ones."""
    checks = {
        f"{name}, cuda_graphs={cuda_graphs}": partial(restart, gpu, name, cuda_graphs=cuda_graphs)
        for name in some(gpu)
        for cuda_graphs in (False, True)
    }
    return with_repeatable_kernels(gpu, checks)


def some(gpu: GPU) -> list[str]:
    return list(CONFIGURATIONS)[:2] if gpu.quick else list(CONFIGURATIONS)


def with_repeatable_kernels(gpu: GPU, checks: dict[str, Check]) -> dict[str, Any]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        return gpu.check_all(checks)
    finally:
        torch.use_deterministic_algorithms(before)


def replay(gpu: GPU, name: str) -> str:
    states = []
    for cuda_graphs in (False, True):
        trainer, data = make(name, cuda_graphs=cuda_graphs, device=str(gpu.device))
        fit(trainer, data)
        states.append(state(trainer))
    return equal(*states) + f", tapes {tapes(trainer)}"


def restart(gpu: GPU, name: str, *, cuda_graphs: bool) -> str:
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for cls in (GANTrainer, Stopped, GANTrainer):
            trainer, data = make(name, cuda_graphs=cuda_graphs, cls=cls, device=str(gpu.device))
            if len(runs) == 2:
                trainer.load(Path(folder, "a.pt"))
            fit(trainer, data)
            trainer.save(Path(folder, "a.pt"))
            runs.append(state(trainer))
    return equal(runs[0], runs[2])


def equal(first: dict[str, Any], second: dict[str, Any]) -> str:
    places = differences(first, second)
    if places:
        raise ValueError(f"{len(places)} parts of the state differ, such as {places[:3]}")
    return "equal"


# -- speed -----------------------------------------------------------------------------------------


def speed(gpu: GPU) -> list[dict[str, Any]]:
    """Time the rows in turns, for each pair of networks, batch size and precision."""
    found: list[dict[str, Any]] = []
    for networks in ("mlp",) if gpu.quick else ("mlp", "conv"):
        for batch_size in gpu.batches:
            for precision in ("fp32", "bf16"):
                settings: Any = {"precision": precision, "networks": networks}
                if time.monotonic() > gpu.end:
                    found.append(settings | {"batch": batch_size, "left out": "no time"})
                    continue
                options = Options(Path(), batch_size, device=str(gpu.device), **settings)
                found += [settings | {"batch": batch_size} | row for row in compare(gpu, options)]
    return found


def compare(gpu: GPU, options: Options) -> list[dict[str, Any]]:
    """Time all rows in turns; return their medians in milliseconds and their peak memory."""
    count = (2 if gpu.quick else max(1, 60_000 // options.batch_size)) * options.batch_size
    images = torch.randint(256, (count, *SAMPLE_SHAPE), dtype=torch.uint8)
    rows: dict[str, Callable[..., Turn]] = {
        "reference loop": reference_turn,
        "hand-written loop": hand_written_turn,
        "hand-written loop, one CUDA graph": partial(hand_written_turn, as_graph=gpu.is_cuda),
        "GANTrainer": trainer_turn,
        "GANTrainer, data on the device": partial(trainer_turn, on_device=True),
        "GANTrainer, cuda_graphs": partial(trainer_turn, on_device=True, cuda_graphs=True),
    }
    turns: dict[str, Turn] = {}
    table: dict[str, dict[str, Any]] = {name: {} for name in rows}
    for name, row in rows.items():
        before = peak(gpu, reset=True)
        turn = started(partial(row, gpu, options, images))
        if callable(turn):
            turns[name] = turn
            table[name]["peak MB"] = round((peak(gpu) - before) / 1e6, 1)
        else:
            table[name]["error"] = turn
    steps, rounds = (2, 1) if gpu.quick else (40, 3)
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


def peak(gpu: GPU, *, reset: bool = False) -> int:
    """Return the peak memory since the last reset; with `reset` the memory that is in use."""
    if not gpu.is_cuda:
        return 0
    if reset:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated()


class Ended(Exception):  # noqa: N818 - it is no error
    """Raised after the last step of a turn."""


class Clock(Callback):
    """Times the steps of a turn but for the first ones, in which graphs are recorded."""

    priority = 9
    SKIPPED = 8

    def __init__(self, gpu: GPU) -> None:
        self.gpu = gpu
        self.start(0)

    def start(self, steps: int) -> None:
        """Begin a turn of so many timed steps."""
        self.done, self.steps = 0, steps

    def tick(self) -> None:
        """Count a step; the last one raises `Ended`."""
        self.done += 1
        if self.done == self.SKIPPED:
            self.gpu.synchronize()
            self.started = time.perf_counter()
        if self.done == self.SKIPPED + self.steps:
            self.gpu.synchronize()
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


def reference_turn(gpu: GPU, options: Options, images: Tensor) -> Turn:
    """Return a turn of the reference loop, with data in memory instead of files."""
    pair = [network.to(gpu.device) for network in reference_networks(options, sigmoid=True)]
    clock = Clock(gpu)

    def loader() -> Iterator[tuple[Tensor, Tensor]]:
        for real in batches(images, options):
            yield real.to(gpu.device), real

    return timed(clock, lambda: train_as_reference(pair[0], pair[1], loader(), options, clock.tick))


def hand_written_turn(
    gpu: GPU, options: Options, images: Tensor, *, as_graph: bool = False
) -> Turn:
    """Return a turn of the hand-written loop, with data on the device."""
    pair: list[nn.Module] = [network.to(gpu.device) for network in own_networks(options)]
    step = hand_written_step(pair[0], pair[1], options)
    source = batches(images.to(gpu.device), options)
    if as_graph:
        step = recorded(step, next(source))
    clock = Clock(gpu)

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
    gpu: GPU,
    options: Options,
    images: Tensor,
    *,
    on_device: bool = False,
    cuda_graphs: bool = False,
) -> Turn:
    """Return a turn of `GANTrainer.fit`."""
    clock = Clock(gpu)
    trainer = GANTrainer(
        *own_networks(options),
        device=gpu.device,
        precision=options.precision,
        cuda_graphs=cuda_graphs,
        callbacks=[clock],
    )
    data = ByteImages(images.to(gpu.device) if on_device else images)
    return timed(
        clock,
        lambda: trainer.fit(data, max_steps=10**9, batch_size=options.batch_size),
    )


if __name__ == "__main__":
    sys.exit(main())
