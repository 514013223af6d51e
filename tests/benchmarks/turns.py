"""Rows of one comparison take turns, each in a process of its own, and only one runs at a time.

Two torch processes that run at once slow each other many times over, and a machine's speed drifts
from minute to minute. So a baton goes round: the row that holds it makes its steps and reports
their time, the others wait inside `tick`. A drift then slows all rows alike, and the ratios of
their medians stay what they are. Each round begins one row later than the round before, so that no
row always follows the same one.
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
"""Sets up, then makes steps forever and calls `tick` after each; picklable, so a function of a
module or a `functools.partial` of one. It imports what only it needs in its body."""


@dataclass(frozen=True)
class Timing:
    """What a row took.

    Attributes:
        seconds: The mean time of a step in each round, without the first round.
        peak_memory: The most memory that the row's process has held (peak RSS), in bytes.
    """

    seconds: list[float]
    peak_memory: int

    @property
    def median(self) -> float:
        """The median over the rounds of the seconds a step took."""
        return statistics.median(self.seconds)


def take_turns(
    rows: Mapping[str, Row], *, rounds: int, steps: int, threads: int | None = None
) -> dict[str, Timing | str]:
    """Runs `rows` in turns: in each of `rounds` rounds every row makes `steps` steps.

    A further round comes first, in which each row sets up and warms up; its times are dropped. Each
    round begins with the row that was second in the round before. What rows print is swallowed.

    Args:
        rows: The rows by name.
        rounds: How many rounds are counted.
        steps: The steps a row makes in one round.
        threads: The threads torch takes in each row; None is torch's own choice.

    Returns:
        The timing of each row, or, of a row that raised or ended, the first line of its error.

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
    """The process of a row, as the one who hands out the baton sees it."""

    def __init__(self, row: Row, threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_run, args=(row, far_end, threads))
        self.process.start()
        far_end.close()

    def take_turn(self, steps: int) -> tuple[float, int] | str:
        """Lets the row make `steps` steps: their seconds and its peak memory, or its error."""
        try:
            self.pipe.send(steps)
            outcome: tuple[float, int] | str = self.pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join()
            return f"the process ended with exit code {self.process.exitcode}"
        return outcome

    def end(self) -> None:
        """Ends the row, which unwinds and so ends processes that it started in turn."""
        self.pipe.close()
        self.process.join(timeout=20)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _TurnsOver(BaseException):
    """Ends a row from inside `tick`; no `except Exception` of a training loop stops it."""


def _run(row: Row, pipe: Connection, threads: int | None) -> None:
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device, not a path of ours
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    baton = _Baton(pipe)
    try:
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        baton.wait()
        row(baton.tick)
        pipe.send("the row ended before the turns did")
    except (_TurnsOver, KeyboardInterrupt):
        return
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])


class _Baton:
    """The row's end of the pipe: waits for its turn, counts its steps, hands the turn back."""

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
    """The most memory this process has held so far (peak RSS), in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: its ru_maxrss of a process starts at its parent's
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
