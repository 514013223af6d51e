"""Rows that take turns: one at a time, timed in rounds, none affected by another's error."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest

from tests.benchmarks.turns import Tick, Timing, take_turns


def sleep(seconds: float, tick: Tick) -> None:
    while True:
        time.sleep(seconds)
        tick()


def note(path: Path, name: str, tick: Tick) -> None:
    """Record when its steps start and end, on the clock that all processes share."""
    while True:
        begun = time.monotonic()
        time.sleep(0.002)
        with path.open("a") as file:
            file.write(f"{name} {begun} {time.monotonic()}\n")
        tick()


def allocate(megabytes: int, tick: Tick) -> None:
    kept = b"x" * (megabytes * 2**20)
    while kept:
        tick()


def fail_at_setup(tick: Tick) -> None:
    raise RuntimeError("no such backend\nand this is how to get it")


def fail_later(tick: Tick) -> None:
    for _ in range(5):
        tick()
    raise KeyError("lost")


def end(tick: Tick) -> None:
    tick()


def die(tick: Tick) -> None:
    tick()
    os._exit(3)


def test_rows_are_timed_without_the_first_round():
    timings = take_turns(
        {"slow": partial(sleep, 0.02), "fast": partial(sleep, 0.002)}, rounds=3, steps=2
    )
    slow, fast = timings["slow"], timings["fast"]
    assert isinstance(slow, Timing)
    assert isinstance(fast, Timing)
    assert len(slow.seconds) == len(fast.seconds) == 3
    assert min(slow.seconds) >= 0.02
    assert 0.002 <= fast.median < slow.median


def test_the_time_of_other_rows_is_not_counted():
    timings = take_turns(
        {"quick": partial(sleep, 0.0), "other": partial(sleep, 0.1)}, rounds=3, steps=2
    )
    assert timings["quick"].median < 0.05


def test_one_row_runs_at_a_time_in_rotated_rounds(tmp_path):
    path = tmp_path / "steps"
    rows = {name: partial(note, path, name) for name in "abc"}
    take_turns(rows, rounds=2, steps=3)
    steps = [line.split() for line in path.read_text().splitlines()]
    # a row is blocked after the last step of its turn
    assert "".join(name for name, _, _ in steps) == "aaabbbcccbbbcccaaacccaaabbb"
    ends = [float(ended) for _, _, ended in steps]
    begins = [float(begun) for _, begun, _ in steps]
    assert all(ended <= begun for ended, begun in zip(ends, begins[1:], strict=False))


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (fail_at_setup, "RuntimeError: no such backend"),
        (fail_later, "KeyError: 'lost'"),
        (end, "the row ended before the turns did"),
        (die, "the process ended with exit code 3"),
    ],
)
def test_an_error_of_a_row_is_reported(row, error):
    outcomes = take_turns({"bad": row, "good": partial(sleep, 0.0)}, rounds=4, steps=2)
    assert outcomes["bad"] == error
    assert len(outcomes["good"].seconds) == 4


def test_peak_memory_is_measured_by_row():
    small, large = take_turns(
        {"small": partial(allocate, 1), "large": partial(allocate, 101)}, rounds=1, steps=1
    ).values()
    assert large.peak_memory - small.peak_memory == pytest.approx(100 * 2**20, rel=0.2)


@pytest.mark.parametrize("bad", [{"rounds": 0}, {"steps": 0}, {"threads": 0}])
def test_a_wrong_number_is_an_error(bad):
    name = next(iter(bad))
    with pytest.raises(ValueError, match=f"`{name}` must be a positive integer, got 0"):
        take_turns({}, **({"rounds": 1, "steps": 1} | bad))
