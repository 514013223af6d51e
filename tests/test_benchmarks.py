"""Parts of the benchmarks run, and compare what they say they compare."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.benchmarks.limit import limit
from tests.benchmarks.loops import Options, plain_loader
from tests.benchmarks.time_to_quality import same_batches
from tests.test_datasets import write_mnist
from vanillagan.datasets import mnist


class Ticked(Exception):  # noqa: N818 - it is no error
    """The row has made its step."""


def stop() -> None:
    raise Ticked


@pytest.mark.parametrize("networks", ["perceptron", "conv"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_limit_makes_a_step(networks, precision):
    options = Options(Path(), batch_size=4, precision=precision, networks=networks)
    with pytest.raises(Ticked):
        limit(options, stop)


def test_the_source_reads_the_same_batches_from_memory(tmp_path):
    write_mnist(tmp_path, train=150)
    torch.manual_seed(0)
    plain = [images for images, _labels in plain_loader(Options(tmp_path))]
    torch.manual_seed(0)
    read = [images for images, _labels in same_batches(mnist(tmp_path))]
    assert [len(images) for images in read] == [64, 64, 22]
    for from_memory, images in zip(read, plain, strict=True):
        assert torch.equal(from_memory, images)
