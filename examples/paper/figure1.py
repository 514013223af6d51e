"""Figure 1: training in one dimension, from disjoint densities to p_g = p_data."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from paper.densities import Grid, distance_to_optimum, draw_densities, logits_at, mixture
from paper.report import Paper, describe_training
from vanillagan import Callback, Discriminator, GANTrainer, StepResult
from vanillagan.callbacks import Progress
from vanillagan.data import normal_latents
from vanillagan.player import adam, cosine_decay
from vanillagan.theory import GLOBAL_MINIMUM, virtual_criterion

DATA = mixture([-1.5, 1.2], [0.5, 0.7], [0.4, 0.6])
BATCH_SIZE = 512


def figure_1(paper: Paper) -> dict[str, Any]:
    """Draw four steps of a training run in one dimension, and C(G) on its way to -log 4."""
    steps = paper.sizes.figure1
    figure, panels = paper.plt.subplots(
        2, 4, figsize=(16, 5.5), height_ratios=(3, 1), layout="constrained", sharex=True
    )
    evaluation = Evaluation(steps, paper.sizes.numbers, panels)
    trainer = GANTrainer(
        nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)),
        Discriminator((1,), hidden=(64, 64)),
        generator_optimizer=adam(0.001),
        discriminator_optimizer=adam(0.003),
        lr_schedule=cosine_decay(),
        discriminator_steps=5,
        update_order="discriminator_first",
        latent_sampler=normal_latents(1),
        device=paper.options.device,
        callbacks=[Progress(), evaluation],
        seed=paper.options.seed,
    )
    started = time.monotonic()
    trainer.fit(DATA.sample((2**18, 1)), max_steps=steps, batch_size=BATCH_SIZE)
    training = describe_training(trainer, steps=steps, batch_size=BATCH_SIZE, started=started)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    paper.draw("figure1", figure)
    values = -2 * torch.tensor(trainer.history.discriminator_loss)
    draw_criterion(paper, evaluation.criteria, values)

    criterion, gap = evaluation.criteria[steps], evaluation.gaps[steps]
    paper.compare("figure 1: C(G) at the end", f"{GLOBAL_MINIMUM:.4f}", f"{criterion:.4f}")
    paper.compare("  sup |D - D*| at the end", "0", f"{gap:.3f}")
    return {
        "sup |D - D*|": evaluation.gaps,
        "C(G)": evaluation.criteria,
        "training": training,
    }


class Evaluation(Callback):
    """Compute C(G) at steps that are even on a logarithmic scale, and draw four of them.

    p_g is a histogram of generated samples. The latents are n evenly spaced quantiles, so that it
    has no sampling noise.
    """

    def __init__(self, steps: int, n: int, panels: Any) -> None:
        self.n = n
        self.grid = Grid.of(8, 320)
        self.p_data = DATA.cdf(self.grid.edges).diff() / self.grid.dx
        self.criteria: dict[int, float] = {}
        self.gaps: dict[int, float] = {}
        shown = (max(1, steps // 100), steps // 10, steps * 2 // 5, steps)
        self._panels = dict(zip(shown, panels.T, strict=True))
        self._steps = {round(steps ** (i / 60)) for i in range(61)} | set(shown)

    def histogram(self, x: Tensor) -> Tensor:
        """Return the density of samples in each bin; the last bins hold those beyond the grid."""
        edges = self.grid.edges
        inside = x.double().cpu().flatten().clamp(edges[0], edges[-1])
        return torch.histogram(inside, edges, density=True).hist

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        step = trainer.progress.step
        if step not in self._steps:
            return
        p_g = self.histogram(trainer.sample(self.n, latents=quantiles(self.n)))
        self.criteria[step] = float(virtual_criterion(self.p_data, p_g, dx=self.grid.dx))
        if step in self._panels:
            self._draw(trainer, p_g, *self._panels[step])

    def _draw(self, trainer: GANTrainer, p_g: Tensor, above: Any, beneath: Any) -> None:
        """Draw a column of figure 1: densities and D, and the map from z to x = G(z)."""
        step, d = trainer.progress.step, logits_at(trainer, self.grid.x).sigmoid()
        self.gaps[step] = gap = distance_to_optimum(d, self.p_data, p_g)
        draw_densities(above, self.grid.x, self.p_data, p_g, d)
        title = f"step {step:,}: C(G) = {self.criteria[step]:.4f}\nsup |D - D*| = {gap:.3f}"
        above.set(xlim=(-4, 4), title=title)
        z = quantiles(31)
        x = trainer.sample(len(z), latents=z).cpu()
        beneath.plot(torch.cat([z, x], 1).T, (0, 1), color="gray", linewidth=0.7)
        beneath.hlines((0, 1), -4, 4, color="black", linewidth=1)
        beneath.set(yticks=(0, 1), yticklabels=("z", "x = G(z)"))
        beneath.spines[:].set_visible(False)


def quantiles(n: int) -> Tensor:
    """Return n evenly spaced quantiles of N(0, 1), shape (n, 1)."""
    return Normal(0.0, 1.0).icdf((torch.arange(n) + 0.5) / n).view(-1, 1)


def draw_criterion(paper: Paper, criteria: dict[int, float], values: Tensor) -> None:
    """Draw C(G) and -2 times the discriminator's loss over the steps."""
    figure, axes = paper.plt.subplots(figsize=(8, 4.5), layout="constrained")
    steps = range(1, len(values) + 1)
    axes.plot(
        steps, values, color="blue", alpha=0.3, linewidth=0.6, label="-2 x loss of D, a batch"
    )
    axes.plot(criteria.keys(), criteria.values(), color="green", label="C(G)")
    axes.axhline(GLOBAL_MINIMUM, color="black", linestyle=":", label="-log 4, its minimum")
    axes.set(xscale="log", xlabel="steps of G", ylabel="value V(D, G)", ylim=(-1.6, 0.05))
    axes.legend()
    paper.draw("figure1_criterion", figure)
