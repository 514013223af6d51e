"""Timing of training loops that take turns, each in its own process, one at a time.

Torch processes that run at the same time slow each other many times over, and the speed of a
machine drifts from minute to minute. So each row makes some steps while the others are blocked in
`tick`. A drift affects all rows alike, and the ratios of their medians are not affected. Each round
starts one row later than the one before, so that no row always follows the same one.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

Tick = Callable[[], None]
Row = Callable[[Tick], None]
"""Function that makes steps forever and calls `tick` after each one.

It must be picklable: a function of a module, or a `functools.partial` of one. It imports what only
it needs in its body."""


@dataclass(frozen=True)
class Timing:
    """Measurements of a row.

    Attributes:
        seconds: Mean time of a step in each round, without the first round.
        peak_memory: Peak memory of the row's process (RSS), in bytes.
    """

    seconds: list[float]
    peak_memory: int

    @property
    def median(self) -> float:
        """Median of `seconds`."""
        return statistics.median(self.seconds)


def take_turns(
    rows: Mapping[str, Row], *, rounds: int, steps: int, threads: int | None = None
) -> dict[str, Timing | str]:
    """Run rows in turns: in each round every row makes some steps.

    A further round comes first, in which rows are set up and warmed up; it is not counted. Each
    round starts with the second row of the round before. The output of rows is discarded.

    Args:
        rows: Rows by name.
        rounds: Number of rounds that are counted.
        steps: Number of steps of a row in one round.
        threads: Number of torch's threads in each row; None for torch's default.

    Returns:
        Timing of each row, or the first line of the error of a row that raised or exited.

    Raises:
        ValueError: `rounds`, `steps` or `threads` is not a positive integer.
    """
    for name, number in (("rounds", rounds), ("steps", steps), ("threads", threads)):
        if number is not None and number < 1:
            raise ValueError(f"`{name}` must be a positive integer, got {number}")

    seconds: dict[str, list[float]] = {name: [] for name in rows}
    peaks: dict[str, int] = {}
    errors: dict[str, str] = {}
    runners: dict[str, _Runner] = {}
    order = deque(rows)
    try:
        for _ in range(1 + rounds):
            for name in order:
                if name in errors:
                    continue
                if name not in runners:
                    runners[name] = _Runner(rows[name], threads)
                outcome = runners[name].take_turn(steps)
                if isinstance(outcome, str):
                    errors[name] = outcome
                else:
                    elapsed, peaks[name] = outcome
                    seconds[name].append(elapsed / steps)
            order.rotate(-1)
    finally:
        for runner in runners.values():
            runner.end()
    return {name: errors.get(name) or Timing(seconds[name][1:], peaks[name]) for name in rows}


class _Runner:
    """Process of a row, as the main process holds it."""

    def __init__(self, row: Row, threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_run, args=(row, far_end, threads))
        self.process.start()
        far_end.close()

    def take_turn(self, steps: int) -> tuple[float, int] | str:
        """Let the row make some steps; return their seconds and its peak memory, or its error."""
        try:
            self.pipe.send(steps)
            outcome: tuple[float, int] | str = self.pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join()
            return f"the process ended with exit code {self.process.exitcode}"
        return outcome

    def end(self) -> None:
        """End the row; it unwinds, and so ends processes that it started."""
        self.pipe.close()
        self.process.join(timeout=20)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _TurnsOver(BaseException):
    """Ends a row from inside `tick`; no `except Exception` of a training loop catches it."""


def _run(row: Row, pipe: Connection, threads: int | None) -> None:
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device, not a path of ours
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    turn = _Turn(pipe)
    try:
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        turn.wait()
        row(turn.tick)
        pipe.send("the row ended before the turns did")
    except (_TurnsOver, KeyboardInterrupt):
        return
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])


class _Turn:
    """The row's end of the pipe: waits for its turn, counts its steps, and reports them."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def wait(self) -> None:
        try:
            self.left: int = self.pipe.recv()
        except EOFError:
            raise _TurnsOver from None
        self.started = time.perf_counter()

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.pipe.send((time.perf_counter() - self.started, peak_memory()))
            self.wait()


def peak_memory() -> int:
    """Return the peak memory of this process so far (RSS), in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: its ru_maxrss of a process starts at its parent's
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
