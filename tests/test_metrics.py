"""The metrics against SciPy, scikit-learn, torchmetrics and closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, rel_entr
from scipy.stats import multivariate_normal
from sklearn.neighbors import KernelDensity, NearestNeighbors
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from vanillagan.metrics import (
    density_coverage,
    distances,
    extract_features,
    frechet_distance,
    kernel_distance,
    mode_coverage,
    nearest_neighbours,
    parzen_log_likelihood,
    precision_recall,
)

F64 = torch.float64
seeds = pytest.mark.parametrize("seed", [0, 1, 2])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
PAPER_SIGMAS = np.logspace(-1, 0, num=10)


@pytest.fixture(autouse=True, params=[2**22, 500], ids=["one-block", "many-blocks"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Every figure must be the same whether all pairs fit into one block or not."""
    monkeypatch.setattr(distances, "BLOCK", request.param)
    return request.param


def draw(n: int, features: int, seed: int, *, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    """Correlated Gaussian points, (n, features), in float64."""
    rng = torch.Generator().manual_seed(seed)
    mix = torch.randn(features, features, generator=rng, dtype=F64)
    points = torch.randn(n, features, generator=torch.Generator().manual_seed(seed + 100)).double()
    return shift + scale * points @ mix / features**0.5


def sets(seed: int, *, n: int = 70, m: int = 55, features: int = 6) -> tuple[Tensor, Tensor]:
    return draw(n, features, seed), draw(m, features, seed + 10, shift=0.3, scale=1.2)


# -- Parzen ----------------------------------------------------------------------------------------


@seeds
@dtypes
@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_parzen_is_the_kernel_density_of_scikit_learn(seed, dtype, sigma):
    samples, data = (points.to(dtype) for points in sets(seed))
    scores = KernelDensity(bandwidth=sigma).fit(samples.numpy()).score_samples(data.numpy())
    estimate = parzen_log_likelihood(samples, data, sigma=sigma)
    assert estimate.mean == pytest.approx(scores.mean(), rel=1e-9)
    assert estimate.standard_error == pytest.approx(scores.std(ddof=1) / 55**0.5, rel=1e-8)
    assert estimate.sigma == sigma


def test_parzen_of_one_sample_is_a_gaussian():
    data = draw(20, 5, 3)
    centre = torch.full((1, 5), 0.25, dtype=F64)
    expected = multivariate_normal(centre[0].numpy(), 0.7**2 * np.eye(5)).logpdf(data.numpy())
    assert parzen_log_likelihood(centre, data, sigma=0.7).mean == pytest.approx(expected.mean())


def test_parzen_of_images_at_a_small_width_is_exact_in_float32():
    """784 pixels and sigma 0.1 make a factor of 50 of each error in a squared distance."""
    rng = torch.Generator().manual_seed(0)
    samples = torch.rand(60, 1, 28, 28, generator=rng)
    data = (samples[:40] + 0.05 * torch.randn(40, 1, 28, 28, generator=rng)).clamp(0, 1)
    a, b = (x.flatten(1).double().numpy() for x in (data, samples))
    logs = -cdist(a, b, "sqeuclidean") / (2 * 0.1**2)
    scores = logsumexp(logs, axis=1) - math.log(60) - 392 * math.log(2 * math.pi * 0.1**2)
    estimate = parzen_log_likelihood(samples, data, sigma=0.1)
    assert estimate.mean == pytest.approx(scores.mean(), abs=1e-6)


def test_parzen_does_not_depend_on_where_the_origin_is():
    samples, data = torch.rand(60, 784, dtype=F64), torch.rand(40, 784, dtype=F64)
    near = parzen_log_likelihood(samples, data, sigma=0.1)
    far = parzen_log_likelihood(samples + 1e6, data + 1e6, sigma=0.1)
    assert far.mean == pytest.approx(near.mean, abs=1e-4)


@seeds
def test_parzen_chooses_the_width_as_a_loop_over_scikit_learn_does(seed):
    samples, data = sets(seed)
    validation = draw(30, 6, seed + 20)
    scores = [
        KernelDensity(bandwidth=sigma).fit(samples.numpy()).score(validation.numpy())
        for sigma in PAPER_SIGMAS
    ]
    best = PAPER_SIGMAS[int(np.argmax(scores))]
    estimate = parzen_log_likelihood(samples, data, validation=validation)
    assert estimate.sigma == pytest.approx(best)
    assert estimate == parzen_log_likelihood(samples, data, sigma=estimate.sigma)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor], ids=lambda k: k.__name__)
def test_widths_may_come_in_any_row_of_numbers_and_are_compared_in_the_density(kind):
    """Between two points at distance 2 the best width for their middle is 1."""
    ends = torch.tensor([[-1.0], [1.0]], dtype=F64)
    middle = torch.zeros(1, 1, dtype=F64)
    estimate = parzen_log_likelihood(
        ends, middle, validation=middle, sigmas=kind([0.25, 0.9, 1.0, 1.1, 4.0])
    )
    assert estimate.sigma == 1.0
    assert estimate.mean == pytest.approx(-0.5 * math.log(2 * math.pi) - 0.5)


def test_the_width_may_be_a_tensor():
    samples, data = sets(0)
    estimate = parzen_log_likelihood(samples, data, sigma=torch.tensor(0.25))
    assert estimate == parzen_log_likelihood(samples, data, sigma=0.25)


def test_the_error_of_one_datum_is_infinite():
    estimate = parzen_log_likelihood(draw(5, 2, 0), draw(1, 2, 1), sigma=1.0)
    assert math.isfinite(estimate.mean)
    assert estimate.standard_error == math.inf


def test_parzen_far_from_all_samples_does_not_underflow():
    far = torch.tensor([[1e4]])
    value = parzen_log_likelihood(torch.zeros(3, 1), far, sigma=0.1).mean
    assert value == pytest.approx(-(1e8) / 0.02 - math.log(0.1) - 0.5 * math.log(2 * math.pi))


def test_parzen_reads_samples_of_any_shape():
    images, data = torch.rand(9, 1, 4, 4), torch.rand(7, 1, 4, 4)
    expected = parzen_log_likelihood(images.flatten(1), data.flatten(1), sigma=0.5)
    assert parzen_log_likelihood(images, data, sigma=0.5) == expected
    assert parzen_log_likelihood(images, data.flatten(1), sigma=0.5) == expected
    column = parzen_log_likelihood(images[:, :, 0, 0], data[:, :, 0, 0], sigma=0.5)
    assert parzen_log_likelihood(images[:, 0, 0, 0], data[:, 0, 0, 0], sigma=0.5) == column


# -- Frechet ---------------------------------------------------------------------------------------


def frechet_of_scipy(real: Tensor, fake: Tensor) -> float:
    a, b = real.double().numpy(), fake.double().numpy()
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(c1 @ c2).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * root))


class AsTheyAre(nn.Module):
    """Features that stand in for images, for torchmetrics' metrics."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, images: Tensor) -> Tensor:
        return images


def by_torchmetrics(metric: Any, real: Tensor, fake: Tensor) -> Any:
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric.compute()


@seeds
@dtypes
@pytest.mark.parametrize("features", [2, 6, 20])
def test_the_frechet_distance_is_that_of_scipys_matrix_root(seed, dtype, features):
    real, fake = (points.to(dtype) for points in sets(seed, features=features))
    expected = frechet_of_scipy(real, fake)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-8)


@seeds
def test_the_frechet_distance_is_torchmetrics_fid(seed):
    real, fake = (points.float() for points in sets(seed))
    metric = FrechetInceptionDistance(feature=AsTheyAre(6))
    expected = by_torchmetrics(metric, real, fake).item()
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-4)


@seeds
@pytest.mark.filterwarnings("ignore:Matrix is singular")  # of SciPy's root, which is less exact
@pytest.mark.parametrize("samples", [2, 5, 12], ids=lambda n: f"{n}-samples")
def test_the_frechet_distance_is_exact_for_fewer_samples_than_features(seed, samples):
    """By the nuclear norm of the cross products, which needs no root of a singular matrix."""
    real, fake = sets(seed, n=samples, m=samples + 3, features=40)
    a, b = real - real.mean(0), fake - fake.mean(0)
    a, b = a / (len(a) - 1) ** 0.5, b / (len(b) - 1) ** 0.5
    cross = np.linalg.svd((a @ b.T).numpy(), compute_uv=False).sum()
    expected = (real.mean(0) - fake.mean(0)).square().sum() + a.square().sum() + b.square().sum()
    assert frechet_distance(real, fake) == pytest.approx(expected.item() - 2 * cross, rel=1e-10)
    assert frechet_distance(real, fake) == pytest.approx(frechet_of_scipy(real, fake), rel=1e-5)


def test_the_frechet_distance_of_commuting_gaussians_has_its_closed_form():
    """Diagonal covariances: sum (s1 - s2)^2 over the axes, and the means' distance."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=F64)] * 3)
    unbiased = (7 / 8) ** 0.5
    first = corners * torch.tensor([1.0, 2.0, 0.0]) * unbiased
    second = corners * torch.tensor([3.0, 2.0, 0.5]) * unbiased + torch.tensor([0.0, 4.0, 0.0])
    assert frechet_distance(first, second) == pytest.approx(4 + 0 + 0.25 + 16)


@pytest.mark.parametrize("shape", [(50, 6), (6, 50), (2, 3), (30, 1)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_frechet_distance_of_a_set_to_itself_is_0_and_never_negative(shape, offset):
    points = draw(*shape, 0, shift=offset)
    assert 0 <= frechet_distance(points, points) < 1e-10
    assert 0 <= frechet_distance(points, points.flip(0)) < 1e-10
    constant = torch.ones(4, 3)
    assert frechet_distance(constant, constant) == 0


def test_the_frechet_distance_of_shifted_points_is_the_shift():
    points = draw(10, 30, 1)
    assert frechet_distance(points, points + 2) == pytest.approx(30 * 4)


# -- kernel distance -------------------------------------------------------------------------------


@seeds
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_kernel_distance_is_its_sum_over_pairs(seed, degree):
    real, fake = (points.tolist() for points in sets(seed, n=9, m=7, features=3))

    def k(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / 3 + 1) ** degree

    def within(xs):
        pairs = [(x, y) for i, x in enumerate(xs) for j, y in enumerate(xs) if i != j]
        return sum(k(x, y) for x, y in pairs) / len(pairs)

    between = sum(k(x, y) for x in real for y in fake) / (len(real) * len(fake))
    expected = within(real) + within(fake) - 2 * between
    value = kernel_distance(*(torch.tensor(x, dtype=F64) for x in (real, fake)), degree=degree)
    assert value == pytest.approx(expected, rel=1e-9)


@seeds
def test_the_kernel_distance_is_torchmetrics_kid_of_one_whole_subset(seed):
    real, fake = (points.float() for points in sets(seed, n=60, m=60))
    with pytest.warns(UserWarning, match="will save all extracted features"):
        metric = KernelInceptionDistance(feature=AsTheyAre(6), subsets=1, subset_size=60)
    expected = by_torchmetrics(metric, real, fake)[0].item()
    assert kernel_distance(real, fake) == pytest.approx(expected, rel=1e-4)


def test_the_kernel_distance_is_unbiased():
    """Over many pairs of small sets of one distribution its mean is 0, and it takes both signs."""
    rng = torch.Generator().manual_seed(0)
    values = torch.tensor(
        [kernel_distance(*torch.randn(2, 10, 2, generator=rng)) for _ in range(400)]
    )
    assert abs(values.mean()) < 3 * values.std() / 20
    assert values.min() < 0 < values.max()


# -- precision, recall, density, coverage ----------------------------------------------------------


def radii_of_scikit_learn(points: Tensor, k: int) -> np.ndarray:
    return NearestNeighbors(n_neighbors=k).fit(points.numpy()).kneighbors()[0][:, -1]


@seeds
@dtypes
@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_recall_density_coverage_are_those_of_whole_matrices(seed, dtype, k):
    real, fake = (points.to(dtype) for points in sets(seed))
    between = cdist(fake.double().numpy(), real.double().numpy())
    real_radii, fake_radii = (radii_of_scikit_learn(x.double(), k) for x in (real, fake))
    in_real = between <= real_radii
    precision, recall = precision_recall(real, fake, k=k)
    assert precision == pytest.approx(in_real.any(1).mean())
    assert recall == pytest.approx((between <= fake_radii[:, None]).any(0).mean())
    density, coverage = density_coverage(real, fake, k=k)
    assert density == pytest.approx(in_real.sum(0).sum() / (k * len(fake)))
    assert coverage == pytest.approx(in_real.any(0).mean())
    assert 0 < precision < 1
    assert 0 < coverage < 1


def test_the_defaults_are_those_of_the_papers():
    real, fake = sets(0)
    assert precision_recall(real, fake) == precision_recall(real, fake, k=3)
    assert density_coverage(real, fake) == density_coverage(real, fake, k=5)


@seeds
@dtypes
@pytest.mark.parametrize("features", [1, 30])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_of_identical_sets_all_four_are_1(seed, dtype, features, offset):
    """Each sample's k-th neighbour is just on its ball's border: rounding must not decide."""
    points = draw(80, features, seed, shift=offset).to(dtype)
    assert precision_recall(points, points.flip(0)) == (1.0, 1.0)
    assert density_coverage(points, points.flip(0)) == (1.0, 1.0)


def test_copies_of_one_sample_are_on_the_manifold_that_they_are_copied_from():
    real = draw(30, 4, 0)
    fake = real[3:4].repeat(12, 1)
    precision, recall = precision_recall(real, fake)
    assert precision == 1
    assert recall == pytest.approx(1 / 30)
    collapsed = precision_recall(fake, fake.clone())
    assert collapsed == (1.0, 1.0)


@pytest.mark.parametrize(("copies", "covered"), [(5, 85), (6, 80)])
def test_the_balls_of_more_than_k_samples_that_coincide_are_empty(copies, covered):
    points = torch.cat([draw(80, 4, 0), draw(1, 4, 1).repeat(copies, 1)])
    coverage = density_coverage(points, points.flip(0), k=5).coverage
    assert coverage == pytest.approx(covered / len(points))
    same = points[-1:].repeat(12, 1)
    assert density_coverage(same, same.clone(), k=5) == (0.0, 0.0)


def test_sets_far_apart_share_nothing():
    real, fake = draw(30, 4, 0), draw(40, 4, 1, shift=1e3)
    assert precision_recall(real, fake) == (0.0, 0.0)
    assert density_coverage(real, fake) == (0.0, 0.0)


def test_an_outlier_raises_precision_but_not_density():
    """The example of Naeem et al.: its ball holds nearly all fakes, which count once in density."""
    real = torch.cat([draw(60, 3, 0, scale=0.1), torch.full((1, 3), 50.0, dtype=F64)])
    fake = draw(60, 3, 1, shift=40.0, scale=0.1)
    assert precision_recall(real, fake).precision == 1
    assert density_coverage(real, fake).density == pytest.approx(1 / 5)
    assert density_coverage(real, fake).coverage == pytest.approx(1 / 61)


def test_coverage_and_density_of_one_distribution_have_their_expectations():
    """1 for density, 1 - prod (N - i) / (2N - i) over i = 1..k for coverage, in any dimension."""
    n, k = 40, 3
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    rng = torch.Generator().manual_seed(5)
    runs = [
        density_coverage(*torch.randn(2, n, 2, generator=rng, dtype=F64), k=k) for _ in range(200)
    ]
    values = torch.tensor(runs)
    error = 4 * values.std(0) / len(runs) ** 0.5
    assert abs(values[:, 0].mean() - 1) < error[0]
    assert abs(values[:, 1].mean() - expected) < error[1]


# -- modes -----------------------------------------------------------------------------------------


@seeds
def test_the_divergence_of_modes_is_that_of_scipy(seed):
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.ones(12))
    modes = rng.integers(0, 12, 90)
    shares = np.bincount(modes, minlength=12) / 90
    coverage = mode_coverage(torch.from_numpy(modes), torch.from_numpy(truth))
    assert coverage.kl == pytest.approx(rel_entr(shares, truth).sum(), rel=1e-9)
    assert coverage.found == (shares > 0).sum()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
def test_half_of_equal_modes_are_log_2_away(dtype):
    modes = torch.arange(500, dtype=torch.int64) % 50
    found, kl = mode_coverage(modes.to(dtype), 100)
    assert found == 50
    assert kl == pytest.approx(math.log(2))


def test_all_modes_in_their_proportions_are_0_away():
    modes = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2])
    truth = torch.tensor([0.125, 0.25, 0.625])
    assert mode_coverage(modes, truth) == (3, 0.0)


def test_a_mode_is_found_with_the_minimum_of_samples():
    modes = torch.tensor([0, 0, 0, 1, 1, 2])
    assert [mode_coverage(modes, 5, minimum=n).found for n in (1, 2, 3, 4)] == [3, 2, 1, 0]


def test_samples_of_no_mode_count_nowhere():
    with_none = torch.tensor([-1, 0, -1, 1, 1, -1])
    assert mode_coverage(with_none, 2) == mode_coverage(torch.tensor([0, 1, 1]), 2)
    assert mode_coverage(torch.tensor([-1, -1]), 2) == (0, math.inf)


def test_a_mode_that_the_data_does_not_have_is_not_found_and_infinitely_far():
    assert mode_coverage(torch.tensor([0, 1]), torch.tensor([1.0, 0.0])) == (1, math.inf)


# -- neighbours ------------------------------------------------------------------------------------


@seeds
@dtypes
@pytest.mark.parametrize("k", [1, 4, 55])
def test_neighbours_are_those_of_scikit_learn(seed, dtype, k):
    samples, data = (points.to(dtype) for points in sets(seed))
    model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(data.double().numpy())
    distances_, indices = model.kneighbors(samples.double().numpy())
    found = nearest_neighbours(samples, data, k=k)
    assert found.distances.shape == found.indices.shape == (70, k)
    assert found.distances.dtype == dtype
    assert found.indices.dtype == torch.int64
    np.testing.assert_array_equal(found.indices.numpy(), indices)
    np.testing.assert_allclose(found.distances, distances_, rtol=1e-6 if dtype != F64 else 1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e3])
@dtypes
def test_an_exact_copy_is_at_distance_0_and_a_near_one_is_not(dtype, offset):
    data = torch.rand(40, 1, 28, 28, dtype=dtype) + offset
    samples = data.flip(0).clone()
    samples[0, 0, 0, 0] += 0.01
    found = nearest_neighbours(samples, data)
    assert found.distances[0].item() == pytest.approx(0.01, rel=0.01)
    assert (found.distances[1:] == 0).all()
    assert found.indices[:, 0].tolist() == list(range(39, -1, -1))


def test_half_precision_is_read_exactly_and_answered_in_float32():
    samples, data = torch.randn(5, 3).half(), torch.randn(9, 3).half()
    found = nearest_neighbours(samples, data)
    assert found.distances.dtype == torch.float32
    expected = cdist(samples.double().numpy(), data.double().numpy()).min(1, keepdims=True)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-6)


# -- features --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 500])
def test_features_are_those_of_the_network_in_eval_mode(batch_size):
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5))
    network[1].running_mean.fill_(2.0)
    network[2].eval()
    images = torch.rand(7, 1, 5, 5)
    modes = [module.training for module in network.modules()]
    features = extract_features(network, images, batch_size=batch_size)
    assert [module.training for module in network.modules()] == modes
    assert not features.requires_grad
    expected = (network[0](images) - 2) / (1 + network[1].eps) ** 0.5
    torch.testing.assert_close(features, expected.detach().flatten(1))


def test_no_more_than_the_batch_goes_through_at_once():
    sizes = []
    network = nn.Flatten()
    network.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    extract_features(network, torch.zeros(7, 2), batch_size=3)
    assert sizes == [3, 3, 1]


def test_features_take_the_dtype_of_the_network_and_leave_integers_alone():
    assert extract_features(nn.Linear(2, 3).double(), torch.ones(4, 2)).dtype == F64
    assert extract_features(nn.Embedding(9, 3), torch.tensor([[1, 2], [3, 4]])).shape == (2, 6)
    one = extract_features(nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), torch.ones(4, 2))
    assert one.shape == (4, 1)


def test_modes_are_put_back_after_an_error():
    network = nn.Sequential(nn.Linear(3, 1), nn.Dropout())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        extract_features(network, torch.ones(2, 5))
    assert all(module.training for module in network.modules())
