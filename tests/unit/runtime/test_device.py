"""Devices, precision, and the mode of networks."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vanillagan.runtime.device import (
    autocast,
    device_of,
    dtype_of,
    evaluating,
    resolve_device,
    to_device,
)


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that pretends an accelerator of some devices, of which 0 is current."""

    def empty(size: int, device: torch.device) -> SimpleNamespace:
        is_bare = device.index is None and device.type != "cpu"
        return SimpleNamespace(device=torch.device(device.type, 0) if is_bare else device)

    def pretend(device_type: str | None, count: int) -> None:
        device = None if device_type is None else torch.device(device_type)
        module = SimpleNamespace(device_count=lambda: count)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: device)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch, "get_device_module", lambda device: module)
        monkeypatch.setattr(torch, "empty", empty)

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return pretend


@pytest.mark.parametrize(
    ("found", "count", "device"),
    [
        ("cuda", 2, "cuda:0"),
        ("mps", 1, "mps:0"),
        ("xpu", 1, "xpu:0"),
        ("cuda", 0, "cpu"),
        (None, 0, "cpu"),
    ],
)
def test_the_accelerator_is_the_default(accelerator, found, count, device):
    accelerator(found, count)
    assert resolve_device(None) == torch.device(device)


@pytest.mark.parametrize("device", [None, "cuda", torch.device("cuda")], ids=str)
@pytest.mark.parametrize(("count", "index"), [(4, 3), (1, 0)])
def test_each_rank_has_its_own_gpu(accelerator, monkeypatch, device, count, index):
    accelerator("cuda", count)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert resolve_device(device) == torch.device("cuda", index)
    for other in ("cuda:2", "cpu"):
        assert resolve_device(other) == torch.device(other)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "meta"], ids=str)
def test_available_devices_are_resolved(device):
    assert resolve_device(device) == torch.device(device)


@pytest.mark.parametrize("device", ["quantum", "cuda:99", 3.5, "cpu:x"], ids=str)
def test_other_devices_are_refused(device):
    with pytest.raises(ValueError, match="`device` must be a device that is available here"):
        resolve_device(device)


def test_autocast_runs_networks_in_bf16_alone():
    layer, x = nn.Linear(2, 2), torch.zeros(1, 2)
    with autocast(torch.device("cpu"), "fp32"):
        assert layer(x).dtype == torch.float32
    with autocast(torch.device("cpu"), "bf16"):
        assert layer(x).dtype == torch.bfloat16


class Copied:
    """Stand-in for a tensor that records how it is copied."""

    dtype = torch.float32

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.calls: list[tuple[str, bool]] = []

    def pin_memory(self):
        self.calls.append(("pin", False))
        return self

    def to(self, device=None, dtype=None, *, non_blocking=False):
        if device is not None:
            self.calls.append((device.type, non_blocking))
        return self


@pytest.mark.parametrize(
    ("source", "target", "calls"),
    [
        ("cpu", "cuda", [("pin", False), ("cuda", True)]),
        ("cuda:0", "cuda:1", [("cuda", False)]),
        ("cpu", "mps", [("mps", False)]),
        ("cpu", "xpu", [("xpu", False)]),
        ("cpu", "cpu", [("cpu", False)]),
    ],
)
def test_only_pinned_memory_to_cuda_is_asynchronous(source, target, calls, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    tensor = Copied(source)
    to_device(tensor, torch.device(target))
    assert tensor.calls == calls


def test_to_device_converts_the_dtype():
    copy = to_device(torch.ones(2), torch.device("cpu"), torch.float64)
    assert copy.dtype == torch.float64
    tensor = torch.ones(2)
    assert to_device(tensor, torch.device("cpu")) is tensor


def test_device_and_dtype_are_those_of_the_weights():
    network = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 2)).double().to("meta")
    assert device_of(network) == torch.device("meta")
    assert dtype_of(network) == torch.float64


def test_buffers_count_where_there_are_no_parameters():
    network = nn.BatchNorm1d(2, affine=False).double()
    assert dtype_of(network) == torch.float64
    assert device_of(nn.Identity()) == torch.device("cpu")
    assert dtype_of(nn.Identity()) == torch.get_default_dtype()


def test_evaluating_restores_the_mode_of_each_module():
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    network[1].eval()
    network[1][0].train()

    def run() -> None:
        with evaluating(network):
            assert not any(module.training for module in network.modules())
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert [module.training for module in network.modules()] == [True, True, False, True]


def test_a_copy_from_the_host_is_no_part_of_a_cuda_graph(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match=r"each replay .*`latent_sampler` must draw"):
        to_device(torch.zeros(2), torch.device("cuda"))
