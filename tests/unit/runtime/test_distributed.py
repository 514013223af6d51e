"""The ranks that train together, with a stand-in for `torch.distributed` of two ranks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from vanillagan.runtime.distributed import Distributed


class Ranks:
    """Two ranks; the tensors of the other one are `factor` times those of this one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, rank: int, backends: str) -> None:
        self.reduced: list[Tensor] = []
        self.factor = 1.0
        self.other_flag = 0.0
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_rank", lambda: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        monkeypatch.setattr(dist, "get_backend_config", lambda: backends)
        monkeypatch.setattr(dist, "all_reduce", self.all_reduce)

    def all_reduce(self, tensor: Tensor) -> None:
        self.reduced.append(tensor.clone())
        tensor.mul_(1 + self.factor).add_(self.other_flag)


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
    alone.barrier()
    assert (alone.rank, alone.world_size) == (0, 1)
    assert weight.grad.tolist() == [1, 1, 1]
    assert alone.all_gather("x") == ["x"]
    assert (alone.any(True), alone.any(False)) == (True, False)
    tensor = torch.ones(3)
    assert alone.shard(tensor) is tensor


def test_gradients_are_averaged_in_one_all_reduce(two_ranks):
    two_ranks.factor = 3.0
    gradients = [torch.rand(2, 3), torch.rand(()), torch.rand(4)]
    weights = [parameter(gradient.clone()) for gradient in gradients]
    Distributed(torch.device("cpu")).average_gradients([*weights, parameter(None)])
    assert [len(reduced) for reduced in two_ranks.reduced] == [2 * 3 + 1 + 4]
    for weight, gradient in zip(weights, gradients, strict=True):
        torch.testing.assert_close(weight.grad, (gradient + 3 * gradient) / 2)


def test_gradients_keep_their_memory_format(two_ranks):
    gradient = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    weight = parameter(gradient.clone(memory_format=torch.preserve_format))
    Distributed(torch.device("cpu")).average_gradients([weight])
    torch.testing.assert_close(weight.grad, gradient)
    assert weight.grad.stride() == gradient.stride()


def test_no_gradients_are_not_reduced(two_ranks):
    Distributed(torch.device("cpu")).average_gradients([parameter(None)])
    assert two_ranks.reduced == []


@pytest.mark.parametrize("flag", [True, False])
def test_a_flag_of_any_rank_counts(two_ranks, flag):
    distributed = Distributed(torch.device("cpu"))
    assert distributed.any(flag) is flag
    two_ranks.other_flag = 1.0
    assert distributed.any(flag) is True


@pytest.mark.parametrize(
    ("backends", "device"), [("cpu:gloo,cuda:nccl", "cpu"), ("cuda:nccl", "meta")]
)
def test_flags_stay_on_the_cpu_if_a_backend_allows(monkeypatch, backends, device):
    """A flag on a GPU would synchronize with it in each step."""
    devices: list[str] = []

    def all_reduce(tensor: Tensor) -> None:
        devices.append(tensor.device.type)
        raise KeyboardInterrupt

    Ranks(monkeypatch, rank=0, backends=backends)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    with pytest.raises(KeyboardInterrupt):
        Distributed(torch.device("meta")).any(True)
    assert devices == [device]


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
