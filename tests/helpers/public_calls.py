"""A valid call of every public constructor and function, with all of its arguments by name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

import vanillagan
from tests.helpers.digits import write_mnist
from vanillagan import (
    applications,
    callbacks,
    data,
    datasets,
    losses,
    metrics,
    networks,
    penalties,
    recipes,
    sampling,
    theory,
)
from vanillagan.applications import masks, text

__all__ = ["Call", "calls", "public_names"]

Call: TypeAlias = tuple[Callable[..., Any], dict[str, Any]]
"""A function and its arguments."""

MODULES = ("losses", "penalties", "recipes", "theory", "applications.masks")
"""Public modules besides the package and its subpackages."""


def public_names() -> set[str]:
    """Return the public constructors and functions that have arguments, from the code."""
    packages = {
        module.name
        for module in pkgutil.walk_packages(vanillagan.__path__, "vanillagan.")
        if module.ispkg and not module.name.startswith("vanillagan.runtime")
    }
    names = set()
    for module in ["vanillagan", *packages, *(f"vanillagan.{name}" for name in MODULES)]:
        for name in getattr(importlib.import_module(module), "__all__", ()):
            value = getattr(importlib.import_module(module), name)
            if _has_arguments(value):
                names.add(name)
    return names


def _has_arguments(value: Any) -> bool:
    if not isinstance(value, type):
        return inspect.isfunction(value) and bool(inspect.signature(value).parameters)
    is_record = issubclass(value, tuple) and hasattr(value, "_fields")
    if is_record or issubclass(value, Exception) or getattr(value, "_is_protocol", False):
        return False
    try:
        return bool(inspect.signature(value).parameters)
    except ValueError:  # of a TypedDict
        return False


@cache
def folder() -> Path:
    """Return a folder with a checkpoint, MNIST and images, for the life of the process."""
    root = tempfile.TemporaryDirectory()
    _KEPT.append(root)
    path = Path(root.name)
    write_mnist(path)
    with torch.random.fork_rng():
        trainer().save(path / "run.pt")
    from PIL import Image

    (path / "images" / "cats").mkdir(parents=True)
    Image.new("RGB", (5, 4), "red").save(path / "images" / "cats" / "1.png")
    return path


_KEPT: list[Any] = []


def generator(classes: int = 0) -> nn.Module:
    return networks.Generator(4, (1, 8, 8), hidden=(5,), num_classes=classes)


def discriminator(classes: int = 0) -> nn.Module:
    return networks.Discriminator((1, 8, 8), hidden=(5,), num_classes=classes)


def trainer() -> vanillagan.GANTrainer:
    return vanillagan.GANTrainer(generator(), discriminator(), device="cpu")


def logits(seed: int = 1, n: int = 6) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def images(n: int = 3, seed: int = 2, size: int = 8) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, size, size, generator=rng) * 1.8 - 0.9


def points(n: int = 6, seed: int = 3) -> Tensor:
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))


def shares(seed: int = 4) -> Tensor:
    return torch.rand(4, generator=torch.Generator().manual_seed(seed)).softmax(0)


def hole() -> Tensor:
    mask = torch.zeros(8, 8)
    mask[2:5, 3:6] = 1
    return mask


class Metric:
    """What torchmetrics' metrics have, of the means of samples."""

    def __init__(self) -> None:
        self.means: dict[bool, Tensor] = {}

    def update(self, images: Tensor, real: bool) -> None:
        self.means[real] = images.mean()

    def compute(self) -> Tensor:
        return self.means[True] - self.means[False]

    def reset(self) -> None:
        self.means.clear()


def critic(samples: Tensor) -> Tensor:
    return samples.flatten(1).square().sum(1).sin()


def as_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with one argument, `shape`, for the arguments of `function`."""

    def call(shape: tuple[int, ...]) -> Any:
        return function(*shape) if isinstance(shape, Iterable) else function(shape)

    return call


def _loss(loss: Any) -> dict[str, Callable[[], Call]]:
    name = type(loss).__name__
    fake, real = {"fake_logits": logits}, {"real_logits": lambda: logits(2)}

    def of(method: str) -> Callable[[], Call]:
        parts = fake | real if method == "discriminator" or loss.needs_real else fake
        return lambda: (getattr(loss, method), {key: make() for key, make in parts.items()})

    return {f"{name}.{method}": of(method) for method in ("discriminator", "generator")}


def _network(name: str, network: Callable[[], nn.Module], shape: tuple[int, ...],
             classes: int = 0) -> dict[str, Callable[[], Call]]:  # fmt: skip
    def inputs() -> dict[str, Any]:
        module = network()
        first = "latents" if hasattr(module, "latent_dim") else "samples"
        samples = torch.rand(3, *shape, generator=torch.Generator().manual_seed(5))
        return {first: samples} | ({"labels": torch.arange(3) % classes} if classes else {})

    calls = {f"{name}.forward": lambda: (network().eval().forward, inputs())}
    if hasattr(network(), "probability"):
        calls[f"{name}.probability"] = lambda: (network().eval().probability, inputs())
    if hasattr(network(), "sample"):
        labels = {"labels": torch.arange(3) % classes} if classes else {}
        calls[f"{name}.sample"] = lambda: (network().sample, {"n": 3, "seed": 1} | labels)
    return calls


def _blocks() -> dict[str, Callable[[], Call]]:
    sides = {"in_channels": 2, "out_channels": 3}
    return {
        "LinearBlock": lambda: (
            networks.LinearBlock,
            {"in_features": 3, "out_features": 4, "normalize": True, "norm_eps": 1e-5,
             "norm_momentum": 0.2, "negative_slope": 0.2, "dropout": 0.1},
        ),
        "Linear": lambda: (networks.Linear, {"in_features": 3, "out_features": 4, "bias": True}),
        "UpBlock": lambda: (networks.UpBlock, sides | {"size": (4, 4), "normalize": True}),
        "DownBlock": lambda: (networks.DownBlock, dict(sides)),
        "ResidualBlock": lambda: (networks.ResidualBlock, {"channels": 2}),
    }  # fmt: skip


_MLP = {"sample_shape": (2,), "hidden": (3, 4), "num_classes": 2}
_CONV = {"sample_shape": (1, 8, 8), "base_channels": 2, "patch_size": 2, "num_classes": 2}
_TEXT = {"sample_shape": (5, 3), "channels": 2, "blocks": 1, "num_classes": 2}


def _networks() -> dict[str, Callable[[], Call]]:
    n = networks
    calls: dict[str, Callable[[], Call]] = {
        "Generator": lambda: (
            n.Generator,
            {"latent_dim": 4, "output": "tanh", "norm_eps": 1e-5, "norm_momentum": 0.2} | _MLP,
        ),
        "Discriminator": lambda: (n.Discriminator, {"dropout": 0.1} | _MLP),
        "ConvGenerator": lambda: (n.ConvGenerator, {"latent_dim": 4, "output": "tanh"} | _CONV),
        "ConvDiscriminator": lambda: (n.ConvDiscriminator, dict(_CONV)),
        "TextGenerator": lambda: (
            n.TextGenerator, {"latent_dim": 4, "output": "gumbel", "temperature": 0.9} | _TEXT
        ),
        "TextDiscriminator": lambda: (n.TextDiscriminator, dict(_TEXT)),
        "DiffAugment": lambda: (
            n.DiffAugment, {"discriminator": discriminator(), "policy": ("flip", "color")}
        ),
        "ContextEncoder": lambda: (
            applications.ContextEncoder,
            {"sample_shape": (1, 8, 8), "base_channels": 2, "patch_size": 2},
        ),
        "ContextEncoder.forward": lambda: (
            applications.ContextEncoder((1, 8, 8), base_channels=2).forward,
            {"images": images(), "mask": hole()[None, None].expand(3, 1, 8, 8).clone()},
        ),
    }  # fmt: skip
    text_shape = (5, 3)
    return (
        calls
        | _network("Generator", lambda: generator(2), (4,), 2)
        | _network("Discriminator", lambda: discriminator(2), (1, 8, 8), 2)
        | _network("ConvGenerator", lambda: n.ConvGenerator(4, (1, 8, 8), base_channels=2), (4,))
        | _network("ConvDiscriminator", lambda: n.ConvDiscriminator(**_CONV), (1, 8, 8), 2)
        | _network("TextGenerator", lambda: n.TextGenerator(4, text_shape, channels=2), (4,))
        | _network("TextDiscriminator", lambda: n.TextDiscriminator(text_shape, channels=2),
                   text_shape)
        | _network("DiffAugment", lambda: n.DiffAugment(discriminator()), (1, 8, 8))
    )  # fmt: skip


def _theory() -> dict[str, Callable[[], Call]]:
    def divergence(function: Callable[..., Any], p: str, q: str) -> Callable[[], Call]:
        return lambda: (function, {p: shares(), q: shares(5), "dx": 1.0})

    return {
        "optimal_discriminator": lambda: (
            theory.optimal_discriminator, {"p_data": points(), "p_g": points(6, 4)}
        ),
        "value_function": lambda: (
            theory.value_function, {"d_real": points(), "d_fake": points(6, 4)}
        ),
        "kl_divergence": divergence(theory.kl_divergence, "p", "q"),
        "jensen_shannon_divergence": divergence(theory.jensen_shannon_divergence, "p", "q"),
        "virtual_criterion": divergence(theory.virtual_criterion, "p_data", "p_g"),
        "density_ratio": lambda: (theory.density_ratio, {"logits": logits()}),
    }  # fmt: skip


def _penalties() -> dict[str, Callable[[], Call]]:
    def calls(name: str, make: Callable[..., Any], argument: str) -> dict[str, Callable[[], Call]]:
        inputs = lambda: {"critic": critic, "real": images(), "fake": images(3, 7)}  # noqa: E731
        return {
            name: lambda: (make, {argument: 0.5, "every": 2}),
            f"{name}.__call__": lambda: (make(**{argument: 0.5}), inputs()),
        }

    return (
        calls("R1", penalties.R1, "gamma")
        | calls("R2", penalties.R2, "gamma")
        | calls("GradientPenalty", penalties.GradientPenalty, "weight")
        | {
            "total_penalty": lambda: (
                penalties.total_penalty,
                {"penalties": [penalties.R1(0.5)], "critic": critic, "real": images(),
                 "fake": images(3, 7)},
            ),
        }
    )  # fmt: skip


def _metrics() -> dict[str, Callable[[], Call]]:
    def pair(function: Callable[..., Any], **others: Any) -> Callable[[], Call]:
        return lambda: (function, {"real": points(), "fake": points(6, 4)} | others)

    m = metrics
    return {
        "frechet_distance": pair(m.frechet_distance),
        "kernel_distance": pair(m.kernel_distance, degree=3),
        "precision_recall": pair(m.precision_recall, k=2),
        "density_coverage": pair(m.density_coverage, k=2),
        "nearest_neighbors": lambda: (
            m.nearest_neighbors, {"samples": points(), "data": points(6, 4), "k": 2}
        ),
        "mode_coverage": lambda: (
            m.mode_coverage, {"modes": torch.arange(6) % 4, "true_proportions": 4, "minimum": 1}
        ),
        "mode_coverage of shares": lambda: (
            m.mode_coverage, {"modes": torch.arange(6) % 4, "true_proportions": shares()}
        ),
        "parzen_log_likelihood": lambda: (
            m.parzen_log_likelihood, {"samples": points(), "data": points(6, 4), "sigma": 0.5}
        ),
        "parzen_log_likelihood, selected": lambda: (
            m.parzen_log_likelihood,
            {"samples": points(), "data": points(6, 4), "validation": points(6, 5),
             "sigmas": torch.tensor([0.2, 0.5])},
        ),
        "extract_features": lambda: (
            m.extract_features,
            {"extractor": nn.Flatten(), "samples": images(), "batch_size": 2},
        ),
        "from_torchmetrics": lambda: (
            m.from_torchmetrics, {"metric": Metric(), "real": images(), "transform": torch.sin}
        ),
        "from_torchmetrics(...)": lambda: (
            m.from_torchmetrics(Metric(), images()), {"fake": images(3, 7)}
        ),
    }  # fmt: skip


def _sampling() -> dict[str, Callable[[], Call]]:
    def latents(n: int, rng: torch.Generator) -> Tensor:
        return torch.randn(n, 4, generator=rng)

    draws = {"percentile": 50.0, "burn_in": 20, "max_draws": 4000, "latent_sampler": latents,
             "seed": 1}  # fmt: skip
    conditional = {"generator": lambda: generator(3), "discriminator": lambda: discriminator(3)}

    def networks_of(classes: int) -> dict[str, Any]:
        return {name: make() for name, make in conditional.items()} if classes else {
            "generator": generator(), "discriminator": discriminator()
        }  # fmt: skip

    def interpolation() -> Call:
        start, end = logits(1, 4), logits(2, 4)
        return sampling.interpolate, {"generator": generator(), "start": start, "end": end,
                                      "n": 4, "spherical": True}  # fmt: skip

    def inversion() -> applications.GANInversion:
        return applications.GANInversion(restarts=2, candidates=3, steps=2)

    return {
        "draw_samples": lambda: (
            sampling.draw_samples, {"generator": generator(3), "n": 3,
                                    "labels": torch.tensor([0, 2, 1]), "latents": points(3)[:, :1]
                                    .expand(3, 4).clone(), "seed": 1}
        ),
        "draw_samples of a sampler": lambda: (
            sampling.draw_samples,
            {"generator": generator(), "n": 3, "latent_sampler": latents, "seed": 1},
        ),
        "classes_in_turn": lambda: (
            sampling.classes_in_turn, {"generator": generator(3), "n": 4}
        ),
        "interpolate": interpolation,
        "rejection_sample": lambda: (
            sampling.rejection_sample, networks_of(3) | draws | {"n": 4, "labels": 1}
        ),
        "refit_discriminator": lambda: (
            sampling.refit_discriminator,
            {"trainer": trainer(), "data": images(8), "steps": 1, "batch_size": 4, "lr": 1e-3,
             "seed": 0},
        ),
        "synthesize": lambda: (
            applications.synthesize, networks_of(3) | draws | {"per_class": (1, 0, 2)}
        ),
        "GANInversion": lambda: (
            applications.GANInversion,
            {"restarts": 2, "candidates": 3, "steps": 2, "learning_rate": 0.1,
             "prior_weight": 0.1, "norm_weight": 0.1, "temperature": 0.1},
        ),
        "GANInversion.__call__": lambda: (
            inversion(),
            networks_of(0) | {"observed": images(), "degradation": torch.tanh,
                              "latent_sampler": latents, "seed": 1},
        ),
        "inpaint": lambda: (
            applications.inpaint,
            networks_of(0) | {"images": images(), "mask": hole(), "window": 3, "blending": True,
                              "inversion": inversion(), "latent_sampler": latents, "seed": 1},
        ),
        "blend": lambda: (
            applications.blend,
            {"images": images(), "completions": images(3, 8), "mask": hole()},
        ),
        "fill_by_patches": lambda: (
            applications.fill_by_patches,
            {"fill": lambda patches, mask: patches * 0.5, "image": images()[0], "mask": hole(),
             "size": 4, "stride": 2},
        ),
    }  # fmt: skip


def _masks_and_texts() -> dict[str, Callable[[], Call]]:
    vocabulary = text.Vocabulary("abc")
    texts = {"texts": ("ab", "ca")}
    return {
        "boxes": lambda: (masks.boxes, {"size": (8, 8), "share": 0.5, "centered": False}),
        "lost_pixels": lambda: (masks.lost_pixels, {"size": 8, "share": 0.5}),
        "scratches": lambda: (masks.scratches, {"size": (8, 8), "count": 2, "width": 2.0}),
        "mixed": lambda: (masks.mixed, {"samplers": [masks.boxes(8)]}),
        "NGramModel": lambda: (text.NGramModel, texts | {"n": 2}),
        "NGramModel.sample": lambda: (
            text.NGramModel(["ab"], 2).sample, {"count": 2, "max_length": 3, "seed": 0}
        ),
        "ngram_divergence": lambda: (
            text.ngram_divergence, {"real": ("ab",), "fake": ("ba", "b"), "n": 1}
        ),
        "Vocabulary": lambda: (
            text.Vocabulary, {"tokens": ("a", "b"), "unknown": "?", "separator": ""}
        ),
        "Vocabulary.of": lambda: (
            text.Vocabulary.of, texts | {"size": 2, "unknown": "?", "separator": ""}
        ),
        "Vocabulary.encode": lambda: (vocabulary.encode, texts | {"length": 3}),
        "Vocabulary.one_hot": lambda: (vocabulary.one_hot, {"ids": torch.tensor([[1, 0]])}),
        "Vocabulary.decode": lambda: (vocabulary.decode, {"sequences": torch.tensor([[1, 0]])}),
        "Vocabulary.decode of logits": lambda: (
            vocabulary.decode, {"sequences": torch.eye(4)[None]}
        ),
    }  # fmt: skip


def _data() -> dict[str, Callable[[], Call]]:
    root = folder()
    size = {"image_size": 28, "channels": 1}
    of_bytes = (images() * 100 + 100).byte()
    return {
        "ByteImages": lambda: (
            data.ByteImages, {"images": of_bytes, "labels": torch.arange(3), "classes": ("a",)}
        ),
        "load_into_memory": lambda: (
            data.load_into_memory, {"dataset": [images()[0], images()[1]], "workers": 0}
        ),
        "normal_latents": lambda: (as_one(data.normal_latents), {"shape": (4, 2)}),
        "uniform_latents": lambda: (as_one(data.uniform_latents), {"shape": (4, 2)}),
        "image_folder": lambda: (
            datasets.image_folder,
            {"root": root / "images", "size": (4, 5), "channels": 3, "labels": True},
        ),
        "mnist": lambda: (
            datasets.mnist, {"root": root, "train": True, "download": False} | size
        ),
        "mnist_5000": lambda: (datasets.mnist_5000, dict(size)),
        "mnist_or_5000": lambda: (datasets.mnist_or_5000, {"root": root} | size),
    }  # fmt: skip


def _callbacks() -> dict[str, Callable[[], Call]]:
    root, c = folder(), callbacks
    every = {"every_n_steps": 5}
    return {
        "Checkpoint": lambda: (c.Checkpoint, {"folder": root / "c", "keep": 2} | every),
        "BestCheckpoint": lambda: (
            c.BestCheckpoint, {"path": root / "best.pt", "monitor": "fid", "mode": "min"}
        ),
        "CSVLog": lambda: (c.CSVLog, {"path": root / "log.csv"} | every),
        "TensorBoardLog": lambda: (
            c.TensorBoardLog, {"folder": root / "t", "images_every_n_steps": 5} | every
        ),
        "ConsoleLog": lambda: (c.ConsoleLog, {"seconds": 1.0}),
        "GradientClip": lambda: (c.GradientClip, {"max_norm": 1.0}),
        "HealthMonitor": lambda: (c.HealthMonitor, {"patience": 2} | every),
        "NaNGuard": lambda: (c.NaNGuard, dict(every)),
        "LRSchedule": lambda: (
            c.LRSchedule,
            {"scheduler": lambda optimizer: StepLR(optimizer, 1), "player": "both",
             "interval": "epoch"},
        ),
        "MetricLog": lambda: (
            c.MetricLog, {"metrics": {"mean": torch.mean}, "num_samples": 4, "seed": 0} | every
        ),
        "SampleGrid": lambda: (
            c.SampleGrid,
            {"folder": root / "grids", "side": 2, "seed": 0, "scale": 1, "transform": torch.tanh}
            | every,
        ),
    }  # fmt: skip


def _training() -> dict[str, Callable[[], Call]]:
    checkpoint = folder() / "run.pt"
    v = vanillagan
    options = {
        "loss": v.BCEAdversarialLoss(), "penalties": [v.R1(0.5)],
        "generator_optimizer": v.adam(), "discriminator_optimizer": v.adam(),
        "lr_schedule": v.cosine_decay(), "discriminator_steps": 1,
        "update_order": "generator_first", "precision": "fp32", "compile": False,
        "device": "cpu", "seed": 0,
    }  # fmt: skip

    def trainer_options() -> dict[str, Any]:
        return {"generator": generator(), "discriminator": discriminator(), "ema": v.EMA(0.9),
                "latent_sampler": data.normal_latents(4),
                "callbacks": [v.Callback()]} | options  # fmt: skip

    return {
        "GANTrainer": lambda: (v.GANTrainer, trainer_options()),
        "ContextTrainer": lambda: (
            applications.ContextTrainer,
            {"generator": applications.ContextEncoder((1, 8, 8), base_channels=2),
             "discriminator": discriminator(), "masks": masks.boxes(8),
             "adversarial_weight": 0.1, "device": "cpu"},
        ),
        "GANTrainer.fit": lambda: (
            trainer().fit, {"data": images(8), "max_epochs": 1, "max_steps": 1, "batch_size": 4}
        ),
        "GANTrainer.train_step": lambda: (trainer().train_step, {"batch": images()}),
        "GANTrainer.sample": lambda: (
            trainer().sample, {"n": 2, "latents": points(2)[:, :1].expand(2, 4).clone(), "seed": 1}
        ),
        "EMA": lambda: (v.EMA, {"decay": 0.9}),
        "dcgan": lambda: (recipes.dcgan, {"lr": 1e-3}),
        "r3gan": lambda: (recipes.r3gan, {"lr": 1e-3, "gamma": 0.5}),
        "adam": lambda: (v.adam, {"lr": 1e-3, "betas": (0.5, 0.9)}),
        "linear_decay": lambda: (v.linear_decay, {"start": 0.5}),
        "load_generator": lambda: (
            v.load_generator, {"path": checkpoint, "network": generator(), "device": "cpu"}
        ),
        "load_discriminator": lambda: (
            v.load_discriminator, {"path": checkpoint, "network": discriminator(), "device": "cpu"}
        ),
        "BCEAdversarialLoss": lambda: (
            v.BCEAdversarialLoss,
            {"from_logits": True, "generator_objective": "minimax", "real_label": 0.9,
             "fake_label": 0.1},
        ),
    }  # fmt: skip


@cache
def calls() -> dict[str, Callable[[], Call]]:
    """Return the calls by name; each makes new arguments."""
    table: dict[str, Callable[[], Call]] = {}
    for part in (_training, _networks, _blocks, _theory, _penalties, _metrics, _sampling,
                 _masks_and_texts, _data, _callbacks):  # fmt: skip
        table |= part()
    for loss in (losses.BCEAdversarialLoss(), losses.HingeLoss(), losses.LeastSquaresLoss(),
                 losses.WassersteinLoss(), losses.RelativisticLoss()):  # fmt: skip
        table |= _loss(loss)
    return table
