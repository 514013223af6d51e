"""Feature extraction."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vanillagan.metrics import extract_features


@pytest.mark.parametrize("batch_size", [1, 3, 500])
def test_features_are_computed_in_eval_mode(batch_size):
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5))
    network[1].running_mean.fill_(2.0)
    network[2].eval()
    images = torch.rand(7, 1, 5, 5)
    modes = [module.training for module in network.modules()]
    features = extract_features(network, images, batch_size=batch_size)
    assert [module.training for module in network.modules()] == modes
    assert not features.requires_grad
    expected = (network[0](images) - 2) / (1 + network[1].eps) ** 0.5
    torch.testing.assert_close(features, expected.detach().flatten(1))


def test_samples_pass_in_batches():
    sizes = []
    network = nn.Flatten()
    network.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    extract_features(network, torch.zeros(7, 2), batch_size=3)
    assert sizes == [3, 3, 1]


def test_floats_take_the_dtype_of_the_network():
    assert extract_features(nn.Linear(2, 3).double(), torch.ones(4, 2)).dtype == torch.float64
    assert extract_features(nn.Embedding(9, 3), torch.tensor([[1, 2], [3, 4]])).shape == (2, 6)
    one = extract_features(nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), torch.ones(4, 2))
    assert one.shape == (4, 1)


def test_training_modes_are_restored_after_an_error():
    network = nn.Sequential(nn.Linear(3, 1), nn.Dropout())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        extract_features(network, torch.ones(2, 5))
    assert all(module.training for module in network.modules())
