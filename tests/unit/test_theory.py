"""Theory compared with closed forms and with SciPy's quadrature and distributions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special, stats
from scipy.spatial.distance import jensenshannon
from torch.distributions import (
    Categorical,
    Exponential,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Poisson,
    Uniform,
)

from vanillagan import optimal_discriminator
from vanillagan.theory import (
    GLOBAL_MINIMUM,
    density_ratio,
    jensen_shannon_divergence,
    kl_divergence,
    value_function,
    virtual_criterion,
)

DIVERGENCES = [kl_divergence, jensen_shannon_divergence, virtual_criterion]
every_divergence = pytest.mark.parametrize("divergence", DIVERGENCES)


def float64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def warn_always() -> Iterator[None]:
    """Give each warning every time; PyTorch gives some of them once in a process."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


# -- D* of values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_data", "p_g", "best"),
    [(0.3, 0.1, 0.75), (1, 3, 0.25), (0.2, 0.2, 0.5), (5.0, 0.0, 1.0), (0.0, 1e-300, 0.0)],
)
def test_numbers_give_a_float(p_data, p_g, best):
    d = optimal_discriminator(p_data, p_g)
    assert type(d) is float
    assert d == pytest.approx(best)


@pytest.mark.parametrize("p_data", [0.01, 0.4, 3.0])
@pytest.mark.parametrize("p_g", [0.05, 0.4, 1.7])
def test_d_star_maximizes_the_value_at_a_point(p_data, p_g):
    """D* maximizes p_data log D + p_g log(1 - D) (proof of Proposition 1)."""
    found = optimize.minimize_scalar(
        lambda d: -(p_data * math.log(d) + p_g * math.log1p(-d)),
        bounds=(1e-9, 1 - 1e-9),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert optimal_discriminator(p_data, p_g) == pytest.approx(found.x, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_give_an_array_of_their_dtype(dtype):
    d = optimal_discriminator(np.array([0.3, 0.0, 2.0], dtype), np.array([0.1, 1.0, 2.0], dtype))
    assert isinstance(d, np.ndarray)
    assert d.dtype == dtype
    np.testing.assert_allclose(d, [0.75, 0, 0.5], rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_tensors_give_a_tensor_of_their_dtype(dtype):
    d = optimal_discriminator(
        torch.tensor([0.75, 0.0, 2.0], dtype=dtype), torch.tensor([0.25, 1.0, 2.0], dtype=dtype)
    )
    torch.testing.assert_close(d, torch.tensor([0.75, 0.0, 0.5], dtype=dtype))


def test_a_number_adopts_the_dtype_of_the_other_values():
    assert optimal_discriminator(torch.tensor([0.3]), 0.1).dtype == torch.float32
    assert optimal_discriminator(0.1, np.array([0.3], np.float32)).dtype == np.float32


def test_integers_count_as_densities():
    np.testing.assert_array_equal(
        optimal_discriminator(np.array([1, 2]), np.array([3, 2])), [0.25, 0.5]
    )
    assert optimal_discriminator(torch.tensor([1, 2]), torch.tensor([3, 2])).tolist() == [0.25, 0.5]


@pytest.mark.parametrize("kind", [np.ones, torch.ones])
@pytest.mark.parametrize(
    ("one", "other", "joint"),
    [((3,), (3,), (3,)), ((4, 1), (3,), (4, 3)), ((2, 3), (), (2, 3)), ((0,), (0,), (0,))],
)
def test_shapes_broadcast(kind, one, other, joint):
    assert optimal_discriminator(kind(one), kind(other)).shape == joint
    assert optimal_discriminator(kind(other), kind(one)).shape == joint


@pytest.mark.parametrize("view", ["reversed", "read-only", "strided", "big-endian"])
def test_any_layout_of_an_array_is_read(view):
    p = np.array([0.1, 0.2, 0.3, 0.4])
    views = {
        "reversed": p[::-1],
        "read-only": np.broadcast_to(0.25, (4,)),
        "strided": np.repeat(p, 2)[1::2],
        "big-endian": p.astype(">f8"),
    }
    q = views[view]
    np.testing.assert_allclose(optimal_discriminator(q, p), q / (q + p))
    np.testing.assert_allclose(kl_divergence(p, q), stats.entropy(p, q))


@pytest.mark.parametrize("kind", [float, np.float32, np.float64, torch.tensor])
def test_densities_may_overflow_in_their_sum(kind):
    most = 3e38 if kind in (np.float32, torch.tensor) else 1.5e308
    assert float(optimal_discriminator(kind(most), kind(most))) == 0.5
    assert float(optimal_discriminator(kind(most), kind(most / 3))) == pytest.approx(0.75)
    assert float(optimal_discriminator(kind(1.0), kind(math.inf))) == 0
    least = torch.tensor(5e-324, dtype=torch.float64)
    assert float(optimal_discriminator(least, least)) == 0.5


@pytest.mark.parametrize("zero", [0.0, np.zeros(3), torch.zeros(3)], ids=lambda v: type(v).__name__)
def test_d_star_is_nan_where_both_densities_are_0(zero):
    assert torch.as_tensor(optimal_discriminator(zero, zero)).isnan().all()


def test_d_star_is_certain_where_one_density_is_0():
    d = optimal_discriminator(np.array([0.2, 0.0]), np.array([0.0, 1e-320]))
    assert d.tolist() == [1, 0]


def test_the_arguments_are_not_changed():
    p, q = np.array([0.3, 0.2]), np.array([0.1, 0.4])
    optimal_discriminator(p, q)
    assert p.tolist() == [0.3, 0.2]
    assert q.tolist() == [0.1, 0.4]


def test_the_gradient_flows_through_tensors():
    p, q = float64(0.3, 1.2).requires_grad_(), float64(0.1, 0.4).requires_grad_()
    assert torch.autograd.gradcheck(optimal_discriminator, (p, q))
    optimal_discriminator(p, q).sum().backward()
    torch.testing.assert_close(p.grad, float64(0.1 / 0.4**2, 0.4 / 1.6**2))


@pytest.mark.usefixtures("warn_always")
@pytest.mark.parametrize(
    ("p_data", "p_g", "error", "message"),
    [
        (-0.1, 0.2, ValueError, "`p_data` must be at least 0, got -0.1"),
        (np.array([0.1]), np.array([-2.0]), ValueError, "`p_g` must be at least 0, got -2"),
        (torch.tensor([-1.0]).requires_grad_(), 1.0, ValueError, "`p_data` must be at least 0"),
        (torch.ones(2), torch.ones(3), ValueError, r"must have shapes.*, got \(2,\) and \(3,\)"),
        (np.ones((2, 3)), np.ones((3, 2)), ValueError, "`p_data` and `p_g` must have shapes that"),
        ([0.1], [0.2], TypeError, "`p_data` must be a number, .* got list"),
        (0.1, "0.2", TypeError, "`p_g` must be a number, .* got str"),
        (0.1, None, TypeError, "`p_g` must be a number, .* got NoneType"),
        (math.exp, 0.2, TypeError, "`p_data` must be"),
        (Normal(0.0, 1.0), math.exp, TypeError, "`p_data` must be"),
        (Normal(0.0, 1.0), 0.2, TypeError, "`p_data` must be"),
    ],
)
def test_invalid_densities_are_named(p_data, p_g, error, message):
    with pytest.raises(error, match=message):
        optimal_discriminator(p_data, p_g)


# -- D* of callables and distributions -------------------------------------------------------------


@pytest.mark.parametrize("x", [1.5, np.linspace(-3, 5, 9)], ids=["number", "array"])
def test_callables_give_a_callable(x):
    one, other = stats.norm(0, 1), stats.norm(2, 0.5)
    best = optimal_discriminator(one.pdf, other.pdf)
    np.testing.assert_allclose(best(x), one.pdf(x) / (one.pdf(x) + other.pdf(x)))


def test_callables_may_return_tensors():
    best = optimal_discriminator(lambda x: x, lambda x: 3 * x)
    torch.testing.assert_close(best(torch.tensor([1.0, 2.0])), torch.tensor([0.25, 0.25]))


def test_a_negative_density_of_a_callable_is_an_error():
    best = optimal_discriminator(lambda x: x, lambda x: x)
    with pytest.raises(ValueError, match="`p_data` must be at least 0, got -1"):
        best(-1.0)


def test_distributions_agree_with_scipy_s_densities():
    x = np.linspace(-4, 6, 21)
    p, q = stats.norm(0, 1).pdf(x), stats.norm(2, 0.5).pdf(x)
    best = optimal_discriminator(Normal(*float64(0, 1)), Normal(*float64(2, 0.5)))
    np.testing.assert_allclose(best(torch.from_numpy(x)).numpy(), p / (p + q), rtol=1e-9)


def test_d_star_is_exact_where_densities_underflow():
    best = optimal_discriminator(Normal(*float64(0, 1)), Normal(*float64(1, 1)))
    x = np.array([-300.0, -60.0, 60.0, 300.0])
    assert (stats.norm(0, 1).pdf(x) == 0).all()
    np.testing.assert_allclose(best(torch.from_numpy(x)), special.expit(0.5 - x), rtol=1e-9)


def test_d_star_outside_of_the_supports():
    best = optimal_discriminator(Uniform(0.0, 2.0), Uniform(1.0, 5.0))
    d = best(torch.tensor([-1.0, 0.5, 1.5, 4.0, 9.0]))
    expected = torch.tensor([math.nan, 1.0, 0.5 / (0.5 + 0.25), 0.0, math.nan])
    torch.testing.assert_close(d, expected, equal_nan=True)


def test_supports_may_be_of_different_types():
    best = optimal_discriminator(Exponential(1.0), Normal(0.0, 1.0))
    p, q = stats.expon.pdf(1), stats.norm.pdf(1)
    assert best(torch.tensor([-1.0, 1.0])).tolist() == pytest.approx([0, p / (p + q)])


@pytest.mark.parametrize("points", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("weights", [torch.float32, torch.float64], ids=str)
def test_points_and_parameters_may_differ_in_precision(points, weights):
    edges = torch.tensor([0.0, 2.0], dtype=weights), torch.tensor([1.0, 5.0], dtype=weights)
    best = optimal_discriminator(*(Uniform(*pair) for pair in edges))
    d = best(torch.tensor([0.5, 1.5, 4.0], dtype=points))
    assert d.tolist() == pytest.approx([1, 2 / 3, 0])


def test_points_may_be_numbers_and_arrays():
    best = optimal_discriminator(Normal(0.0, 1.0), Normal(2.0, 1.0))
    assert float(best(1.0)) == pytest.approx(0.5)
    assert best(np.array([1.0, 1.0])).tolist() == pytest.approx([0.5, 0.5])


def test_discrete_distributions_outside_of_a_support():
    best = optimal_discriminator(Poisson(3.0), Categorical(torch.ones(4)))
    p, q = stats.poisson(3).pmf(np.arange(6)), np.array([0.25] * 4 + [0.0] * 2)
    np.testing.assert_allclose(best(torch.arange(6)), p / (p + q), rtol=1e-5)


def test_points_may_be_integers():
    best = optimal_discriminator(Uniform(0.0, 2.0), Uniform(1.0, 3.0))
    assert best(torch.tensor([1])).tolist() == [0.5]
    assert best(torch.tensor([0, 1])).tolist() == [1, 0.5]


def test_batches_of_distributions_outside_of_a_support():
    data = Uniform(torch.zeros(3), torch.tensor([1.0, 2.0, 4.0]))
    best = optimal_discriminator(data, Uniform(torch.zeros(3), torch.full((3,), 4.0)))
    assert best(torch.tensor([1.5, 1.5, 1.5])).tolist() == pytest.approx([0, 2 / 3, 0.5])
    assert best(torch.tensor([[0.5], [1.5]])).tolist() == [
        pytest.approx([0.8, 2 / 3, 0.5]),
        pytest.approx([0, 2 / 3, 0.5]),
    ]


def test_distributions_may_be_of_vectors():
    square = Independent(Uniform(torch.zeros(2), torch.ones(2)), 1)
    best = optimal_discriminator(square, MultivariateNormal(torch.ones(2), torch.eye(2)))
    density = stats.multivariate_normal([1, 1]).pdf([0.5, 0.5])
    d = best(torch.tensor([[0.5, 0.5], [0.5, 2.0]]))
    assert d.tolist() == pytest.approx([1 / (1 + density), 0])


def test_distributions_may_be_mixtures():
    means, x = np.array([-2.0, 2.0]), np.array([-2.0, 0.0, 7.0])
    ring = MixtureSameFamily(Categorical(torch.ones(2)), Normal(torch.tensor(means), 0.5))
    p = stats.norm(means, 0.5).pdf(x[:, None]).mean(1)
    q = stats.norm(0, 1).pdf(x)
    best = optimal_discriminator(ring, Normal(*float64(0, 1)))
    np.testing.assert_allclose(best(torch.from_numpy(x)), p / (p + q), rtol=1e-6)


def test_the_gradient_flows_through_points_and_parameters():
    x, mean = float64(0.3, 2.0).requires_grad_(), float64(1.0).requires_grad_()

    def best(x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        return optimal_discriminator(Normal(*float64(0, 1)), Normal(mean, 1.0))(x)

    assert torch.autograd.gradcheck(best, (x, mean))


# -- V(D, G) ---------------------------------------------------------------------------------------


def test_the_global_minimum_is_minus_log_4():
    assert pytest.approx(-1.3862943611198906, abs=1e-16) == GLOBAL_MINIMUM


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_the_value_is_a_mean_of_logarithms(kind):
    value = value_function(kind([0.9, 0.6]), kind([0.2, 0.1, 0.4]))
    expected = math.log(0.9 * 0.6) / 2 + math.log(0.8 * 0.9 * 0.6) / 3
    assert float(value) == pytest.approx(expected, rel=1e-6)


def test_the_value_has_the_type_of_the_arguments():
    assert value_function(0.5, 0.5) == pytest.approx(-math.log(4))
    assert value_function(torch.full((4, 2), 0.5), torch.full((3,), 0.5)).shape == ()


def test_the_value_of_wrong_certainty_is_infinite():
    assert value_function(0.0, 0.5) == value_function(0.5, 1.0) == -math.inf
    assert value_function(1.0, 0.0) == 0


def test_the_value_keeps_small_probabilities_of_fakes():
    assert value_function(1.0, 1e-18) == pytest.approx(-1e-18, rel=1e-12, abs=0)


def test_the_gradient_flows_through_the_value():
    real, fake = float64(0.9, 0.6).requires_grad_(), float64(0.2, 0.1, 0.4).requires_grad_()
    assert torch.autograd.gradcheck(value_function, (real, fake))


@pytest.mark.usefixtures("warn_always")
@pytest.mark.parametrize(
    ("d_real", "d_fake", "error", "message"),
    [
        (1.5, 0.5, ValueError, r"`d_real` must be probabilities in \[0, 1\], got 1.5"),
        (0.5, np.array([2.0]), ValueError, r"`d_fake` must be probabilities in \[0, 1\], got 2"),
        (torch.tensor([3.0]).requires_grad_(), 0.5, ValueError, "`d_real` must be probabilities"),
        (-0.5, 0.5, ValueError, "`d_real` must be .*, got -0.5"),
        ([0.5], 0.5, TypeError, "`d_real` must be .*, got list"),
    ],
)
def test_invalid_probabilities_are_named(d_real, d_fake, error, message):
    with pytest.raises(error, match=message):
        value_function(d_real, d_fake)


# -- divergences and C(G) --------------------------------------------------------------------------


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Return 200 pairs of distributions over 6 outcomes, many of them close to 0 somewhere."""
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.full(6, 0.3), 200), rng.dirichlet(np.full(6, 0.3), 200)


def test_divergences_of_probabilities_agree_with_scipy(pairs):
    p, q = pairs
    np.testing.assert_allclose(kl_divergence(p, q), stats.entropy(p, q, axis=1), rtol=1e-9)
    np.testing.assert_allclose(
        jensen_shannon_divergence(p, q), jensenshannon(p, q, axis=1) ** 2, atol=1e-12
    )


def test_theorem_1_the_minimum_is_at_the_data_alone(pairs):
    p_data, p_g = pairs
    assert (virtual_criterion(p_data, p_g) > -math.log(4) + 1e-6).all()
    assert virtual_criterion(p_data, p_data) == pytest.approx(np.full(200, -math.log(4)), abs=1e-15)


def test_the_criterion_is_the_value_of_d_star(pairs):
    p, q = pairs
    best = p / (p + q)
    value = (special.xlogy(p, best) + special.xlog1py(q, -best)).sum(1)
    np.testing.assert_allclose(virtual_criterion(p, q), value, rtol=1e-9)


def test_no_discriminator_exceeds_the_criterion(pairs):
    p, q = pairs
    other = np.random.default_rng(1).uniform(size=p.shape)
    value = (p * np.log(other) + q * np.log1p(-other)).sum(1)
    assert (value <= virtual_criterion(p, q)).all()


@pytest.mark.parametrize(
    ("p_data", "p_g"),
    [
        (stats.norm(0, 1), stats.norm(1, 1)),
        (stats.norm(0, 1), stats.norm(0, 2.5)),
        (stats.norm(-2, 0.5), stats.laplace(2, 1)),
    ],
)
def test_the_criterion_agrees_with_quadrature(p_data, p_g):
    def integrand(x: float) -> float:
        p, q = p_data.pdf(x), p_g.pdf(x)
        return special.xlogy(p, p / (p + q)) + special.xlogy(q, q / (p + q))

    expected = integrate.quad(integrand, -15, 15, points=[-2, 0, 2], limit=200)[0]
    x = np.linspace(-15, 15, 6001)
    found = virtual_criterion(p_data.pdf(x), p_g.pdf(x), dx=x[1] - x[0])
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("mean", "deviation"), [(1.0, 1.0), (0.0, 2.0), (-2.0, 0.7)])
def test_kl_of_normal_densities_has_its_closed_form(mean, deviation):
    x, dx = np.linspace(-12, 12, 8001, retstep=True)
    p, q = stats.norm(0, 1).pdf(x), stats.norm(mean, deviation).pdf(x)
    expected = math.log(deviation) + (1 + mean**2) / (2 * deviation**2) - 0.5
    assert kl_divergence(p, q, dx=dx) == pytest.approx(expected)


def test_dx_may_be_the_weight_of_each_point():
    x, weights = np.polynomial.legendre.leggauss(40)
    # KL(1/2 || (2 + x) / 4) over [-1, 1] is log 2 - (3 log 3 - 2) / 2
    expected = math.log(2) - (3 * math.log(3) - 2) / 2
    assert kl_divergence(np.full(40, 0.5), (2 + x) / 4, dx=weights) == pytest.approx(expected)


def test_disjoint_distributions_have_extreme_values():
    p, q = np.array([0.4, 0.6, 0.0, 0.0]), np.array([0.0, 0.0, 0.9, 0.1])
    assert jensen_shannon_divergence(p, q) == pytest.approx(math.log(2))
    assert virtual_criterion(p, q) == pytest.approx(0, abs=1e-15)
    assert kl_divergence(p, q) == math.inf


def test_kl_is_infinite_only_where_q_is_zero_and_p_is_not():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
    assert kl_divergence(p, q) == pytest.approx(math.log(2))
    assert kl_divergence(q, p) == math.inf


@pytest.mark.parametrize(("dtype", "tiny"), [(torch.float32, 1e-39), (torch.float64, 1e-310)])
def test_kl_is_finite_where_q_is_tiny(dtype, tiny):
    p = torch.tensor([0.5, 0.5], dtype=dtype)
    q = torch.tensor([tiny, 1.0], dtype=dtype)
    expected = math.log(0.5) - math.log(tiny) / 2
    assert kl_divergence(p, q).item() == pytest.approx(expected, rel=1e-5)


def test_jsd_is_symmetric_and_kl_is_not(pairs):
    p, q = pairs
    np.testing.assert_allclose(
        jensen_shannon_divergence(p, q), jensen_shannon_divergence(q, p), atol=1e-15
    )
    assert not np.allclose(kl_divergence(p, q), kl_divergence(q, p))


@every_divergence
def test_a_divergence_keeps_the_type_and_batch_shape(divergence):
    p, q = np.full((2, 3, 4), 0.25, np.float32), np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    of_arrays = divergence(p, q)
    assert of_arrays.shape == (2, 3)
    assert of_arrays.dtype == np.float32
    of_tensors = divergence(torch.from_numpy(p), torch.from_numpy(q))
    assert of_tensors.dtype == torch.float32
    np.testing.assert_array_equal(of_tensors.numpy(), of_arrays)
    assert isinstance(divergence(q, q), float)


@pytest.mark.usefixtures("warn_always")
@every_divergence
def test_the_gradient_flows_through_a_divergence(divergence):
    logits = float64(0.1, -0.4, 0.9, 0.0).requires_grad_()
    p = float64(0.4, 0.3, 0.2, 0.1)
    assert torch.autograd.gradcheck(lambda z: divergence(p, z.softmax(0)), logits)


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True")
@every_divergence
def test_the_gradient_is_finite_where_the_data_has_no_mass(divergence):
    logits = float64(0.1, -0.4, 0.9, 0.0).requires_grad_()
    p = float64(0.5, 0.5, 0.0, 0.0)
    assert torch.autograd.gradcheck(lambda z: divergence(p, z.softmax(0)), logits)


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True")
def test_the_gradient_of_kl_in_logits_is_q_minus_p():
    logits = float64(0.1, -0.4, 0.9, 0.0).requires_grad_()
    p = float64(0.4, 0.3, 0.2, 0.1)
    kl_divergence(p, logits.softmax(0)).backward()
    torch.testing.assert_close(logits.grad, logits.detach().softmax(0) - p)


@every_divergence
@pytest.mark.parametrize(
    ("p", "q", "error", "message"),
    [
        ([1.5, -0.5], [0.5, 0.5], ValueError, "must be at least 0, got -0.5"),
        ([0.5, 0.5], [0.5, 0.6], ValueError, "must have a total of 1 .* off by 0.1"),
        ([0.5, math.nan], [0.5, 0.5], ValueError, "must be at least 0, got nan"),
        ([0.5, 0.5], [0.2, 0.3, 0.5], ValueError, r"must have shapes that broadcast, got \(2,\)"),
        (1.0, 1.0, ValueError, "must have at least one dimension, got a number"),
    ],
)
def test_invalid_distributions_are_named(divergence, p, q, error, message):
    with pytest.raises(error, match=f"^`(p|q|p_data|p_g)` .*{message}"):
        divergence(np.array(p), np.array(q))
    with pytest.raises(TypeError, match="must be a number, a NumPy array or a tensor"):
        divergence("p", "q")


@every_divergence
@pytest.mark.parametrize("dx", [np.ones(3), np.ones((1, 2)), math.nan])
def test_an_invalid_weight_is_named(divergence, dx):
    with pytest.raises(ValueError, match="`dx`"):
        divergence(np.full(2, 0.5), np.full(2, 0.5), dx=dx)


# -- density ratio ---------------------------------------------------------------------------------


def test_the_density_ratio_of_an_optimal_logit():
    x = np.linspace(-3, 3, 7)
    p, q = stats.norm(0, 1).pdf(x), stats.norm(1, 1).pdf(x)
    np.testing.assert_allclose(density_ratio(special.logit(p / (p + q))), p / q)


def test_the_density_ratio_keeps_type_dtype_and_shape():
    assert density_ratio(math.log(3)) == pytest.approx(3)
    assert density_ratio(np.zeros((2, 3), np.float32)).dtype == np.float32
    ratio = density_ratio(torch.zeros(2, 3, dtype=torch.float64))
    assert torch.equal(ratio, torch.ones(2, 3, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"`logits` must be .*, got str"):
        density_ratio("0")
