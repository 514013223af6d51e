"""Protocol between the trainer and a network: the attributes that the trainer reads.

Any `nn.Module` can be a generator or a discriminator. The attributes below are optional; a network
that has them is checked earlier, sampled without further arguments, or trained faster.

Of a generator:

- `latent_dim` (int): size of the latent vector. Without it, `latent_sampler` must be given.
- `sample_shape` (tuple of int): shape of one sample. Compared with the data and the discriminator.
- `num_classes` (int): number of classes it is conditioned on; 0 or None for none. If positive, the
  network is called with labels, integers of shape (N,).
- `label_shape` (tuple of int): for conditions that are not one class, in place of `num_classes`:
  the shape of one label, such as `(40,)` for 40 attributes or `()` for a number. The network is
  called with labels of shape (N, *label_shape) and any dtype; floats are converted to its own.

Of a discriminator:

- `sample_shape`, `num_classes`, `label_shape`: as above. A `num_classes` of 1 counts as none if the
  generator has no classes: torchvision and timm call the number of outputs so.
- `outputs_logits` (bool): True if it returns logits, False if it returns probabilities. Without it,
  a network whose last layer is an `nn.Sigmoid` is taken to return probabilities.
- `independent_samples` (bool): True if the output for one sample does not depend on the others in
  the batch. The discriminator then processes real and fake samples in one forward pass, which is
  faster. A subclass must declare it again, since it may mix samples. It has no effect on a network
  with BatchNorm.

If either network has BatchNorm, a batch needs two samples or more.
"""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = [
    "has_batch_norm",
    "has_independent_samples",
    "label_shape_of",
    "num_classes_of",
    "outputs_probabilities",
    "sample_shape_of",
]

# The private base class also covers lazy layers and those of other packages. The public classes do
# without these, should it be gone.
_BATCH_NORM: Any = getattr(
    nn.modules.batchnorm,
    "_BatchNorm",
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
)


def num_classes_of(network: object) -> int:
    """Return the number of classes that a network is conditioned on, 0 for none."""
    is_of_classes = getattr(network, "label_shape", None) is None
    return (getattr(network, "num_classes", None) or 0) if is_of_classes else 0


def label_shape_of(network: object) -> tuple[int, ...] | None:
    """Return the shape of one label, () for a class; None for an unconditional network."""
    shape = getattr(network, "label_shape", None)
    if shape is not None:
        return tuple(shape)
    return () if num_classes_of(network) else None


def sample_shape_of(network: nn.Module) -> tuple[int, ...] | None:
    """Return the shape of one sample, or None if the network does not declare it."""
    shape = getattr(network, "sample_shape", None)
    return None if shape is None else tuple(shape)


def has_batch_norm(network: nn.Module) -> bool:
    """Return True if the network normalizes over the batch."""
    return any(isinstance(module, _BATCH_NORM) for module in network.modules())


def has_independent_samples(network: nn.Module) -> bool:
    """Return True if no sample's output depends on the other samples of its batch.

    Only a declaration of the class itself or of the instance counts: a subclass may add a layer
    that mixes samples. A wrapper such as `DiffAugment` declares it for the instance. Layers added
    to an instance later are not noticed.
    """
    name = "independent_samples"
    declared = vars(network).get(name, vars(type(network)).get(name))
    return declared is True and not has_batch_norm(network)


def outputs_probabilities(discriminator: nn.Module) -> bool:
    """Return True if the discriminator returns probabilities, not logits."""
    outputs_logits = getattr(discriminator, "outputs_logits", None)
    return _ends_in_sigmoid(discriminator) if outputs_logits is None else not outputs_logits


def _ends_in_sigmoid(network: nn.Module) -> bool:
    reshaping = nn.Flatten | nn.Unflatten | nn.Identity
    # `children()` leaves out a module's second use, such as an activation that is shared
    children = [
        module
        for name, module in network.named_modules(remove_duplicate=False)
        if name and "." not in name
    ]
    layers = [module for module in children if not isinstance(module, reshaping)]
    return _ends_in_sigmoid(layers[-1]) if layers else isinstance(network, nn.Sigmoid)
