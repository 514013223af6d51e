"""Metrics on samples, or on features from any extractor: FID, KID, precision and recall, and more.

Samples are float tensors of shape (N, ...), features of shape (N, F). An invalid set is an error
that names the argument.

All metrics are computed in float64. Pairs of samples are processed in blocks, which bounds the
memory: a comparison of 10,000 with 10,000 images never holds all pairs.
"""

from vanillagan.metrics.features import extract_features
from vanillagan.metrics.frechet import frechet_distance, kernel_distance
from vanillagan.metrics.from_torchmetrics import from_torchmetrics
from vanillagan.metrics.modes import ModeCoverage, mode_coverage
from vanillagan.metrics.neighbors import Neighbors, nearest_neighbors
from vanillagan.metrics.parzen import ParzenEstimate, parzen_log_likelihood
from vanillagan.metrics.precision_recall import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    precision_recall,
)

__all__ = [
    "DensityCoverage",
    "ModeCoverage",
    "Neighbors",
    "ParzenEstimate",
    "PrecisionRecall",
    "density_coverage",
    "extract_features",
    "frechet_distance",
    "from_torchmetrics",
    "kernel_distance",
    "mode_coverage",
    "nearest_neighbors",
    "parzen_log_likelihood",
    "precision_recall",
]
