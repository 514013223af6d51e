"""Lower limit of a training step: its matrix products or convolutions and Adam, nothing else."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.benchmarks.loops import BETAS, LATENT_DIM, LR, SAMPLE_SHAPE, Options, own_networks
from tests.benchmarks.turns import Tick
from vanillagan.networks import Linear, linear

convolution = torch.ops.aten.convolution
convolution_backward = torch.ops.aten.convolution_backward


@torch.no_grad()
def limit(options: Options, tick: Tick) -> None:
    """Run the matrix products or convolutions of a step, and fused Adam, on prepared tensors.

    The generator's step has a forward pass of N samples through both networks, and a backward pass
    to the generator's weights, through the frozen discriminator's inputs. The discriminator's step
    has a forward and a backward pass of 2N samples. First layers need no gradient of their inputs,
    which are latents or data.

    Biases, activations, BatchNorm, losses, latents and data are left out. Adam's gradients are
    fixed.
    """
    generator, discriminator = own_networks(options)
    n = options.batch_size
    dtype = torch.float32 if options.precision == "fp32" else torch.bfloat16
    generate = _products(generator, torch.randn(n, LATENT_DIM), dtype)
    discriminate_fake = _products(discriminator, torch.randn(n, *SAMPLE_SHAPE), dtype)
    discriminate = _products(discriminator, torch.randn(2 * n, *SAMPLE_SHAPE), dtype)
    optimizers = []
    for network in (generator, discriminator):
        for weight in network.parameters():
            weight.grad = torch.full_like(weight, 1e-3)
        optimizers.append(torch.optim.Adam(network.parameters(), lr=LR, betas=BETAS, fused=True))

    while True:
        _forward(generate)
        _forward(discriminate_fake)
        for product in reversed(discriminate_fake):
            product.backward(to_input=True, to_weight=False)
        _backward(generate)
        optimizers[0].step()
        _forward(discriminate)
        _backward(discriminate)
        optimizers[1].step()
        tick()


def _forward(products: list[_Linear | _Conv]) -> None:
    for product in products:
        product.forward()


def _backward(products: list[_Linear | _Conv]) -> None:
    for product in reversed(products[1:]):
        product.backward(to_input=True, to_weight=True)
    products[0].backward(to_input=False, to_weight=True)


def _products(network: nn.Module, inputs: Tensor, dtype: torch.dtype) -> list[_Linear | _Conv]:
    """Return the products of a network, in the order and of the shapes of its forward pass."""
    products: list[_Linear | _Conv] = []
    kinds = {Linear: _Linear, nn.Conv2d: _Conv}

    def note(layer: nn.Module, arguments: tuple[Tensor], output: Tensor) -> None:
        products.append(kinds[type(layer)](layer, arguments[0].shape, output.shape, dtype))

    hooks = [
        layer.register_forward_hook(note) for layer in network.modules() if type(layer) in kinds
    ]
    with torch.no_grad():
        network(inputs)
    for hook in hooks:
        hook.remove()
    return products


class _Linear:
    """x W' and its two gradients, by the faster of PyTorch's two libraries for products."""

    def __init__(self, layer: nn.Linear, x: torch.Size, y: torch.Size, dtype: torch.dtype) -> None:
        is_large = x[0] * layer.weight.numel() >= linear.SMALLEST
        by_onednn = linear.ONEDNN_IS_FASTER and is_large and dtype == torch.float32
        self.multiply = linear.multiply if by_onednn else F.linear
        self.weight = layer.weight.detach().to(dtype)
        self.x, self.grad_y = torch.randn(x, dtype=dtype), torch.randn(y, dtype=dtype)

    def forward(self) -> None:
        self.multiply(self.x, self.weight)

    def backward(self, *, to_input: bool, to_weight: bool) -> None:
        if to_input:
            self.multiply(self.grad_y, self.weight.t())
        if to_weight:
            self.multiply(self.grad_y.t(), self.x.t())


class _Conv:
    """A convolution and its two gradients."""

    def __init__(self, layer: nn.Conv2d, x: torch.Size, y: torch.Size, dtype: torch.dtype) -> None:
        self.x, self.grad_y = torch.randn(x, dtype=dtype), torch.randn(y, dtype=dtype)
        weight = layer.weight.detach().to(dtype)
        shape = (layer.stride, layer.padding, layer.dilation, False, (0, 0), layer.groups)
        self.forward = partial(convolution, self.x, weight, None, *shape)
        self._backward = partial(convolution_backward, self.grad_y, self.x, weight, None, *shape)

    def backward(self, *, to_input: bool, to_weight: bool) -> None:
        self._backward([to_input, to_weight, False])
