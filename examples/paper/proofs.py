"""Proposition 1 and Theorem 1 in numbers."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution, Laplace, Normal
from torch.nn.functional import logsigmoid
from torch.optim.lr_scheduler import CosineAnnealingLR

from paper.densities import Grid, distance_to_optimum, draw_densities, logits_at, mixture
from paper.report import Paper, describe_training
from vanillagan import Discriminator, GANTrainer, optimal_discriminator
from vanillagan.batch import Batch
from vanillagan.data import normal_latents
from vanillagan.player import adam
from vanillagan.theory import GLOBAL_MINIMUM, virtual_criterion

PAIRS: dict[str, tuple[Distribution, Distribution]] = {
    "normal, normal": (Normal(0.0, 1.0), Normal(1.0, 2.0)),
    "two modes, normal": (mixture([-2.0, 2.0], [0.6, 0.6], [0.5, 0.5]), Normal(0.0, 2.0)),
    "Laplace, normal": (Laplace(0.0, 1.0), Normal(0.5, 1.5)),
    "near uniform, Laplace": (
        mixture([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0], [0.6] * 7, [1 / 7] * 7),
        Laplace(0.0, 1.0),
    ),
}
"""p_data and p_g; all but 1e-6 of their mass is on the grid."""

BATCH_SIZE = 4096
FIXED = dict.fromkeys(
    ("generator", "generator_optimizer", "latents"), "none: G is fresh samples of p_g"
)


def prove(paper: Paper) -> dict[str, Any]:
    """Check Proposition 1 and Theorem 1 for each pair of densities."""
    grid, steps = Grid.of(15, 6000), paper.sizes.proofs
    results: dict[str, Any] = {}
    figure, panels = paper.plt.subplots(
        1, len(PAIRS), figsize=(16, 4), layout="constrained", sharey=True
    )
    for (name, pair), panel in zip(PAIRS.items(), panels, strict=True):
        started = time.monotonic()
        trainer = train_against_fixed(paper, *pair, name)
        training = describe_training(trainer, steps=steps, batch_size=BATCH_SIZE, started=started)
        p_data, p_g = (distribution.log_prob(grid.x).exp() for distribution in pair)
        logits = logits_at(trainer, grid.x)
        gap = distance_to_optimum(logits.sigmoid(), p_data, p_g)
        value = value_of(p_data, p_g, logsigmoid(logits), logsigmoid(-logits), grid)
        best, other = optimal_discriminator(p_data, p_g), optimal_discriminator(p_g, p_data)
        best_value = value_of(p_data, p_g, best.log(), other.log(), grid)
        criterion = float(virtual_criterion(p_data, p_g, dx=grid.dx))
        loss, error = twice_the_loss(trainer, *pair, paper.sizes.numbers)
        results[name] = {
            "sup |D - D*|": gap,
            "V(D, G)": value,
            "-2 x loss": loss,
            "-2 x loss, standard error": error,
            "V(D*, G)": best_value,
            "C(G)": criterion,
            "C(G) where p_g = p_data": float(virtual_criterion(p_data, p_data, dx=grid.dx)),
            "training": training | FIXED,
        }
        paper.compare(f"{name}: sup |D - D*|", "0", f"{gap:.4f}")
        paper.compare("  -2 x loss of D; V(D, G)", f"{value:.4f}", f"{loss:.4f} +- {error:.4f}")
        paper.compare("  V(D*, G); C(G)", f"{criterion:.5f}", f"{best_value:.5f}")
        draw_densities(panel, grid.x, p_data, p_g, logits.sigmoid())
        panel.set(xlim=(-7, 7), title=f"{name}\nsup |D - D*| = {gap:.3f}")
    same = [found["C(G) where p_g = p_data"] for found in results.values()]
    paper.compare("C(G) where p_g = p_data", f"{GLOBAL_MINIMUM:.5f}", f"{max(same):.5f}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    paper.draw("proofs", figure)
    return results


def train_against_fixed(
    paper: Paper, data: Distribution, model: Distribution, name: str
) -> GANTrainer:
    """Train the discriminator on fresh samples; `model` takes the generator's place."""
    trainer = GANTrainer(
        nn.Linear(1, 1),
        Discriminator((1,), hidden=(64, 64)),
        discriminator_optimizer=adam(0.005, (0.9, 0.999)),
        latent_sampler=normal_latents(1),
        device=paper.options.device,
    )
    steps = paper.sizes.proofs
    schedule = CosineAnnealingLR(trainer.d.optimizer, T_max=steps)
    for _ in paper.tqdm(range(steps), desc=name, disable=None):
        real, fake = (p.sample((BATCH_SIZE, 1)).to(trainer.device) for p in (data, model))
        trainer.discriminator_step(Batch(real), fake)
        schedule.step()
    return trainer


def value_of(p_data: Tensor, p_g: Tensor, log_d: Tensor, log_other: Tensor, grid: Grid) -> float:
    """Return V(D, G) by quadrature (equation 3), where `log_other` is log(1 - D)."""
    return float((p_data * log_d + p_g * log_other).sum() * grid.dx)


def twice_the_loss(
    trainer: GANTrainer, data: Distribution, model: Distribution, n: int
) -> tuple[float, float]:
    """Return -2 times D's loss on n fresh samples of each, and its standard error."""
    real, fake = (logits_at(trainer, p.sample((n,))) for p in (data, model))
    error = ((logsigmoid(real).var() + logsigmoid(-fake).var()) / n).sqrt()
    return float(-2 * trainer.loss.discriminator(real, fake)), float(error)
