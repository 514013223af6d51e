"""Batches of samples and labels."""

from __future__ import annotations

import pytest
import torch

from vanillagan import Batch

SAMPLES = torch.arange(14.0).view(7, 2)
LABELS = torch.arange(7)


def test_labels_are_optional():
    samples, labels = Batch(SAMPLES)
    assert samples is SAMPLES
    assert labels is None


def test_inputs_are_the_arguments_of_a_network():
    assert Batch(SAMPLES).inputs == (SAMPLES,)
    assert Batch(SAMPLES, LABELS).inputs == (SAMPLES, LABELS)


@pytest.mark.parametrize(
    ("value", "has_labels"),
    [
        pytest.param(SAMPLES, False, id="tensor"),
        pytest.param((SAMPLES, LABELS), True, id="pair"),
        pytest.param([SAMPLES, LABELS], True, id="list"),
        pytest.param([SAMPLES], False, id="list of one"),
        pytest.param({"samples": SAMPLES, "labels": LABELS}, True, id="samples and labels"),
        pytest.param({"images": SAMPLES, "label": LABELS}, True, id="images and label"),
        pytest.param({"image": SAMPLES, "name": "x"}, False, id="image"),
        pytest.param(Batch(SAMPLES, LABELS), True, id="batch"),
        pytest.param({"img": SAMPLES, "cls": LABELS}, True, id="img and cls"),
        pytest.param({"pixel_values": SAMPLES}, False, id="pixel_values"),
    ],
)
def test_common_forms_become_batches(value, has_labels):
    batch = Batch.of(value)
    assert isinstance(batch, Batch)
    assert batch.samples is SAMPLES
    assert batch.labels is (LABELS if has_labels else None)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (None, "NoneType"),
        (3, "int"),
        ((), "tuple"),
        ((SAMPLES, LABELS, LABELS), "tuple of 3: Tensor, Tensor, Tensor"),
        ({"pixels": SAMPLES}, r"the keys \['pixels'\]"),
    ],
    ids=["None", "int", "empty", "triple", "mapping"],
)
def test_other_forms_are_refused(value, got):
    message = f"`batch` must be a tensor, .*, got {got}; (override `GANTrainer|convert lists)"
    with pytest.raises(TypeError, match=message):
        Batch.of(value)


def test_arrays_become_tensors():
    batch = Batch.of((SAMPLES.numpy(), LABELS.numpy()))
    assert torch.equal(batch.samples, SAMPLES)
    assert torch.equal(batch.labels, LABELS)
    assert torch.equal(Batch.of((SAMPLES, LABELS.tolist())).labels, LABELS)


def test_the_only_images_of_a_mapping_are_its_samples():
    images, boxes = torch.zeros(2, 3, 4, 5), torch.zeros(2, 4)
    assert Batch.of({"boxes": boxes, "photo": images}).samples is images
    with pytest.raises(TypeError, match=r"got the keys \['before', 'after'\]"):
        Batch.of({"before": images, "after": images})


@pytest.mark.parametrize(("parts", "sizes"), [(1, [7]), (2, [4, 3]), (3, [3, 2, 2]), (7, [1] * 7)])
def test_split_gives_parts_of_nearly_equal_size(parts, sizes):
    split = Batch(SAMPLES, LABELS).split(parts)
    assert [len(part.samples) for part in split] == sizes
    assert torch.equal(torch.cat([part.samples for part in split]), SAMPLES)
    assert torch.equal(torch.cat([part.labels for part in split]), LABELS)


def test_split_without_labels():
    assert [part.labels for part in Batch(SAMPLES).split(2)] == [None, None]


def test_join_concatenates_in_order():
    batches = Batch(SAMPLES, LABELS).split(3)
    joined = Batch.join(batches)
    assert torch.equal(joined.samples, SAMPLES)
    assert torch.equal(joined.labels, LABELS)
    assert Batch.join([Batch(SAMPLES), Batch(SAMPLES)]).labels is None


def test_join_of_one_batch_copies_nothing():
    batch = Batch(SAMPLES)
    assert Batch.join([batch]) is batch
