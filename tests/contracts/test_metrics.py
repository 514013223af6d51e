"""Shared contract of the metrics: refused input, no side effects, bounded memory."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vanillagan import metrics
from vanillagan.metrics import (
    density_coverage,
    distances,
    extract_features,
    frechet_distance,
    kernel_distance,
    mode_coverage,
    nearest_neighbors,
    parzen_log_likelihood,
    precision_recall,
)


def parzen_selected(held_out, data):
    return parzen_log_likelihood(torch.zeros(3, 4), data, validation=held_out)


# name -> (metric of two sets, names of its arguments)
PAIRS = {
    "parzen": (partial(parzen_log_likelihood, sigma=0.5), ("samples", "data")),
    "parzen-validation": (parzen_selected, ("validation", "data")),
    "frechet": (frechet_distance, ("real", "fake")),
    "kernel": (kernel_distance, ("real", "fake")),
    "precision-recall": (precision_recall, ("real", "fake")),
    "density-coverage": (density_coverage, ("real", "fake")),
    "neighbors": (nearest_neighbors, ("samples", "data")),
}
OF_FEATURES = ["frechet", "kernel", "precision-recall", "density-coverage"]
every_metric = pytest.mark.parametrize("name", PAIRS)
either = pytest.mark.parametrize("place", [0, 1], ids=["first", "second"])


def assert_refused(name, bad, place, error, message):
    metric, arguments = PAIRS[name]
    pair = [torch.rand(12, 4), torch.rand(12, 4)]
    pair[place] = bad
    with pytest.raises(error, match=message.format(name=arguments[place])) as caught:
        metric(*pair)
    assert type(caught.value) is error


@every_metric
@either
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_must_be_finite(name, place, value):
    bad = torch.rand(12, 4)
    bad[3, 2] = value
    assert_refused(
        name, bad, place, ValueError, "`{name}` must be finite, got NaN or infinite values"
    )


@every_metric
def test_values_whose_sum_overflows_are_accepted(name):
    metric, _ = PAIRS[name]
    metric(torch.full((12, 4), 3e38), torch.full((12, 4), 3e38))


@every_metric
@either
def test_squares_of_values_must_be_finite(name, place):
    bad = torch.rand(12, 4, dtype=torch.float64)
    bad[3, 2] = -1e160
    message = r"`{name}` must have values up to 1e\+140, .*, got 1e\+160"
    assert_refused(name, bad, place, ValueError, message)


@every_metric
@either
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64], ids=str)
def test_sets_must_be_floats(name, place, dtype):
    message = f"`{{name}}` must be a tensor of floats, got {dtype}"
    assert_refused(name, torch.ones(12, 4, dtype=dtype), place, TypeError, message)


@every_metric
@either
@pytest.mark.parametrize("bad", [[[1.0, 2.0]], 1.0, torch.rand(3, 4).numpy()], ids=type)
def test_sets_must_be_tensors(name, place, bad):
    assert_refused(name, bad, place, TypeError, "`{name}` must be a tensor of floats, got")


@every_metric
@either
@pytest.mark.parametrize("shape", [(0, 4), (12, 0), ()], ids=str)
def test_sets_must_not_be_empty(name, place, shape):
    assert_refused(name, torch.zeros(shape), place, ValueError, "`{name}` must .*shape .*, got")


@every_metric
@either
def test_samples_must_have_the_same_size(name, place):
    message = r"`\w+` and `\w+` must have samples of the same size, got the shapes .* and .*"
    assert_refused(name, torch.rand(12, 5), place, ValueError, message)


@every_metric
@either
def test_sets_must_be_on_the_same_device(name, place):
    message = r"`\w+` and `\w+` must be on the same device, got (meta|cpu) and (meta|cpu)"
    assert_refused(name, torch.empty(12, 4, device="meta"), place, ValueError, message)


@pytest.mark.parametrize("name", OF_FEATURES)
@either
@pytest.mark.parametrize("shape", [(12,), (12, 2, 2)], ids=str)
def test_features_must_be_a_matrix(name, place, shape):
    assert_refused(
        name, torch.rand(shape), place, ValueError, r"`{name}` must be features of the shape"
    )


@pytest.mark.parametrize("name", ["frechet", "kernel"])
@either
def test_distances_need_two_samples(name, place):
    assert_refused(
        name, torch.rand(1, 4), place, ValueError, "`{name}` .* N of at least 2 .*got \\(1, 4"
    )


@pytest.mark.parametrize("metric", [precision_recall, density_coverage, nearest_neighbors])
@pytest.mark.parametrize(
    ("k", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("3", TypeError)]
)
def test_k_must_be_a_positive_integer(metric, k, error):
    with pytest.raises(error, match="`k` must be a positive integer, got"):
        metric(torch.rand(9, 2), torch.rand(9, 2), k=k)


def test_k_must_be_below_the_number_of_samples():
    large, small = torch.rand(9, 2), torch.rand(3, 2)
    for metric, real, fake, named in [
        (precision_recall, small, large, "real"),
        (precision_recall, large, small, "fake"),
        (density_coverage, small, large, "real"),
    ]:
        with pytest.raises(ValueError, match=f"`k` must be below .*`{named}` samples, 3, got 3"):
            metric(real, fake, k=3)
    with pytest.raises(ValueError, match="`k` must be at most the number of data points, 3, got 4"):
        nearest_neighbors(large, small, k=4)
    assert density_coverage(large, small[:1], k=3).density >= 0


@pytest.mark.parametrize(
    ("degree", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_degree_must_be_a_positive_integer(degree, error):
    with pytest.raises(error, match="`degree` must be a positive integer, got"):
        kernel_distance(torch.rand(3, 2), torch.rand(3, 2), degree=degree)


@pytest.mark.parametrize(("degree", "value"), [(3, 1e120), (9, 1e30)])
def test_kernel_must_be_finite(degree, value):
    large = torch.full((3, 2), value, dtype=torch.float64)
    message = f"`real` and `fake` must be .* kernel of degree {degree} .* got values up to 1e"
    for real, fake in ((large, torch.rand(3, 2)), (torch.rand(3, 2), large)):
        with pytest.raises(ValueError, match=message):
            kernel_distance(real, fake, degree=degree)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "`sigma` or `validation` .* must be given"),
        ({"sigmas": [0.5]}, ValueError, "`sigma` or `validation` .* must be given"),
        ({"sigma": 1.0, "sigmas": [0.5]}, ValueError, "`sigma` or `validation`"),
        ({"sigma": 1.0, "validation": torch.rand(3, 2)}, ValueError, "`sigma` or `validation`"),
        ({"sigma": 0.0}, ValueError, "`sigma` must be a finite number in .*, got 0.0"),
        ({"sigma": -1.0}, ValueError, "`sigma` must be .*, got -1.0"),
        ({"sigma": 1e-200}, ValueError, "`sigma` must be .*, got 1e-200"),
        ({"sigma": float("nan")}, ValueError, "`sigma` must be .*, got nan"),
        ({"sigma": "1"}, TypeError, "`sigma` must be .*, got '1'"),
        ({"sigma": torch.tensor(-1.0)}, ValueError, "`sigma` must be .*, got -1.0"),
        ({"sigma": torch.ones(2)}, TypeError, r"`sigma` must be .*, got \[1.0, 1.0\]"),
        ({"validation": torch.rand(3, 2), "sigmas": []}, ValueError, "`sigmas` must have at least"),
        ({"validation": torch.rand(3, 2), "sigmas": 0.5}, TypeError, "`sigmas` must be a list"),
        ({"validation": torch.rand(3, 2), "sigmas": [1, 0]}, ValueError, r"`sigmas\[1\]` must be"),
        ({"validation": torch.rand(3, 3)}, ValueError, "`samples` and `validation` must have"),
    ],
)
def test_parzen_refuses_invalid_widths(options, error, message):
    with pytest.raises(error, match=message):
        parzen_log_likelihood(torch.rand(4, 2), torch.rand(4, 2), **options)


@pytest.mark.parametrize(
    ("modes", "proportions", "error", "message"),
    [
        ([0, 3], 3, ValueError, r"`modes` must lie in \[-1, 2\], got modes from 0 to 3"),
        ([0, -2], 3, ValueError, r"`modes` must lie in \[-1, 2\], got modes from -2 to 0"),
        ([[0, 1]], 3, ValueError, r"`modes` must have the shape \(N,\), got \(1, 2\)"),
        (torch.zeros(0, dtype=torch.int64), 3, ValueError, r"`modes` must have the shape"),
        ([0.0, 1.0], 3, TypeError, "`modes` must be a tensor of integers, got torch.float32"),
        ([True], 3, TypeError, "`modes` must be a tensor of integers, got torch.bool"),
        ([0], 0, ValueError, "`true_proportions` must be a positive integer, got 0"),
        ([0], True, TypeError, "`true_proportions` must be a positive integer, got True"),
        ([0], 0.5, TypeError, "`true_proportions` .* a tensor of floats, got float"),
        ([0], [0.5, 0.5], TypeError, "`true_proportions` .* a tensor of floats, got list"),
        ([0], torch.tensor([1, 1]), TypeError, "`true_proportions` .* of floats, got torch.int64"),
        ([0], torch.ones(2), ValueError, "`true_proportions` .* total of 1, .* a total of 2"),
        ([0], torch.tensor([1.5, -0.5]), ValueError, "`true_proportions` .*a minimum of -0.5"),
        ([0], torch.tensor([float("nan")]), ValueError, "`true_proportions` must be finite"),
        ([0], torch.ones(1, 1), ValueError, r"`true_proportions` must have the shape \(K,\)"),
        ([0], torch.ones(0), ValueError, r"`true_proportions` must have the shape \(K,\)"),
    ],
)
def test_mode_coverage_refuses_invalid_modes(modes, proportions, error, message):
    with pytest.raises(error, match=message):
        mode_coverage(torch.as_tensor(modes), proportions)


def test_mode_coverage_checks_types_and_minimum():
    with pytest.raises(TypeError, match="`modes` must be a tensor of integers, got"):
        mode_coverage([0, 1], 2)
    with pytest.raises(ValueError, match="`minimum` must be a positive integer, got 0"):
        mode_coverage(torch.tensor([0]), 2, minimum=0)


@pytest.mark.parametrize(
    ("extractor", "samples", "batch_size", "error", "message"),
    [
        (torch.tanh, torch.ones(2, 3), 1, TypeError, "`extractor` must be a torch.nn.Module"),
        (nn.Flatten(), [1.0], 1, TypeError, "`samples` must be a tensor, got"),
        (nn.Flatten(), torch.ones(()), 1, ValueError, "`samples` must have the shape"),
        (nn.Flatten(), torch.ones(0, 2), 1, ValueError, "`samples` must have the shape"),
        (nn.Flatten(), torch.full((2, 2), torch.nan), 1, ValueError, "`samples` must be finite"),
        (nn.Flatten(), torch.ones(2, 3), 0, ValueError, "`batch_size` must be a positive integer"),
        (nn.Flatten(0), torch.ones(2, 3), 2, ValueError, r"one row for each of 2 .*got .*\(6,\)"),
        (nn.LSTM(3, 2), torch.ones(2, 3), 2, TypeError, "must return a tensor, got tuple"),
    ],
)
def test_extract_features_refuses_invalid_arguments(extractor, samples, batch_size, error, message):
    with pytest.raises(error, match=message):
        extract_features(extractor, samples, batch_size=batch_size)


@every_metric
def test_inputs_and_random_state_do_not_change(name):
    metric, _ = PAIRS[name]
    first, second = torch.rand(12, 4, requires_grad=True), torch.rand(12, 4)
    before = first.detach().clone(), second.clone(), torch.get_rng_state()
    result = metric(first, second)
    after = first.detach(), second, torch.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(isinstance(x, Tensor) and x.requires_grad for x in as_tuple(result))


@every_metric
def test_strides_and_dtype_do_not_change_the_result(name):
    metric, _ = PAIRS[name]
    first, second = torch.rand(12, 8)[:, ::2], torch.rand(4, 12).T
    expected = metric(first.contiguous().double(), second.contiguous().double())
    torch.testing.assert_close(
        [torch.as_tensor(x, dtype=torch.float64) for x in as_tuple(metric(first, second))],
        [torch.as_tensor(x, dtype=torch.float64) for x in as_tuple(expected)],
    )


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


# -- memory and imports ----------------------------------------------------------------------------

PEAK = """
import resource, sys, torch
torch.set_num_threads(1)
from vanillagan import metrics
def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
def run(n, features):
    a, b = torch.rand(n, features), torch.rand(n, features)
    metrics.parzen_log_likelihood(a, b, validation=b[:500], sigmas=[0.1, 0.2])
    metrics.frechet_distance(a, b)
    metrics.kernel_distance(a, b)
    metrics.precision_recall(a, b)
    metrics.density_coverage(a, b)
    metrics.nearest_neighbors(a, b, k=3)
n, features, metrics.distances.BLOCK = map(int, sys.argv[1:])
run(500, features)
before = peak()
run(n, features)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs the module `resource`")
@pytest.mark.parametrize(
    ("n", "features", "block", "most"),
    [
        # all pairs: 187 MB in float32, 374 MB in float64
        (7_000, 4, distances.BLOCK, 170),
        # 48 MB on Linux, 57 MB with one more copy of a set, 108 MB with all pairs
        (2_000, 784, 2**18, 54),
    ],
)
def test_memory_is_bounded(n, features, block, most):
    command = [sys.executable, "-c", PEAK, *map(str, (n, features, block))]
    # makes glibc return freed tensors at once, so that the peak is the memory in use
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert float(result.stdout) < most


def test_metrics_do_not_import_the_trainer():
    imported = {
        node.module
        for path in Path(metrics.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vanillagan")
    }
    others = {name for name in imported if not name.startswith("vanillagan.metrics")}
    names = ("data.epoch_sampler", "data.sources", "runtime.device", "theory", "validation")
    allowed = {f"vanillagan.{name}" for name in names}
    assert others <= allowed
