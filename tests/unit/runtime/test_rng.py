"""Random states: the global generators, and those of a run."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from vanillagan.runtime.rng import (
    GlobalRNG,
    RandomStates,
    RankRNG,
    RunRNG,
    isolated_rng,
    seeded,
)

CPU = torch.device("cpu")


def draw() -> tuple[float, float, float, float]:
    return torch.rand(()).item(), np.random.rand(), random.random(), random.gauss(0, 1)


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def test_global_state_restores_every_generator():
    rng = GlobalRNG(CPU)
    random.gauss(0, 1)  # Python keeps the second value of a pair
    state = rng.state_dict()
    first = draw()
    rng.load_state_dict(state)
    assert draw() == first


def test_global_state_is_tensors_and_primitives(tmp_path):
    seed_all(1)
    torch.save(GlobalRNG(CPU).state_dict(), tmp_path / "rng.pt")
    first = draw()
    GlobalRNG(CPU).load_state_dict(torch.load(tmp_path / "rng.pt", weights_only=True))
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


def test_isolated_rng_continues_from_states():
    with isolated_rng(5):
        draw()
        states = RandomStates.now()
        second = draw()
    undisturbed = RandomStates.now()
    with isolated_rng(states):
        assert draw() == second
    assert torch.equal(RandomStates.now().torch, undisturbed.torch)


def test_isolated_rng_leaves_seeds_that_wait_for_an_accelerator(monkeypatch):
    """`torch.manual_seed` would queue its seed for CUDA, in place of the user's."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("seeded"))
    with isolated_rng(5):
        draw()


class Accelerator:
    """Stand-in for `torch.cuda`, with a generator for each device."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int, kind: str = "cuda") -> None:
        self.generators = [torch.Generator().manual_seed(9) for _ in range(count)]
        self.used = True
        device = torch.device(kind)
        monkeypatch.setattr("vanillagan.runtime.rng.current_accelerator", lambda: device)
        monkeypatch.setattr(torch, "get_device_module", lambda device: self)

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return self.used

    def device_count(self) -> int:
        return len(self.generators)

    def get_rng_state(self, device: int | torch.device) -> torch.Tensor:
        return self.generators[getattr(device, "index", device)].get_state()

    def set_rng_state(self, state: torch.Tensor, device: int | torch.device) -> None:
        self.generators[getattr(device, "index", device)].set_state(state)

    def manual_seed_all(self, seed: int) -> None:
        for generator in self.generators:
            generator.manual_seed(seed)

    def draw(self, index: int) -> float:
        return torch.rand((), generator=self.generators[index]).item()


def test_isolated_rng_isolates_each_device(monkeypatch):
    accelerator = Accelerator(monkeypatch, 2)
    before = RandomStates.now().accelerators
    inside = []
    for _ in range(2):
        with isolated_rng(5):
            inside.append([accelerator.draw(index) for index in range(2)])
    assert inside[0] == inside[1]
    assert all(map(torch.equal, RandomStates.now().accelerators, before))


def test_a_device_that_is_not_used_is_not_initialized(monkeypatch):
    Accelerator(monkeypatch, 2).used = False
    assert RandomStates.now().accelerators == []
    assert GlobalRNG(torch.device("cuda:1")).state_dict()["accelerator"] == {}


def test_the_state_of_a_device_goes_to_another_one(monkeypatch):
    accelerator = Accelerator(monkeypatch, 4)
    accelerator.draw(3)
    state = GlobalRNG(torch.device("cuda:3")).state_dict()
    expected = accelerator.draw(3)
    smaller = Accelerator(monkeypatch, 1)
    GlobalRNG(torch.device("cuda:0")).load_state_dict(state)
    assert smaller.draw(0) == expected


@pytest.mark.parametrize(("kind", "device"), [("cuda", "cpu"), ("xpu", "xpu:0")])
def test_states_of_other_devices_are_left_alone(monkeypatch, kind, device):
    Accelerator(monkeypatch, 1)
    state = GlobalRNG(torch.device("cuda:0")).state_dict()
    other = Accelerator(monkeypatch, 1, kind)
    other.draw(0)
    before = other.get_rng_state(0)
    GlobalRNG(torch.device(device)).load_state_dict(state)
    assert torch.equal(other.get_rng_state(0), before)


class Ranks:
    """Stand-in for two ranks."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def all_gather(self, value):
        seed_all(9)
        return [value, GlobalRNG(CPU).state_dict()]


def test_each_rank_restores_its_own_state():
    seed_all(1)
    state = RankRNG(Ranks(0), CPU).state_dict()
    drawn = []
    for rank in (0, 1, 2):  # more ranks than at the save take the states in turn
        RankRNG(Ranks(rank), CPU).load_state_dict(state)
        drawn.append(draw())
    seed_all(1)
    assert drawn[0] == drawn[2] == draw()
    seed_all(9)
    assert drawn[1] == draw()


def test_latents_go_on_from_a_state_of_another_kind_of_device():
    rng, drawn = RunRNG(3), []
    first = torch.rand(3, generator=rng.latents)
    for _ in range(2):  # a CUDA generator has 16 bytes
        rng.load_state_dict({"seed": 5, "latents": torch.arange(16, dtype=torch.uint8)})
        drawn.append(torch.rand(3, generator=rng.latents))
    assert rng.seed == 5
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], first)


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
