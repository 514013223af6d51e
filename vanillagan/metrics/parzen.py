"""Parzen window log-likelihood, the metric of the 2014 GAN paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vanillagan.metrics.distances import squared_distances
from vanillagan.metrics.points import as_points
from vanillagan.validation import check_dense, check_number, shown

__all__ = ["ParzenEstimate", "parzen_log_likelihood"]

SIGMAS = tuple(10 ** (step / 9 - 1) for step in range(10))
"""Default kernel widths, those of the paper: 10 values, log-spaced in [0.1, 1]."""

SMALLEST = 1e-100
"""Smallest kernel width; the squares of smaller ones vanish in float64."""


class ParzenEstimate(NamedTuple):
    """Estimate of the log-likelihood, in nats per sample.

    Attributes:
        mean: Mean log-likelihood of the data.
        standard_error: Standard error of the mean over the data; infinite for one data sample.
        sigma: Width of the kernels, given or selected.
    """

    mean: float
    standard_error: float
    sigma: float


def parzen_log_likelihood(
    samples: Tensor,
    data: Tensor,
    *,
    sigma: float | Tensor | None = None,
    validation: Tensor | None = None,
    sigmas: Iterable[float] | Tensor | None = None,
) -> ParzenEstimate:
    """Estimate the log-likelihood of data under a Gaussian Parzen window of generated samples.

        p(x) = 1/N sum_i N(x; samples_i, sigma^2 I)

    The estimate is the mean of log p over the data.

    Protocol of the paper: 10,000 samples; the test set as data; pixels in [0, 1]; sigma selected by
    the log-likelihood of 1,000 validation images from 10 values, log-spaced in [0.1, 1]. Images of
    this library are in [-1, 1]: map all sets by `(images + 1) / 2` first, otherwise the numbers are
    not comparable.

    Limitations (Theis et al., 2016, arXiv 1511.01844): in many dimensions the estimate is far from
    the true log-likelihood, even for very many samples. It also ranks models wrongly: k-means
    centroids score better than samples of the true distribution, and a memorized training set
    scores well. Use it to compare with published numbers of the same protocol, not to select a
    model.

    Args:
        samples: Centers of the kernels, shape (N, ...), floats, N at least 1.
        data: Data to evaluate, shape (M, ...), floats, with samples of the same size.
        sigma: Width of the kernels, above 0, a number or a tensor with one value. Give either this
            or `validation`.
        validation: Samples to select the width by, shape (V, ...), floats, none of them in `data`.
        sigmas: Widths to select from, above 0; by default the ten of the paper. If the first or the
            last one is selected, try a wider range.

    Returns:
        `ParzenEstimate(mean, standard_error, sigma)`, floats. The standard error is the standard
        deviation (with M - 1 degrees of freedom) divided by sqrt(M).

    Raises:
        ValueError: Neither or both of `sigma` and `validation` are given; a set is empty, not
            finite, or of another size than the samples; or a width is not above 0.
        TypeError: A set is not a tensor of floats, or a width not a number.

    Source: Goodfellow et al., 2014 (arXiv 1406.2661), section 5; Breuleux et al., 2011.

    Example:
        >>> data = torch.tensor([[0.0], [1.0]])
        >>> estimate = parzen_log_likelihood(torch.zeros(1, 1), data, sigma=1.0)
        >>> round(estimate.mean, 4)  # -log(2 pi) / 2 - (0 + 1) / 2 / 2
        -1.1689
    """
    if (sigma is None) == (validation is None) or (validation is None and sigmas is not None):
        raise ValueError(
            "`sigma` or `validation` (with `sigmas` to select from) must be given, and only one of "
            f"them, got sigma={shown(sigma)}, {'no' if validation is None else 'a'} validation set "
            f"and sigmas={shown(sigmas)}"
        )
    if validation is None:
        value = _listed("sigma", sigma)
        width = check_number("sigma", value, minimum=SMALLEST)
        density, scored = as_points(samples=samples, data=data)
    else:
        widths = _as_widths(SIGMAS if sigmas is None else sigmas)
        density, scored, held_out = as_points(samples=samples, data=data, validation=validation)
        means = _log_densities(density, held_out, widths).mean(1)
        width = widths[int(means.argmax())]
    (values,) = _log_densities(density, scored, [width])
    deviation = values.std().item() if len(values) > 1 else math.inf
    return ParzenEstimate(values.mean().item(), deviation / math.sqrt(len(values)), width)


def _listed(name: str, value: Any) -> Any:
    if isinstance(value, Tensor):
        check_dense(name, value, needs_values=True)
    return value.tolist() if hasattr(value, "tolist") else value


def _as_widths(sigmas: object) -> list[float]:
    values = _listed("sigmas", sigmas)
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"`sigmas` must be a list of numbers above 0, got {sigmas!r:.80}")
    widths = [check_number(f"sigmas[{i}]", each, minimum=SMALLEST) for i, each in enumerate(values)]
    if not widths:
        raise ValueError(f"`sigmas` must have at least one entry, got {sigmas!r}")
    return widths


def _log_densities(density: Tensor, points: Tensor, widths: Sequence[float]) -> Tensor:
    """Return log p of each point (M, F) for each width, shape (len(widths), M)."""
    sums, terms = [], density.new_empty(0)
    for squares in squared_distances(points, density):
        # log-sum-exp: the nearest sample is factored out, so that the sum never underflows to 0
        nearest = squares.amin(1, keepdim=True)
        squares -= nearest
        per_width = []
        for width in widths:
            scale = -0.5 / (width * width)
            torch.mul(squares, scale, out=terms.resize_(squares.shape))
            total = terms.exp_().sum(1).log_()
            per_width.append(total.add_(nearest.squeeze(1), alpha=scale))
        sums.append(torch.stack(per_width))
    size = points.shape[1]
    norms = [math.log(len(density)) + size * math.log(width * math.tau**0.5) for width in widths]
    return torch.cat(sums, 1) - points.new_tensor(norms)[:, None]
