"""Training loops of other libraries, each written as in its documentation.

They train the networks of the reference implementation on MNIST through a DataLoader, with
PyTorch's default Adam. The extra `bench` installs them.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.benchmarks.loops import BETAS, LATENT_DIM, LR, Options, plain_loader, reference_networks
from tests.benchmarks.turns import Tick

FOREVER = 10**6
"""Number of epochs."""


def ignite(options: Options, tick: Tick) -> None:
    """Run the step of pytorch-ignite's DCGAN example, with its progress bar and running averages.

    Source: github.com/pytorch/ignite, examples/gan/dcgan.py.
    """
    from ignite.engine import Engine, Events
    from ignite.handlers import ProgressBar
    from ignite.metrics import RunningAverage

    generator, discriminator = reference_networks(options, sigmoid=True)
    digits = plain_loader(options).dataset
    loader = DataLoader(digits, batch_size=options.batch_size, shuffle=True, drop_last=True)
    bce = nn.BCELoss()
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=LR, betas=BETAS)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=LR, betas=BETAS)
    real_labels = torch.ones(options.batch_size, 1)
    fake_labels = torch.zeros(options.batch_size, 1)

    def discriminate(images: Tensor) -> Tensor:
        with options.autocast():
            probabilities: Tensor = discriminator(images)
        return probabilities.float()

    def step(engine: Any, batch: tuple[Tensor, Tensor]) -> dict[str, float]:
        real, _labels = batch

        discriminator.zero_grad()
        probabilities = discriminate(real)
        real_loss = bce(probabilities, real_labels)
        real_probability = probabilities.mean().item()
        real_loss.backward()
        with options.autocast():
            fake = generator(torch.randn(options.batch_size, LATENT_DIM))
        probabilities = discriminate(fake.detach())
        fake_loss = bce(probabilities, fake_labels)
        fake_probability = probabilities.mean().item()
        fake_loss.backward()
        d_loss = real_loss + fake_loss
        optimizer_d.step()

        generator.zero_grad()
        probabilities = discriminate(fake)
        g_loss = bce(probabilities, real_labels)
        fooled_probability = probabilities.mean().item()
        g_loss.backward()
        optimizer_g.step()
        return {
            "d_loss": d_loss.item(),
            "g_loss": g_loss.item(),
            "real_probability": real_probability,
            "fake_probability": fake_probability,
            "fooled_probability": fooled_probability,
        }

    names = ["d_loss", "g_loss", "real_probability", "fake_probability", "fooled_probability"]
    engine = Engine(step)
    for name in names:
        average = RunningAverage(alpha=0.98, output_transform=lambda out, name=name: out[name])
        average.attach(engine, name)
    ProgressBar().attach(engine, metric_names=names)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: tick())
    engine.run(loader, max_epochs=FOREVER)


def lightning(options: Options, tick: Tick) -> None:
    """Run Lightning's GAN example: manual optimization, toggled optimizers, losses on its bar.

    Source: github.com/Lightning-AI/pytorch-lightning,
    examples/pytorch/domain_templates/generative_adversarial_net.py.
    """
    from lightning.pytorch import Callback, LightningModule, Trainer

    class GAN(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.generator, self.discriminator = reference_networks(options, sigmoid=False)

        def loss(self, logits: Tensor, target: float) -> Tensor:
            labels = torch.full((len(logits), 1), target).type_as(logits)
            return F.binary_cross_entropy_with_logits(logits, labels)

        def training_step(self, batch: tuple[Tensor, Tensor]) -> None:
            real, _labels = batch
            optimizer_g, optimizer_d = self.optimizers()
            latent = torch.randn(len(real), LATENT_DIM).type_as(real)

            self.toggle_optimizer(optimizer_g)
            g_loss = self.loss(self.discriminator(self.generator(latent)), 1.0)
            optimizer_g.zero_grad()
            self.manual_backward(g_loss)
            optimizer_g.step()
            self.untoggle_optimizer(optimizer_g)

            self.toggle_optimizer(optimizer_d)
            real_loss = self.loss(self.discriminator(real), 1.0)
            fake_loss = self.loss(self.discriminator(self.generator(latent).detach()), 0.0)
            d_loss = (real_loss + fake_loss) / 2
            optimizer_d.zero_grad()
            self.manual_backward(d_loss)
            optimizer_d.step()
            self.untoggle_optimizer(optimizer_d)
            self.log_dict({"g_loss": g_loss, "d_loss": d_loss}, prog_bar=True)

        def configure_optimizers(self) -> list[torch.optim.Optimizer]:
            return [
                torch.optim.Adam(network.parameters(), lr=LR, betas=BETAS)
                for network in (self.generator, self.discriminator)
            ]

    class Ticking(Callback):
        def on_train_batch_end(self, *arguments: object) -> None:
            tick()

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=FOREVER,
            precision={"fp32": "32-true", "bf16": "bf16-mixed"}[options.precision],
            callbacks=[Ticking()],
            default_root_dir=folder,
        )
        trainer.fit(GAN(), plain_loader(options))


def torchgan(options: Options, tick: Tick) -> None:
    """Run torchgan's Trainer with the minimax losses, as in its "getting started".

    Source: torchgan.readthedocs.io, a basic example.
    """
    from torchgan.losses import MinimaxDiscriminatorLoss, MinimaxGeneratorLoss
    from torchgan.models import Discriminator, Generator
    from torchgan.trainer import Trainer

    if options.precision != "fp32":
        raise NotImplementedError("torchgan's Trainer has no mixed precision")
    generator, discriminator = reference_networks(options, sigmoid=False)

    class ReferenceGenerator(Generator):
        def __init__(self) -> None:
            super().__init__(LATENT_DIM)
            self.layers = generator

        def forward(self, latent: Tensor) -> Tensor:
            return self.layers(latent)

    class ReferenceDiscriminator(Discriminator):
        def __init__(self) -> None:
            super().__init__(1)
            self.layers = discriminator

        def forward(self, images: Tensor) -> Tensor:
            return self.layers(images)

    class TickingTrainer(Trainer):
        def train_iter_custom(self) -> None:  # comes before each step
            tick()

    adam = {"name": torch.optim.Adam, "args": {"lr": LR, "betas": BETAS}}
    with tempfile.TemporaryDirectory() as folder:
        trainer = TickingTrainer(
            {
                "generator": {"name": ReferenceGenerator, "optimizer": adam},
                "discriminator": {"name": ReferenceDiscriminator, "optimizer": adam},
            },
            [MinimaxGeneratorLoss(), MinimaxDiscriminatorLoss()],
            device=torch.device("cpu"),
            epochs=FOREVER,
            sample_size=64,
            checkpoints=f"{folder}/checkpoints/gan",
            recon=f"{folder}/images",
        )
        trainer(plain_loader(options))
