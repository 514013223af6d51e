"""Order and sizes of the batches of an epoch."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

from vanillagan.data.epoch_sampler import EpochSampler, mix_seeds


def batches(sampler: EpochSampler, epoch: int = 0, skip: int = 0) -> list[list[int]]:
    return [batch.tolist() for batch in sampler.batches(epoch, skip=skip)]


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


def test_order_depends_on_seed_and_epoch_alone():
    def indices(seed: int, epoch: int) -> list[int]:
        torch.manual_seed(seed + epoch)
        return flat(batches(EpochSampler(seed, length=20, batch_size=6), epoch))

    assert indices(1, 5) == indices(1, 5)
    orders = [indices(seed, epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == 9


def test_reading_does_not_change_the_order():
    sampler = EpochSampler(1, length=20, batch_size=6)
    first = batches(sampler, 3)
    batches(sampler, 4)
    next(sampler.batches(3, skip=2))
    assert batches(sampler, 3) == first
    with pytest.raises(FrozenInstanceError):
        sampler.seed = 2


def test_order_is_pytorchs_permutation():
    """Pins the order: checkpoints of earlier versions resume in it."""
    sampler = EpochSampler(0, length=8, batch_size=4)
    rng = torch.Generator().manual_seed(mix_seeds(0, 3))
    assert flat(batches(sampler, 3)) == torch.randperm(8, generator=rng).tolist()
    assert mix_seeds(0, 3) == 2644259177913605009


@pytest.mark.parametrize("length", [1, 4, 7, 8, 21])
def test_an_epoch_has_each_sample_once(length):
    indices = batches(EpochSampler(0, length=length, batch_size=4), 2)
    assert sorted(flat(indices)) == list(range(length))
    assert [len(batch) for batch in indices[:-1]] == [4] * (len(indices) - 1)


def test_without_shuffle_the_order_is_that_of_the_data():
    sampler = EpochSampler(0, length=5, batch_size=2, shuffle=False)
    assert batches(sampler, 0) == batches(sampler, 1) == [[0, 1], [2, 3], [4]]


def test_skip_leaves_out_the_first_batches():
    sampler = EpochSampler(0, length=22, batch_size=4)
    whole = batches(sampler, 1)
    for skip in range(7):
        assert batches(sampler, 1, skip) == whole[skip:]


def test_shards_of_the_ranks_make_up_the_batch():
    one = EpochSampler(3, length=30, batch_size=6)
    ranks = [EpochSampler(3, length=30, batch_size=6, rank=rank, world_size=3) for rank in range(3)]
    for whole, *shards in zip(batches(one, 1), *(batches(rank, 1) for rank in ranks), strict=True):
        assert [len(shard) for shard in shards] == [2, 2, 2]
        assert flat(shards) == whole


def test_shards_of_a_partial_last_batch_have_one_size():
    ranks = [EpochSampler(3, length=11, batch_size=6, rank=rank, world_size=2) for rank in (0, 1)]
    assert [len(batches(rank)[-1]) for rank in ranks] == [2, 2]


@pytest.mark.parametrize(
    ("length", "batch_size", "smallest_batch", "world_size", "expected"),
    [
        (12, 4, 1, 1, 3),
        (13, 4, 1, 1, 4),
        (13, 4, 2, 1, 3),
        (14, 4, 2, 1, 4),
        (3, 4, 1, 1, 1),
        (15, 4, 4, 1, 3),
        (14, 4, 2, 2, 3),
        (14, 4, 1, 2, 4),
        (13, 4, 1, 2, 3),
    ],
)
def test_batches_per_epoch(length, batch_size, smallest_batch, world_size, expected):
    sampler = EpochSampler(
        0,
        length=length,
        batch_size=batch_size,
        smallest_batch=smallest_batch,
        world_size=world_size,
    )
    assert sampler.batches_per_epoch == expected == len(batches(sampler))


def test_mixed_seeds_differ_where_sums_would_not():
    seeds = {mix_seeds(seed, epoch) for seed in range(50) for epoch in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix_seeds(1, 2) != mix_seeds(2, 1)
