"""The log-likelihood estimate of the 2014 paper: a Gaussian kernel density of the samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vanillagan.errors import check_number
from vanillagan.metrics.distances import squared_distances
from vanillagan.metrics.points import as_points

__all__ = ["ParzenEstimate", "parzen_log_likelihood"]

SIGMAS = tuple(10 ** (step / 9 - 1) for step in range(10))
"""The paper's widths: 10 values log-spaced in [0.1, 1]."""

SMALLEST = 1e-100
"""Below it the square of a width is lost."""


class ParzenEstimate(NamedTuple):
    """An estimate of the log-likelihood, in nats per sample.

    Attributes:
        mean: The mean log-likelihood of the data.
        standard_error: Of that mean, over the data; infinite for a single sample of data.
        sigma: The width of the kernels, given or chosen.
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
    """Scores data by a Gaussian kernel density of generated samples (a Parzen window).

    p(x) = 1/N sum_i N(x; samples_i, sigma^2 I), and the estimate is the mean of log p over data.

    The paper's protocol: 10,000 samples; sigma chosen by the log-likelihood of 1,000 validation
    images among 10 values log-spaced in [0.1, 1]; pixels in [0, 1]; the test set as data. The
    library's images are in [-1, 1]: map all of them by `(images + 1) / 2` first, or the figures
    don't compare.

    Known against the estimate (Theis et al., 2016, arXiv 1511.01844): in many dimensions it is far
    from the true log-likelihood even with very many samples, and it ranks models wrongly: centroids
    of k-means score better than samples of the data's true distribution. Samples that are the
    training set, memorised, score well too. Use it to compare with figures of the same protocol,
    not to choose a model.

    Args:
        samples: What the density is made of, shape (N, ...), floats; one is enough.
        data: What is scored, shape (M, ...), floats, of the same size for each sample.
        sigma: The width of the kernels, above 0, a number or a tensor of one; or else
            `validation`.
        validation: Samples to choose the width by, shape (V, ...), floats, none of them in `data`.
        sigmas: The widths to choose from, above 0; by default the paper's ten. If the first or the
            last is chosen, a wider range would do better.

    Returns:
        `ParzenEstimate(mean, standard_error, sigma)`, floats; the standard error is the standard
        deviation (of M - 1 degrees of freedom) over sqrt(M).

    Raises:
        ValueError: Neither `sigma` nor `validation` is given, or both; a set is empty, not finite,
            or of another size than the samples; a width is not above 0.
        TypeError: A set is no tensor of floats, or a width no number.

    Source: Goodfellow et al., 2014 (arXiv 1406.2661), section 5; Breuleux et al., 2011.

    Example:
        >>> data = torch.tensor([[0.0], [1.0]])
        >>> estimate = parzen_log_likelihood(torch.zeros(1, 1), data, sigma=1.0)
        >>> round(estimate.mean, 4)  # -log(2 pi) / 2 - (0 + 1) / 2 / 2
        -1.1689
    """
    if (sigma is None) == (validation is None) or (validation is None and sigmas is not None):
        raise ValueError(
            "`sigma` must be given, or else `validation` (and perhaps `sigmas`) to choose it by, "
            f"got sigma={sigma!r}, {'no' if validation is None else 'a'} validation set and "
            f"sigmas={sigmas!r:.80}"
        )
    if validation is None:
        value = sigma.tolist() if isinstance(sigma, Tensor) else sigma
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


def _as_widths(sigmas: object) -> list[float]:
    values = sigmas.tolist() if isinstance(sigmas, Tensor) else sigmas
    if not isinstance(values, Iterable):
        raise TypeError(f"`sigmas` must be a list of numbers above 0, got {sigmas!r:.80}")
    widths = [check_number(f"sigmas[{i}]", each, minimum=SMALLEST) for i, each in enumerate(values)]
    if not widths:
        raise ValueError(f"`sigmas` must have at least one entry, got {sigmas!r}")
    return widths


def _log_densities(density: Tensor, points: Tensor, widths: Sequence[float]) -> Tensor:
    """log p of each point (M, F) for each width, shape (len(widths), M)."""
    sums, terms = [], density.new_empty(0)
    for squares in squared_distances(points, density):
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
