"""The trainer is about as fast as a hand-written loop: a guard against regressions."""

from __future__ import annotations

from functools import partial

import pytest

from tests.benchmarks import loops
from tests.benchmarks.loops import Options
from tests.benchmarks.turns import Timing, take_turns
from tests.helpers.digits import write_mnist

MARGIN = 1.3
"""Largest ratio to the hand-written loop, with room for a busy machine."""


@pytest.mark.slow
def test_the_trainer_is_as_fast_as_a_loop_by_hand(tmp_path):
    write_mnist(tmp_path, train=640)
    options = Options(tmp_path)
    rows = {
        "trainer": partial(loops.trainer, options),
        "hand-written": partial(loops.hand_written, options),
    }

    def ratio(rounds: int) -> float:
        outcomes = take_turns(rows, rounds=rounds, steps=10, threads=1)
        for row in outcomes.values():
            assert isinstance(row, Timing), row
        return outcomes["trainer"].median / outcomes["hand-written"].median

    # a busy machine may disturb one run; a slow trainer fails the longer one too
    assert ratio(rounds=5) < MARGIN or ratio(rounds=20) < MARGIN
