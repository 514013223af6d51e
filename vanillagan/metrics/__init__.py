"""Metrics on tensors of samples or of features, from any feature extractor.

All are computed in float64, a block of pairs at a time, so that 10,000 x 10,000 images stay small.
Samples are of shape (N, ...), features of shape (N, F), floats; a wrong one is an error that names
the argument.
"""

from vanillagan.metrics.features import extract_features
from vanillagan.metrics.frechet import frechet_distance, kernel_distance
from vanillagan.metrics.modes import ModeCoverage, mode_coverage
from vanillagan.metrics.neighbours import Neighbours, nearest_neighbours
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
    "Neighbours",
    "ParzenEstimate",
    "PrecisionRecall",
    "density_coverage",
    "extract_features",
    "frechet_distance",
    "kernel_distance",
    "mode_coverage",
    "nearest_neighbours",
    "parzen_log_likelihood",
    "precision_recall",
]
