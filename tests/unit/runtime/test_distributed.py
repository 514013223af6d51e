"""The ranks that train together, with a stand-in for `torch.distributed` of two ranks."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from vanillagan.runtime.distributed import Distributed


class Done:
    """A collective operation that is complete at once."""

    def wait(self) -> None:
        pass


class Ranks:
    """Two ranks; the tensors of the other one are `factor` times those of this one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, rank: int, backends: str) -> None:
        self.reduced: list[Tensor] = []
        self.operations: list[Any] = []
        self.factor = 1.0
        self.other_flag = 0.0
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_rank", lambda: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        monkeypatch.setattr(dist, "get_backend_config", lambda: backends)
        monkeypatch.setattr(dist, "all_reduce", self.all_reduce)
        monkeypatch.setattr("atexit.register", lambda function: None)

    def all_reduce(
        self,
        tensor: Tensor,
        op: Any = dist.ReduceOp.SUM,
        group: Any = None,
        async_op: bool = False,
    ) -> Done:
        self.reduced.append(tensor.clone())
        self.operations.append(op)
        tensor.mul_(1 + self.factor).add_(self.other_flag)
        return Done()


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> Ranks:
    return Ranks(monkeypatch, rank=1, backends="cpu:gloo")


def parameter(gradient: Tensor | None) -> nn.Parameter:
    weight = nn.Parameter(torch.zeros(() if gradient is None else gradient.shape))
    weight.grad = gradient
    return weight


def test_one_process_needs_no_communication(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = Distributed(torch.device("cpu"))
    weight = parameter(torch.ones(3))
    alone.broadcast([nn.Linear(2, 2)])
    alone.average_gradients([weight])
    assert (alone.rank, alone.world_size) == (0, 1)
    assert weight.grad.tolist() == [1, 1, 1]
    assert alone.all_gather("x") == ["x"]
    assert (alone.any(True), alone.any(False)) == (True, False)
    assert alone.any(True, delayed=True) is True
    assert list(alone.until_shortest(iter("ab"))) == ["a", "b"]
    assert alone.on_rank_0(lambda: "x") == "x"
    assert alone.start_fit({}, 7) == 7
    tensor = torch.ones(3)
    assert alone.shard(tensor) is tensor


def test_gradients_are_averaged_in_one_all_reduce(two_ranks):
    two_ranks.factor = 3.0
    gradients = [torch.rand(2, 3), torch.rand(()), torch.rand(4)]
    weights = [parameter(gradient.clone()) for gradient in gradients]
    Distributed(torch.device("cpu")).average_gradients(weights)
    assert [len(reduced) for reduced in two_ranks.reduced] == [3 + 2 * 3 + 1 + 4]
    for weight, gradient in zip(weights, gradients, strict=True):
        torch.testing.assert_close(weight.grad, (gradient + 3 * gradient) / 2)


def test_gradients_keep_their_memory_format(two_ranks):
    gradient = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    weight = parameter(gradient.clone(memory_format=torch.preserve_format))
    Distributed(torch.device("cpu")).average_gradients([weight])
    torch.testing.assert_close(weight.grad, gradient)
    assert weight.grad.stride() == gradient.stride()


def test_a_gradient_of_no_rank_stays_none(two_ranks):
    weights = [parameter(torch.ones(2)), parameter(None)]
    Distributed(torch.device("cpu")).average_gradients(weights)
    assert weights[0].grad.tolist() == [1, 1]
    assert weights[1].grad is None


def test_a_gradient_of_another_rank_alone_is_averaged_with_zeros(two_ranks):
    two_ranks.factor, two_ranks.other_flag = 0.0, 1.0  # ones on the other rank
    weights = [parameter(torch.ones(2)), parameter(None)]
    Distributed(torch.device("cpu")).average_gradients(weights)
    assert weights[1].grad.tolist() == 0.5
    assert two_ranks.reduced[0].tolist() == [1, 0, 1, 1, 0]  # which gradients are there, and these


def test_frozen_parameters_are_not_reduced(two_ranks):
    weight = parameter(torch.ones(3)).requires_grad_(False)
    Distributed(torch.device("cpu")).average_gradients([weight])
    assert two_ranks.reduced == []


@pytest.mark.parametrize("backends", ["cpu:gloo", "cpu:gloo,meta:nccl"])
def test_the_mean_is_taken_by_backends_that_can(monkeypatch, backends):
    ranks = Ranks(monkeypatch, rank=1, backends=backends)
    weight = nn.Parameter(torch.zeros(3, device="meta"))
    weight.grad = torch.zeros(3, device="meta")
    Distributed(torch.device("meta")).average_gradients([weight])
    assert ranks.operations == [dist.ReduceOp.AVG if "nccl" in backends else dist.ReduceOp.SUM]


@pytest.mark.parametrize("flag", [True, False])
def test_a_flag_of_any_rank_counts(two_ranks, flag):
    distributed = Distributed(torch.device("cpu"))
    assert distributed.any(flag) is flag
    two_ranks.other_flag = 1.0
    assert distributed.any(flag) is True


def test_a_flag_is_read_at_the_next_call(two_ranks):
    distributed = Distributed(torch.device("cpu"))
    flags = [False, True, False, False]
    assert [distributed.any(flag, delayed=True) for flag in flags] == [False, False, True, False]


def test_the_flag_of_a_fit_that_failed_is_forgotten(two_ranks):
    distributed = Distributed(torch.device("cpu"))
    with suppress(ValueError), distributed.running():
        distributed.any(True, delayed=True)
        raise ValueError("a step failed")
    assert not distributed.any(False, delayed=True)


@pytest.mark.parametrize(("backends", "own"), [("cpu:gloo,cuda:nccl", False), ("cuda:nccl", True)])
def test_flags_and_objects_stay_on_the_cpu(monkeypatch, backends, own):
    """On a GPU they would synchronize with it in each step."""
    groups: list[Any] = []
    Ranks(monkeypatch, rank=0, backends=backends)
    monkeypatch.setattr(dist, "new_group", lambda backend: f"own group of {backend}")
    monkeypatch.setattr(
        dist, "all_reduce", lambda flags, group, async_op: groups.append((flags.device.type, group))
    )
    with pytest.raises(AttributeError):  # None has no `wait`
        Distributed(torch.device("meta")).any(True)
    assert groups == [("cpu", "own group of gloo" if own else None)]


def test_steps_per_epoch_are_those_of_the_shortest_rank(two_ranks, monkeypatch):
    distributed = Distributed(torch.device("cpu"))
    for other, expected in ((3, 3), (9, 5), (None, None)):
        monkeypatch.setattr(
            distributed, "all_gather", lambda mine, other=other: [mine, ({}, other)]
        )
        assert distributed.start_fit({}, 5) == expected


def test_ranks_that_call_fit_with_other_arguments_are_an_error(two_ranks, monkeypatch):
    distributed = Distributed(torch.device("cpu"))
    monkeypatch.setattr(distributed, "all_gather", lambda mine: [({"length": 48}, 6), mine])
    with pytest.raises(ValueError, match=r"`length` must be the same on all ranks, got \[48, 40\]"):
        distributed.start_fit({"length": 40}, 5)


def test_other_errors_than_of_exited_ranks_stay_as_they_are(two_ranks, monkeypatch):
    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("Timed out waiting 5000ms for recv operation to complete")

    monkeypatch.setattr(dist, "all_reduce", fail)
    monkeypatch.setattr(dist, "irecv", fail)
    with pytest.raises(RuntimeError, match=r"^Timed out"):
        Distributed(torch.device("cpu")).average_gradients([parameter(torch.ones(2))])


@pytest.mark.parametrize("rank", [0, 1])
def test_shards_are_parts_in_the_order_of_ranks(monkeypatch, rank):
    Ranks(monkeypatch, rank=rank, backends="cpu:gloo")
    shard = Distributed(torch.device("cpu")).shard(torch.arange(6).view(6, 1))
    assert shard.flatten().tolist() == [[0, 1, 2], [3, 4, 5]][rank]


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "cpu:gloo,cuda:nccl")])
def test_torchrun_initializes_a_process_group(monkeypatch, device, backend):
    started: list[Any] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", started.append)
    monkeypatch.setattr("atexit.register", lambda function: None)
    Distributed(torch.device(device))
    assert started == [backend]


def test_the_current_device_is_that_of_the_trainer(monkeypatch):
    devices: list[torch.device] = []
    Ranks(monkeypatch, rank=1, backends="cpu:gloo,cuda:nccl")
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    Distributed(torch.device("cuda", 1))
    assert devices == [torch.device("cuda", 1)]
