"""Random states: the global generators, and those of a run."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from vanillagan.runtime.rng import GlobalRNG, RankRNG, RunRNG, isolated_rng, seeded


def draw() -> tuple[float, float, float, float]:
    return torch.rand(()).item(), np.random.rand(), random.random(), random.gauss(0, 1)


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def test_global_state_restores_every_generator():
    rng = GlobalRNG()
    random.gauss(0, 1)  # Python keeps the second value of a pair
    state = rng.state_dict()
    first = draw()
    rng.load_state_dict(state)
    assert draw() == first


def test_global_state_is_tensors_and_primitives(tmp_path):
    seed_all(1)
    torch.save(GlobalRNG().state_dict(), tmp_path / "rng.pt")
    first = draw()
    GlobalRNG().load_state_dict(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert draw() == first


def test_isolated_rng_is_repeatable_and_restores():
    inside = []
    for outside, seed in ((1, 5), (2, 5), (2, 2**63 - 1)):
        seed_all(outside)
        undisturbed = draw()
        seed_all(outside)
        with isolated_rng(seed):
            inside.append(draw())
        assert draw() == undisturbed
    first, second, other = inside
    assert first == second
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_isolated_rng_restores_after_an_error():
    def fail() -> None:
        with isolated_rng(5):
            draw()
            raise KeyError

    seed_all(1)
    undisturbed = draw()
    seed_all(1)
    with pytest.raises(KeyError):
        fail()
    assert draw() == undisturbed


class Ranks:
    """Stand-in for two ranks."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def all_gather(self, value):
        seed_all(9)
        return [value, GlobalRNG().state_dict()]


def test_each_rank_restores_its_own_state():
    seed_all(1)
    state = RankRNG(Ranks(0)).state_dict()
    drawn = []
    for rank in (0, 1, 2):  # more ranks than at the save take the states in turn
        RankRNG(Ranks(rank)).load_state_dict(state)
        drawn.append(draw())
    seed_all(1)
    assert drawn[0] == drawn[2] == draw()
    seed_all(9)
    assert drawn[1] == draw()


def test_run_state_is_the_seed_and_the_latents():
    rng = RunRNG(3)
    torch.rand(2, generator=rng.latents)
    other = RunRNG(4)
    other.load_state_dict(rng.state_dict())
    assert other.seed == 3
    assert torch.equal(torch.rand(2, generator=other.latents), torch.rand(2, generator=rng.latents))


def test_preserved_restores_the_latents():
    rng = RunRNG(3)
    with rng.preserved():
        first = torch.rand(2, generator=rng.latents)
    assert torch.equal(torch.rand(2, generator=rng.latents), first)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match="`seed` must be"):
        RunRNG(seed)
    with pytest.raises(ValueError, match="`seed` must be"):
        seeded(seed)


def test_seeded_draws_a_seed_for_none():
    rng, seed = seeded(5)
    assert seed == 5
    assert torch.equal(
        torch.rand(2, generator=rng), torch.rand(2, generator=torch.Generator().manual_seed(5))
    )
    torch.manual_seed(0)
    first, other = seeded(None), seeded(None)
    assert first[1] != other[1]
    again, _ = seeded(first[1])
    assert torch.equal(torch.rand(2, generator=again), torch.rand(2, generator=first[0]))
