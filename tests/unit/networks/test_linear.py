"""Linear computes what nn.Linear computes, with oneDNN and without."""

from __future__ import annotations

import importlib.util
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from vanillagan.networks import Linear, linear

assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use oneDNN for products of any size, on any machine whose PyTorch has it."""
    if linear.PRIVATE is None or not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(linear, "ONEDNN_IS_FASTER", True)
    monkeypatch.setattr(linear, "SMALLEST", 1)


def of_double(layer: nn.Linear) -> nn.Linear:
    """Return PyTorch's layer with the same weights in float64."""
    reference = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    reference.load_state_dict(layer.state_dict())
    return reference.double()


def uses_onednn(y: torch.Tensor) -> bool:
    return "OneDNNLinear" in type(y.grad_fn).__name__


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n", "inputs", "outputs"), [(1, 1, 1), (64, 100, 128), (7, 33, 1)])
def test_values_and_gradients_equal_pytorch_s(n, inputs, outputs, bias):
    layer = Linear(inputs, outputs, bias=bias)
    reference = of_double(layer)
    x = torch.randn(n, inputs, requires_grad=True)
    x_double = x.detach().double().requires_grad_()
    grad = torch.randn(n, outputs)

    y = layer(x)
    assert uses_onednn(y)
    y.backward(grad)
    y_double = reference(x_double)
    y_double.backward(grad.double())

    assert_close(y.double(), y_double)
    assert_close(x.grad.double(), x_double.grad)
    for weight, weight_double in zip(layer.parameters(), reference.parameters(), strict=True):
        assert_close(weight.grad.double(), weight_double.grad)


def test_second_derivatives_equal_pytorch_s():
    layer = Linear(5, 3)
    reference = of_double(layer)

    def penalize(layer, x):
        x.requires_grad_()
        (slope,) = torch.autograd.grad(layer(x).tanh().sum(), x, create_graph=True)
        slope.square().sum().backward()
        return layer.weight.grad, layer.bias.grad, x.grad

    x = torch.randn(4, 5)
    for found, expected in zip(
        penalize(layer, x), penalize(reference, x.detach().double()), strict=True
    ):
        assert_close(found.double(), expected)


def test_frozen_weights_pass_the_gradient_on():
    layer = Linear(5, 3).requires_grad_(False)
    x = torch.randn(4, 5, requires_grad=True)
    layer(x).sum().backward()
    assert_close(x.grad, layer.weight.sum(0).expand(4, 5))
    assert layer.weight.grad is None
    assert layer.bias.grad is None


@pytest.mark.parametrize(
    "view",
    [lambda x: x[:, 2:].t(), lambda x: x[:, :5], lambda x: x[:1, :5].expand(5, 5)],
    ids=["transposed", "columns", "expanded"],
)
def test_inputs_need_not_be_contiguous(view):
    layer = Linear(5, 3)
    reference = of_double(layer)
    x = view(torch.randn(5, 7))
    y = layer(x)
    assert uses_onednn(y)
    y.square().sum().backward()
    reference(x.double()).square().sum().backward()
    assert_close(layer.weight.grad.double(), reference.weight.grad)


def test_a_parametrized_weight_is_computed_once():
    torch.manual_seed(0)
    ours = nn.utils.parametrizations.spectral_norm(Linear(5, 3))
    torch.manual_seed(0)
    reference = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 3))
    x = torch.randn(4, 5)
    assert_close(ours(x), reference(x))
    for buffer, expected in zip(ours.buffers(), reference.buffers(), strict=True):
        assert_close(buffer, expected)


def test_batched_gradients_equal_pytorch_s():
    layer, x = Linear(5, 3), torch.randn(4, 5, requires_grad=True)
    grads = torch.randn(6, 4, 3)
    (found,) = torch.autograd.grad(layer(x), x, grads, is_grads_batched=True)
    assert_close(found, grads @ layer.weight)


def test_a_wrong_number_of_features_is_pytorch_s_error():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Linear(5, 3)(torch.randn(4, 6))


@pytest.mark.parametrize("shape", [(0, 5), (5,), (2, 4, 5)])
def test_other_shapes_are_left_to_pytorch(shape):
    layer = Linear(5, 3)
    y = layer(torch.randn(shape))
    assert y.shape == (*shape[:-1], 3)
    assert not uses_onednn(y)


def test_small_products_are_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(linear, "SMALLEST", 61)
    assert not uses_onednn(Linear(5, 3)(torch.randn(4, 5)))
    monkeypatch.setattr(linear, "SMALLEST", 60)
    assert uses_onednn(Linear(5, 3)(torch.randn(4, 5)))


def test_other_dtypes_are_left_to_pytorch():
    assert Linear(5, 3).double()(torch.randn(4, 5).double()).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Linear(5, 3)(torch.randn(4, 5)).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
def test_export_and_transforms_use_pytorch_s_product():
    layer, x, tangent = Linear(5, 3), torch.randn(4, 5), torch.randn(4, 5)
    exported = torch.export.export(layer, (x,)).graph
    assert torch.ops.aten.linear.default in [node.target for node in exported.nodes]
    assert_close(torch.vmap(layer)(x), layer(x))
    with forward_ad.dual_level():
        derivative = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, tangent))).tangent
    assert_close(derivative, tangent @ layer.weight.t())


def test_weights_are_initialized_as_pytorch_s():
    torch.manual_seed(1)
    ours = Linear(5, 3).state_dict()
    torch.manual_seed(1)
    torch.testing.assert_close(ours, nn.Linear(5, 3).state_dict(), rtol=0, atol=0)


class Doubled(torch.Tensor):
    """Weights that multiply in a way of their own, as quantized ones of torchao do."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        y = super().__torch_function__(func, types, args, kwargs or {})
        return 2 * y if func is torch.nn.functional.linear else y


@pytest.mark.parametrize("parameter", [True, False], ids=["parameter", "tensor"])
def test_weights_of_a_tensor_subclass_are_left_to_pytorch(parameter):
    layer, x = Linear(5, 3, bias=False), torch.randn(4, 5)
    expected = 2 * layer(x)
    weight = layer.weight.detach().as_subclass(Doubled)
    del layer.weight
    layer.weight = nn.Parameter(weight) if parameter else weight
    y = layer(x)
    assert not uses_onednn(y)
    assert_close(y.as_subclass(torch.Tensor), expected)


def test_inputs_of_a_tensor_subclass_are_left_to_pytorch():
    layer, x = Linear(5, 3, bias=False), torch.randn(4, 5)
    y = layer(x.as_subclass(Doubled))
    assert not uses_onednn(y)
    assert_close(y.as_subclass(torch.Tensor), 2 * layer(x))


def import_again() -> ModuleType:
    """Return a second copy of the module, which looks PyTorch's private functions up again."""
    spec = importlib.util.spec_from_file_location("linear_again", linear.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", ["_is_tracing", "_are_functorch_transforms_active", "_current_level", "mkldnn"]
)
def test_without_a_private_function_it_is_pytorch_s(monkeypatch, name):
    if name == "mkldnn":
        monkeypatch.setattr(torch, "ops", SimpleNamespace(mkldnn=SimpleNamespace()))
    else:
        monkeypatch.delattr(forward_ad if name == "_current_level" else torch._C, name)
    again = import_again()
    monkeypatch.undo()
    assert again.PRIVATE is None
    assert not again.ONEDNN_IS_FASTER
    again.ONEDNN_IS_FASTER, again.SMALLEST = True, 1
    layer, x = again.Linear(5, 3), torch.randn(4, 5)
    y = layer(x)
    assert not uses_onednn(y)
    assert torch.equal(y, torch.nn.functional.linear(x, layer.weight, layer.bias))
