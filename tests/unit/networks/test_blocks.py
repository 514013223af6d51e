"""Layers that the networks are composed of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vanillagan.networks import DownBlock, Linear, LinearBlock, UpBlock
from vanillagan.networks.blocks import join_labels


def test_a_linear_block_has_its_layers_in_order():
    types = [type(layer) for layer in LinearBlock(3, 4, dropout=0.1)]
    assert types == [Linear, nn.BatchNorm1d, nn.LeakyReLU, nn.Dropout]
    assert [type(layer) for layer in LinearBlock(3, 4, normalize=False)] == types[::2]


def test_a_linear_block_passes_its_arguments_on():
    block = LinearBlock(3, 4, norm_eps=0.8, norm_momentum=0.3, negative_slope=0.5, dropout=0.25)
    assert (block[0].in_features, block[0].out_features) == (3, 4)
    assert (block[1].eps, block[1].momentum) == (0.8, 0.3)
    assert block[2].negative_slope == 0.5
    assert block[3].p == 0.25


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (20, 31)])
def test_an_up_block_reaches_any_size(size):
    assert UpBlock(3, 5, size)(torch.randn(2, 3, 4, 5)).shape == (2, 5, *size)


@pytest.mark.parametrize(
    ("size", "half"), [((1, 1), (1, 1)), ((2, 3), (1, 2)), ((28, 7), (14, 4))], ids=str
)
def test_a_down_block_halves_both_sides_rounding_up(size, half):
    assert DownBlock(3, 5)(torch.randn(2, 3, *size)).shape == (2, 5, *half)


def test_labels_are_appended_one_hot():
    x = torch.tensor([[0.5, -1.0], [2.0, 3.0]], dtype=torch.float64)
    joined = join_labels(x, torch.tensor([2, 0]), 3)
    assert joined.dtype == torch.float64
    assert joined.tolist() == [[0.5, -1, 0, 0, 1], [2, 3, 1, 0, 0]]
    assert join_labels(x, None, 0) is x


@pytest.mark.parametrize(
    ("block", "arguments", "message"),
    [
        (LinearBlock, (0, 4), "`in_features` must be a positive integer, got 0"),
        (LinearBlock, (4, -1), "`out_features` must be a positive integer, got -1"),
        (UpBlock, (0, 4, (2, 2)), "`in_channels` must be a positive integer, got 0"),
        (UpBlock, (4, 0, (2, 2)), "`out_channels` must be a positive integer, got 0"),
        (UpBlock, (4, 4, (0, 2)), r"`size\[0\]` must be a positive integer, got 0"),
        (DownBlock, (0, 4), "`in_channels` must be a positive integer, got 0"),
        (DownBlock, (4, 0), "`out_channels` must be a positive integer, got 0"),
    ],
)
def test_an_invalid_argument_is_named(block, arguments, message):
    with pytest.raises(ValueError, match=message):
        block(*arguments)


def test_norm_eps_is_checked_without_a_norm_too():
    with pytest.raises(ValueError, match="`norm_eps` must be a finite number"):
        LinearBlock(2, 2, normalize=False, norm_eps=-1)
