"""Theory of the 2014 paper: optimal discriminator, value function, divergences.

All logarithms are natural.

Source: Goodfellow et al., 2014 (arXiv 1406.2661), section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributions import Distribution

from vanillagan.runtime.rng import isolated_rng
from vanillagan.validation import check_dense, check_number, shown

__all__ = [
    "GLOBAL_MINIMUM",
    "density_ratio",
    "jensen_shannon_divergence",
    "kl_divergence",
    "optimal_discriminator",
    "value_function",
    "virtual_criterion",
]

GLOBAL_MINIMUM = -math.log(4)
"""-log 4, the minimum of the virtual criterion C(G), reached at p_g = p_data (Theorem 1)."""

TOTAL_TOLERANCE = 1e-3
"""Largest accepted distance of a total probability from 1, for the error of a quadrature."""

Array: TypeAlias = npt.NDArray[Any]
Values = TypeVar("Values", float, Array, Tensor)
Density: TypeAlias = Callable[[Any], Any]


@overload
def optimal_discriminator(p_data: float, p_g: float) -> float: ...
@overload
def optimal_discriminator(p_data: Tensor, p_g: Tensor | float) -> Tensor: ...
@overload
def optimal_discriminator(p_data: Array, p_g: Array | float) -> Array: ...
@overload
def optimal_discriminator(p_data: Distribution, p_g: Distribution) -> Callable[[Any], Tensor]: ...
@overload
def optimal_discriminator(p_data: Density, p_g: Density) -> Callable[[Any], Any]: ...
def optimal_discriminator(p_data: Any, p_g: Any) -> Any:
    """Return the optimal discriminator for a fixed generator (Proposition 1).

    D*(x) = p_data(x) / (p_data(x) + p_g(x))

    D* is undefined where both densities are zero, and NaN there.

    Args:
        p_data: Density of the data: a number, a NumPy array or a tensor of density values, at least
            0; or a callable x -> density values; or a `torch.distributions.Distribution`.
        p_g: Density of the generator, likewise. The values of both must broadcast.

    Returns:
        For values: D* at the same points, in [0, 1], as a float, an array or a tensor like the
        arguments. For callables and distributions: a callable x -> D*(x). For distributions it is
        computed from log densities, so that it is exact far in the tails, and x may lie outside of
        the support of either.

    Raises:
        ValueError: A density is negative, or the shapes don't broadcast.
        TypeError: An argument is of another type, or the two types can't be combined.

    Example:
        >>> optimal_discriminator(3.0, 1.0)
        0.75
        >>> normal = torch.distributions.Normal
        >>> optimal_discriminator(normal(0.0, 1.0), normal(2.0, 1.0))(torch.tensor(1.0))
        tensor(0.5000)
    """
    if isinstance(p_data, Distribution) and isinstance(p_g, Distribution):
        return lambda x: torch.sigmoid(_log_density(p_data, x) - _log_density(p_g, x))
    if _is_density(p_data) and _is_density(p_g):
        return lambda x: optimal_discriminator(p_data(x), p_g(x))
    p, q = _as_tensors(p_data=p_data, p_g=p_g)
    overflow = (p + q).isinf()
    p, q = (torch.where(overflow, density / 2, density) for density in (p, q))
    return _in_kind_of((p_data, p_g), p / (p + q))


def value_function(d_real: Values, d_fake: Values) -> Values:
    """Return the value function V(D, G) = E log D(x) + E log(1 - D(G(z))) (equation 1).

    Args:
        d_real: D(x), probabilities in [0, 1] for real samples, any shape.
        d_fake: D(G(z)), probabilities in [0, 1] for fakes, any shape.

    Returns:
        The value, a float or a scalar tensor; at most 0, and -log 4 if D = 1/2 everywhere.

    Raises:
        ValueError: A value is outside of [0, 1].
        TypeError: An argument is not a number, array or tensor.

    Example:
        >>> value_function(0.5, 0.5) == GLOBAL_MINIMUM
        True
    """
    real, fake = _as_tensors(broadcast=False, d_real=d_real, d_fake=d_fake)
    for name, probabilities in (("d_real", real), ("d_fake", fake)):
        if bool((probabilities > 1).any()):
            raise ValueError(
                f"`{name}` must be probabilities in [0, 1], "
                f"got {float(probabilities.detach().max()):g}"
            )
    value: Values = _in_kind_of((d_real, d_fake), real.log().mean() + torch.log1p(-fake).mean())
    return value


def kl_divergence(p: Any, q: Any, *, dx: Any = 1.0) -> Any:
    """Return the Kullback-Leibler divergence KL(p || q) = sum p log(p / q) dx.

    Args:
        p: Probabilities, or density values at the points of a quadrature, shape (..., n): a NumPy
            array or a tensor, at least 0, with a total of 1 over the last dimension.
        q: Likewise.
        dx: Weight of each point: 1 for probabilities, the spacing of the grid for densities.

    Returns:
        The divergence in nats, at least 0, shape (...), as an array or a tensor like the arguments
        (a float for NumPy arrays of shape (n,)). It is infinite where q = 0 < p.

    Raises:
        ValueError: A value is negative, the shapes don't broadcast, or a total is not 1.

    Example:
        >>> kl_divergence(np.array([0.5, 0.5]), np.array([0.5, 0.5]))
        0.0
    """
    p_values, q_values, weight = _as_probabilities(p, q, dx)
    return _in_kind_of((p, q), _kl(p_values, q_values, weight))


def jensen_shannon_divergence(p: Any, q: Any, *, dx: Any = 1.0) -> Any:
    """Return the Jensen-Shannon divergence JSD(p || q).

    JSD(p || q) = KL(p || m) / 2 + KL(q || m) / 2, where m = (p + q) / 2

    Args:
        p: Probabilities or density values, as for `kl_divergence`.
        q: Likewise.
        dx: Weight of each point.

    Returns:
        The divergence in nats, in [0, log 2], shape (...), as for `kl_divergence`.

    Raises:
        ValueError: A value is negative, the shapes don't broadcast, or a total is not 1.

    Example:
        >>> jensen_shannon_divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == math.log(2)
        True
    """
    p_values, q_values, weight = _as_probabilities(p, q, dx)
    return _in_kind_of((p, q), _jsd(p_values, q_values, weight))


def virtual_criterion(p_data: Any, p_g: Any, *, dx: Any = 1.0) -> Any:
    """Return the virtual training criterion C(G) of the generator (equations 4 to 6).

    C(G) = max_D V(D, G) = -log 4 + 2 JSD(p_data || p_g)

    Args:
        p_data: Probabilities or density values of the data, as for `kl_divergence`.
        p_g: Those of the generator.
        dx: Weight of each point.

    Returns:
        C(G), in [-log 4, 0], shape (...), as for `kl_divergence`; -log 4 if and only if
        p_g = p_data (Theorem 1).

    Raises:
        ValueError: A value is negative, the shapes don't broadcast, or a total is not 1.

    Example:
        >>> virtual_criterion(np.array([0.2, 0.8]), np.array([0.2, 0.8])) == GLOBAL_MINIMUM
        True
    """
    p, q, weight = _as_probabilities(p_data, p_g, dx, names=("p_data", "p_g"))
    return _in_kind_of((p_data, p_g), GLOBAL_MINIMUM + 2 * _jsd(p, q, weight))


def density_ratio(logits: Values) -> Values:
    """Return a discriminator's estimate of p_data / p_g = D / (1 - D) = exp(logit).

    Args:
        logits: Logits of a discriminator, any shape.

    Returns:
        The density ratio, above 0, of the same shape and type.

    Example:
        >>> density_ratio(0.0)
        1.0
    """
    ratio: Values = _in_kind_of((logits,), _as_tensor("logits", logits).exp())
    return ratio


def _kl(p: Tensor, q: Tensor, weight: Tensor) -> Tensor:
    # both are replaced by 1 where p = 0, so that neither the term nor its gradient is NaN
    positive = p > 0
    p, q = torch.where(positive, p, 1.0), torch.where(positive, q, 1.0)
    return (p * (p.log() - q.log()) * weight).sum(-1)


def _jsd(p: Tensor, q: Tensor, weight: Tensor) -> Tensor:
    middle = (p + q) / 2
    return (_kl(p, middle, weight) + _kl(q, middle, weight)) / 2


def _log_density(distribution: Distribution, x: Any) -> Tensor:
    """Return log p(x), -inf outside of the support, where PyTorch raises or extrapolates."""
    points = torch.as_tensor(x)
    support: Any = distribution.support
    inside: Tensor = support.check(points)
    if bool(inside.all()):
        return distribution.log_prob(points)
    # points outside are replaced by a sample: log_prob would raise or extrapolate, and the gradient
    # of torch.where would be NaN
    with isolated_rng(0):
        stand_in = distribution.sample()
    whole = inside[(...,) + (None,) * support.event_dim]
    return torch.where(
        inside, distribution.log_prob(torch.where(whole, points, stand_in)), -math.inf
    )


def _is_density(value: Any) -> bool:
    return callable(value) and not isinstance(value, Tensor | np.ndarray | Distribution)


def _as_probabilities(
    p: Any, q: Any, dx: Any, names: tuple[str, str] = ("p", "q")
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = _as_tensors(**dict(zip(names, (p, q), strict=True)))
    weight = _as_tensor("dx", dx).to(tensors[0])
    if weight.dim() and weight.shape != tensors[0].shape[-1:]:
        raise ValueError(
            f"`dx` must be a number or one for each point, got the shape {tuple(weight.shape)}"
        )
    for name, values in zip(names, tensors, strict=True):
        if values.dim() == 0:
            raise ValueError(f"`{name}` must have at least one dimension, got a number")
        total = (values * weight).sum(-1)
        worst = float((total.detach() - 1).abs().max()) if total.numel() else 0.0
        if not worst <= TOTAL_TOLERANCE:
            raise ValueError(
                f"`{name}` must have a total of 1 over the last dimension, with `dx`={shown(dx)}, "
                f"got a total that is off by {worst:g}"
            )
    return *tensors, weight


def _as_tensors(*, broadcast: bool = True, **named: Any) -> tuple[Tensor, Tensor]:
    """Convert two arguments to tensors of one dtype, broadcast; raise if a value is negative."""
    first, second = (_as_tensor(name, value) for name, value in named.items())
    for name, values in zip(named, (first, second), strict=True):
        if not bool((values >= 0).all()):  # NaN is neither
            raise ValueError(f"`{name}` must be at least 0, got {float(values.detach().min()):g}")
    dtype = _common_dtype(tuple(named.values()), first, second)
    # numbers and arrays go to the device of the tensor, in its dtype: MPS has no float64
    devices = [value.device for value in named.values() if isinstance(value, Tensor)]
    device = devices[0] if len(devices) == 1 else None
    first, second = first.to(device, dtype), second.to(device, dtype)
    if broadcast:
        try:
            first, second = torch.broadcast_tensors(first, second)
        except RuntimeError as error:
            a, b = named
            raise ValueError(
                f"`{a}` and `{b}` must have shapes that broadcast, got {tuple(first.shape)} and "
                f"{tuple(second.shape)}"
            ) from error
    return first, second


def _common_dtype(values: tuple[Any, ...], first: Tensor, second: Tensor) -> torch.dtype:
    """Return the dtype of the arrays and tensors among `values`; numbers adopt it."""
    dtypes = [
        tensor.dtype
        for value, tensor in zip(values, (first, second), strict=True)
        if isinstance(value, Tensor | np.ndarray)
    ]
    if not dtypes:
        return torch.float64
    dtype = torch.promote_types(dtypes[0], dtypes[-1])
    return dtype if dtype.is_floating_point else torch.get_default_dtype()


def _as_tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        if value.is_complex():
            raise TypeError(f"`{name}` must be a tensor of real numbers, got {value.dtype}")
        check_dense(name, value, needs_values=True)
        return value if value.is_floating_point() else value.to(torch.get_default_dtype())
    if isinstance(value, np.ndarray | np.number) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.array(value, dtype=np.result_type(value, np.float32)))
    if isinstance(value, int):  # which may be too large for a float
        value = check_number(name, value)
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    raise TypeError(
        f"`{name}` must be a number, a NumPy array or a tensor of values"
        f", got {type(value).__name__}"
    )


def _in_kind_of(values: tuple[Any, ...], result: Tensor) -> Any:
    """Convert the result to the type of the arguments: a tensor, an array or a float."""
    if any(isinstance(value, Tensor) for value in values):
        return result
    return result.item() if result.dim() == 0 else result.numpy()
