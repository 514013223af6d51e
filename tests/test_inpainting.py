"""Repair of images: blending, the search for latents, inpainting, damage that is no mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vanillagan import ConvGenerator, Discriminator, Generator
from vanillagan.applications.blending import as_mask, blend
from vanillagan.applications.inpainting import context_weights, inpaint, restore
from vanillagan.applications.latent_search import LatentSearch
from vanillagan.data import uniform_latent

SHAPE = (1, 8, 8)


@pytest.fixture
def box() -> Tensor:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:6, 2:6] = True
    return mask


# -- masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.int64, torch.uint8])
@pytest.mark.parametrize("dims", [2, 3, 4])
def test_a_mask_is_one_for_all_images_in_any_dtype(box, dtype, dims):
    mask = box.to(dtype).view(*[1] * (dims - 2), 8, 8)
    damaged = as_mask(mask, torch.zeros(3, 2, 8, 8))
    assert torch.equal(damaged, box.expand(3, 1, 8, 8))


def test_a_mask_may_be_one_for_each_image(box):
    mask = torch.stack([box, ~box, box.roll(1, 0)])[:, None]
    assert torch.equal(as_mask(mask, torch.zeros(3, 2, 8, 8)), mask)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mask": torch.ones(8, 8)}, ValueError, "known pixels in each image, .* is all ones"),
        ({"mask": torch.zeros(8, 8)}, ValueError, "damaged pixels in each image, .* is all zeros"),
        ({"mask": torch.eye(8) / 2}, ValueError, "`mask` must hold 1 at damaged and 0 at known"),
        ({"mask": torch.eye(7)}, ValueError, r"`mask` must have the shape \(8, 8\), \(1, 8, 8\)"),
        ({"mask": torch.eye(8).expand(2, 1, 8, 8)}, ValueError, r"or \(3, 1, 8, 8\), got \(2, 1"),
        ({"mask": torch.eye(8).expand(3, 8, 8)}, ValueError, r"`mask` must have the shape"),
        ({"mask": np.eye(8)}, TypeError, "`mask` must be a tensor, got ndarray"),
        ({"mask": torch.stack([torch.eye(8), torch.eye(8), torch.ones(8, 8)])[:, None]},
         ValueError, "got one that is all ones for image 2"),
        ({"images": torch.zeros(1, 8, 8)}, ValueError, r"`images` must have the shape \(N, chan"),
        ({"images": torch.zeros(0, 1, 8, 8)}, ValueError, r"got \(0, 1, 8, 8\)"),
        ({"images": torch.zeros(3, 1, 8, 8).byte()}, TypeError, "of floats, got torch.uint8"),
        ({"images": torch.full((3, 1, 8, 8), torch.nan)}, ValueError, "finite where they are know"),
    ],
)  # fmt: skip
def test_a_wrong_mask_or_image_is_named(change, error, message):
    arguments: dict[str, Any] = {"images": torch.zeros(3, *SHAPE), "mask": torch.eye(8)} | change
    with pytest.raises(error, match=message):
        as_mask(arguments["mask"], arguments["images"])
    with pytest.raises(error, match=message):
        inpaint(Generator(4, SHAPE), Discriminator(SHAPE), **arguments)


# -- blending --------------------------------------------------------------------------------------


def poisson(image: np.ndarray, completion: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Perez' equation 7, pixel by pixel, by SciPy's sparse solver: (H, W) each."""
    pixels = {(i, j): k for k, (i, j) in enumerate(np.argwhere(mask))}
    matrix = scipy.sparse.lil_matrix((len(pixels), len(pixels)))
    right = np.zeros(len(pixels))
    for (i, j), k in pixels.items():
        for p in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if not (0 <= p[0] < mask.shape[0] and 0 <= p[1] < mask.shape[1]):
                continue
            matrix[k, k] += 1
            right[k] += completion[i, j] - completion[p]
            if p in pixels:
                matrix[k, pixels[p]] = -1
            else:
                right[k] += image[p]
    result = image.copy()
    result[mask] = scipy.sparse.linalg.spsolve(matrix.tocsr(), right)
    return result


def test_blending_solves_poissons_equation():
    rng = np.random.default_rng(0)
    images = np.cumsum(rng.normal(size=(3, 2, 9, 12)), 3) / 4
    completions = rng.normal(size=images.shape) / 4
    masks = np.zeros((3, 1, 9, 12), dtype=bool)
    masks[0, 0, 2:7, 3:9] = True
    masks[1, 0, :5, 5:] = True  # up to a corner of the image
    masks[2] = rng.random((9, 12)) < 0.5
    found = blend(*(torch.as_tensor(array) for array in (images, completions, masks)))
    for n in range(3):
        for channel in range(2):
            expected = poisson(images[n, channel], completions[n, channel], masks[n, 0])
            span = np.concatenate([np.where(masks[n], completions[n], images[n]), completions[n]])
            expected = expected.clip(span.min(), span.max())
            expected[~masks[n, 0]] = images[n, channel][~masks[n, 0]]
            np.testing.assert_allclose(found[n, channel], expected, atol=1e-3)


def test_a_completion_that_is_right_up_to_a_constant_is_blended_into_the_image_itself(box):
    image = torch.rand(4, 3, 8, 8)
    damaged = image.where(~box, torch.nan)
    completions = image + torch.tensor([-0.3, 0.2, 0.1]).view(3, 1, 1)
    torch.testing.assert_close(blend(damaged, completions, box), image, atol=1e-3, rtol=0)


def test_known_pixels_are_kept_bit_for_bit_and_no_value_leaves_the_range(box):
    images, completions = torch.rand(2, 5, 3, 8, 8)
    result = blend(images, completions, box)
    assert torch.equal(result.where(~box, 0), images.where(~box, 0))
    assert result.min() >= 0
    assert result.max() <= 1
    assert result.dtype == images.dtype


def test_completions_of_another_precision_are_brought_to_that_of_the_images(box):
    images, completions = torch.rand(2, 5, 3, 8, 8)
    found = blend(images, completions.double(), box)
    assert torch.equal(found, blend(images, completions, box))


def test_each_image_is_blended_as_if_alone(box):
    images, completions = torch.rand(2, 3, 1, 8, 8)
    together = blend(images, completions, box)
    alone = torch.cat([blend(images[n, None], completions[n, None], box) for n in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("completions", "error", "message"),
    [
        (
            torch.zeros(3, 1, 8, 7),
            ValueError,
            r"`completions` .* \(3, 1, 8, 8\), got \(3, 1, 8, 7\)",
        ),
        (None, TypeError, "`completions` must be a tensor of floats, got NoneType"),
        (torch.zeros(3, *SHAPE).int(), TypeError, "tensor of floats, got torch.int32"),
        (torch.full((3, 1, 8, 8), torch.nan), ValueError, "`completions` must be finite"),
    ],
)
def test_wrong_completions_are_named(box, completions, error, message):
    with pytest.raises(error, match=message):
        blend(torch.zeros(3, *SHAPE), completions, box)


# -- the weights of known pixels -------------------------------------------------------------------


def test_known_pixels_count_by_the_share_of_damaged_neighbours():
    mask = (torch.rand(2, 1, 6, 9) < 0.3).float()
    found = context_weights(mask, window=5)
    for n, i, j in np.ndindex(2, 6, 9):
        neighbours = mask[n, 0, max(0, i - 2) : i + 3, max(0, j - 2) : j + 3]
        expected = 0.0 if mask[n, 0, i, j] else float(neighbours.mean())
        assert float(found[n, 0, i, j]) == pytest.approx(expected)


@pytest.mark.parametrize("window", [1, 4])
def test_a_window_has_a_centre_and_neighbours(box, window):
    with pytest.raises(ValueError, match="`window` must be an"):
        context_weights(box[None, None], window=window)


def test_weights_are_of_masks_with_one_channel(box):
    with pytest.raises(ValueError, match=r"`mask` must have the shape \(N, 1, .* got \(8, 8\)"):
        context_weights(box)


# -- the search ------------------------------------------------------------------------------------


class Linear(nn.Module):
    """A generator whose samples are A z, so that the best latent is known."""

    latent_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(64, 3) / 3)

    def forward(self, latent: Tensor) -> Tensor:
        return (latent @ self.matrix.T).view(-1, *SHAPE)


class Mean(nn.Module):
    """A discriminator that likes bright samples."""

    def forward(self, samples: Tensor) -> Tensor:
        return samples.mean((1, 2, 3))


PLAIN = LatentSearch(restarts=2, candidates=20, steps=300, prior_weight=0, norm_weight=0)


def test_a_sample_is_found_again_from_what_is_known_of_it(box):
    generator = Linear()
    truth = generator(torch.randn(5, 3)).detach()
    damaged = truth.where(~box, torch.nan)
    for blending in (True, False):
        found = inpaint(generator, Mean(), damaged, box, blending=blending, search=PLAIN, seed=0)
        torch.testing.assert_close(found, truth, atol=0.02, rtol=0)


def test_each_image_may_have_a_mask_of_its_own(box):
    generator = Linear()
    truth = generator(torch.randn(3, 3)).detach()
    mask = torch.stack([box, box.roll(2, 0), torch.rand(8, 8) < 0.5])[:, None]
    found = inpaint(generator, Mean(), truth.where(~mask, 9.0), mask, search=PLAIN, seed=0)
    torch.testing.assert_close(found, truth, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "degradation",
    [
        lambda samples: samples,
        lambda samples: 0.3 * samples + 0.5,
        lambda samples: F.avg_pool2d(samples, 3, stride=1),
        lambda samples: F.avg_pool2d(samples, 2),
        lambda samples: samples.flatten(1)[:, ::3],
    ],
    ids=["none", "fading", "blur", "fewer pixels", "another shape"],
)
def test_what_has_happened_to_images_is_undone(degradation):
    generator = Linear()
    truth = generator(torch.randn(4, 3)).detach()
    found = restore(generator, Mean(), degradation(truth), degradation, search=PLAIN, seed=0)
    torch.testing.assert_close(found, truth, atol=0.05, rtol=0)


def test_each_image_is_searched_for_as_if_alone(box):
    generator, images = Linear(), torch.rand(3, *SHAPE)
    together = inpaint(generator, Mean(), images, box, search=PLAIN, seed=0)
    for n in range(3):
        alone = inpaint(generator, Mean(), images[n, None], box, search=PLAIN, seed=0)
        torch.testing.assert_close(together[n, None], alone, atol=1e-3, rtol=0)


def loss_of(generator: nn.Module, image: Tensor, latent: Tensor, search: LatentSearch) -> Tensor:
    """The loss as the docstring has it, for the undamaged image."""
    sample = generator(latent[None])
    log_one_minus_d = torch.log(1 - torch.sigmoid(Mean()(sample)))
    context = (sample - image).abs().mean()
    norm = latent.square().mean() / 2
    return (context + search.prior_weight * log_one_minus_d + search.norm_weight * norm).squeeze()


def test_the_loss_is_the_papers_and_its_minimum_is_found():
    generator, image = Linear(), torch.rand(1, *SHAPE)
    search = LatentSearch(restarts=1, candidates=5, steps=500, prior_weight=0.3, norm_weight=0.2)
    found = restore(generator, Mean(), image, lambda x: x, search=search, seed=0)
    latent = torch.linalg.lstsq(generator.matrix, found.view(64, 1)).solution.flatten().detach()
    least = loss_of(generator, image, latent, search)
    for direction in torch.randn(50, 3):
        assert least <= loss_of(generator, image, latent + 0.1 * direction, search)


def test_more_weight_of_the_prior_gives_samples_that_d_likes_more():
    generator, image = Linear(), torch.rand(4, *SHAPE)
    brightness = [
        restore(
            generator,
            Mean(),
            image,
            lambda x: x,
            search=LatentSearch(candidates=20, prior_weight=weight),
            seed=0,
        ).mean()
        for weight in (0.0, 1.0)
    ]
    assert brightness[1] > brightness[0] + 0.01


def test_probabilities_are_read_through_the_logit(box):
    generator, images = Linear(), torch.rand(3, *SHAPE)
    search = LatentSearch(candidates=20, steps=20, prior_weight=0.5)
    expected = inpaint(generator, Mean(), images, box, search=search, seed=0)
    found = inpaint(
        generator, nn.Sequential(Mean(), nn.Sigmoid()), images, box, search=search, seed=0
    )
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


class TwoValleys(nn.Module):
    """A sample is right at z = 2 and half right at z = -2, with a hill between."""

    latent_dim = 1

    def forward(self, latent: Tensor) -> Tensor:
        right, half = (torch.exp(-2 * (latent - place).square()) for place in (2.0, -2.0))
        return (right + 0.5 * half).view(-1, 1, 1, 1).expand(-1, *SHAPE)


def test_the_best_of_the_restarts_is_given():
    image = torch.ones(1, *SHAPE)

    def at(n: int, rng: torch.Generator) -> Tensor:
        return torch.tensor([[-1.9], [0.9]])[:n]

    found = [
        restore(
            TwoValleys(),
            Mean(),
            image,
            lambda x: x,
            search=LatentSearch(n, candidates=n, prior_weight=0, norm_weight=0),
            latent_sampler=at,
        )
        for n in (1, 2)
    ]
    assert float(found[0].mean()) == pytest.approx(0.5, abs=0.01)
    assert float(found[1].mean()) == pytest.approx(1.0, abs=0.01)


def test_with_a_temperature_restarts_count_by_their_losses():
    def at(n: int, rng: torch.Generator) -> Tensor:
        return torch.tensor([[-1.9], [1.9]])

    search = LatentSearch(2, candidates=2, prior_weight=0, norm_weight=0, temperature=0.25)
    image = torch.ones(1, *SHAPE)
    found = restore(TwoValleys(), Mean(), image, lambda x: x, search=search, latent_sampler=at)
    weight = 1 / (1 + np.exp(-(0.5 - 0) / 0.25))  # the losses are 0 and 1/2
    assert float(found.mean()) == pytest.approx(weight + 0.5 * (1 - weight), abs=0.01)


def test_the_search_starts_from_the_best_candidates():
    image = torch.ones(1, *SHAPE)
    search = LatentSearch(1, candidates=200, steps=1, learning_rate=1e-6)
    found = restore(TwoValleys(), Mean(), image, lambda x: x, search=search, seed=0)
    assert float(found.mean()) > 0.95


def test_images_of_another_shape_than_the_samples_are_refused(box):
    players = Generator(4, (1, 8, 9)), Discriminator((1, 8, 9))
    with pytest.raises(ValueError, match=r"samples \(1, 8, 9\), got \(1, 8, 8\)"):
        inpaint(*players, torch.zeros(2, *SHAPE), box)


# -- what is left as it was ------------------------------------------------------------------------


class Noisy(Linear):
    """A generator that draws noise of its own."""

    def forward(self, latent: Tensor) -> Tensor:
        samples = super().forward(latent)
        return samples + torch.randn_like(samples)


def test_a_seed_makes_the_result_repeatable(box):
    players = Noisy(), Discriminator(SHAPE)
    images = torch.rand(3, *SHAPE)
    search = LatentSearch(candidates=20, steps=3)
    first, second, third, fourth = (
        inpaint(*players, images, box, search=search, seed=seed) for seed in (1, 1, 2, None)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert not torch.equal(third, fourth)


def test_modes_weights_gradients_images_and_random_states_stay_as_they_are(box):
    generator, discriminator = ConvGenerator(4, SHAPE, width=4), Discriminator(SHAPE)
    generator.layers.eval()
    networks = nn.ModuleList([generator, discriminator])
    next(generator.parameters()).requires_grad_(False)
    images = torch.full((2, *SHAPE), 0.5).where(~box, torch.nan)
    modes = [module.training for module in networks.modules()]
    moving = [weight.requires_grad for weight in networks.parameters()]
    weights = {name: value.clone() for name, value in networks.state_dict().items()}
    state = torch.get_rng_state()
    found = inpaint(*networks, images, box, search=LatentSearch(candidates=9, steps=2))
    assert found.isfinite().all()
    assert not found.requires_grad
    assert [module.training for module in networks.modules()] == modes
    assert [weight.requires_grad for weight in networks.parameters()] == moving
    assert all(weight.grad is None for weight in networks.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(dict(networks.state_dict()), weights, rtol=0, atol=0)
    assert images[:, :, 2:6, 2:6].isnan().all()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_found_even_where_the_caller_wants_none(box, mode):
    generator = Linear()
    latent = torch.randn(2, 3)
    with mode():
        truth = generator(latent)
        found = inpaint(generator, Mean(), truth, box, search=PLAIN, seed=0)
        whole = restore(generator, Mean(), 0.5 * truth, lambda x: 0.5 * x, search=PLAIN, seed=0)
    torch.testing.assert_close(found, truth, atol=0.02, rtol=0)
    torch.testing.assert_close(whole, truth, atol=0.05, rtol=0)
    assert not found.requires_grad


def test_latents_of_another_kind_and_float64_networks_are_welcome(box):
    players = Generator(4, SHAPE).double(), Discriminator(SHAPE).double()
    search = LatentSearch(candidates=9, steps=2, norm_weight=0)
    found = inpaint(
        *players, torch.rand(2, *SHAPE), box, search=search, latent_sampler=uniform_latent(4)
    )
    assert found.dtype == torch.float64


def test_a_generator_and_a_discriminator_may_differ_in_precision(box):
    players = Generator(4, SHAPE).double(), Discriminator(SHAPE)
    search = LatentSearch(candidates=9, steps=2)
    assert inpaint(*players, torch.rand(2, *SHAPE), box, search=search).dtype == torch.float64


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"restarts": 0}, ValueError, "`restarts` must be a positive integer, got 0"),
        ({"candidates": 3}, ValueError, "`candidates` must be at least `restarts`=8, got 3"),
        ({"candidates": 9.0}, TypeError, "`candidates` must be a positive integer, got 9.0"),
        ({"steps": 0}, ValueError, "`steps` must be a positive integer, got 0"),
        ({"learning_rate": 0.0}, ValueError, r"`learning_rate` must be a finite number in \(0"),
        ({"prior_weight": -1}, ValueError, r"`prior_weight` must be a finite number in \[0, inf"),
        ({"temperature": -0.1}, ValueError, r"`temperature` must be a finite number in \[0, inf"),
        ({"norm_weight": "1"}, TypeError, r"`norm_weight` must be a finite number in \[0, inf"),
    ],
)
def test_a_wrong_option_of_the_search_is_named(options, error, message):
    with pytest.raises(error, match=message):
        LatentSearch(**options)


class WholeBatch(nn.Module):
    """A discriminator with one score for all samples."""

    def forward(self, samples: Tensor) -> Tensor:
        return samples.mean()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"generator": len}, TypeError, "`generator` must be a torch.nn.Module"),
        ({"discriminator": len}, TypeError, "`discriminator` must be a torch.nn.Module"),
        ({"generator": Generator(4, SHAPE, num_classes=3)}, ValueError, "got one of 3 classes"),
        ({"generator": nn.Identity()}, ValueError, "`latent_sampler` must be given for Identity"),
        ({"images": [1.0]}, TypeError, "must be a tensor of floats, got list"),
        ({"images": torch.zeros(0, 3)}, ValueError, r"must have the shape \(N, ...\), of one"),
        ({"images": torch.full((1, *SHAPE), torch.nan)}, ValueError, "must be finite, got NaN"),
        ({"degradation": lambda x: x[:, :, :4]}, ValueError, r"of shape \(3, 1, 8, 8\), got the"),
        ({"degradation": lambda x: 0.0}, TypeError, "`degradation` must be a function of samples"),
        ({"degradation": lambda x: x.detach()}, ValueError, "`degradation` must be different"),
        ({"degradation": lambda x: x > 0}, TypeError, "a tensor of floats, got torch.bool"),
        ({"degradation": None}, TypeError, "`degradation` must be a function of samples"),
        ({"search": {"steps": 1}}, TypeError, "`search` must be a LatentSearch, got {'steps': 1}"),
        ({"discriminator": nn.Conv2d(1, 1, 3)}, ValueError, r"of shape \(24, 1, 6, 6\)"),
        ({"discriminator": WholeBatch()}, ValueError, r"got scores of shape \(\)"),
        ({"seed": -1}, ValueError, "`seed` must be a non-negative integer, got -1"),
    ],
)
def test_a_wrong_argument_is_named(change, error, message):
    arguments: dict[str, Any] = {
        "generator": Generator(4, SHAPE),
        "discriminator": Discriminator(SHAPE),
        "images": torch.zeros(3, *SHAPE),
        "degradation": lambda x: x,
        "search": LatentSearch(candidates=9, steps=1),
    }
    with pytest.raises(error, match=message):
        restore(**(arguments | change))


def test_the_search_names_what_it_was_given_itself():
    with pytest.raises(TypeError, match="`observed` must be a tensor of floats, got list"):
        LatentSearch()(Generator(4, SHAPE), Discriminator(SHAPE), [1.0], lambda x: x)
