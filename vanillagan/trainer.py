"""The training loop of a GAN, to be read from top to bottom."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vanillagan import checkpoint, compatibility
from vanillagan.accumulation import Accumulation
from vanillagan.batch import Batch
from vanillagan.callback import Callback, CallbackList, TrainerHooks
from vanillagan.data.epoch_sampler import EpochSampler
from vanillagan.data.latents import LatentSampler, draw_latents, latent_sampler_of
from vanillagan.data.sources import BatchSource, open_source
from vanillagan.divergence import find_divergence
from vanillagan.ema import EMA
from vanillagan.losses import AdversarialLoss, BCEAdversarialLoss
from vanillagan.penalties import Penalty, total_penalty
from vanillagan.player import LRFactor, OptimizerFactory, Player, apply_lr_schedule
from vanillagan.progress import Progress
from vanillagan.results import DiscriminatorStep, GeneratorStep, History, StepResult
from vanillagan.runtime.device import autocast, resolve_device, to_device
from vanillagan.runtime.distributed import Distributed
from vanillagan.runtime.graphs import StepGraphs
from vanillagan.runtime.rng import RankRNG, RunRNG
from vanillagan.runtime.thread import TrainingThread
from vanillagan.sampling.draw import Labels, draw_samples, labels_in_turn
from vanillagan.traits import has_batch_norm, has_independent_samples
from vanillagan.validation import ReadOnly, check_bool, check_choice, check_integer, check_seed

__all__ = ["GANTrainer"]


class GANTrainer(TrainerHooks):
    """Trains a generator against a discriminator.

    The loop, with its hooks::

        on_fit_start
        for each epoch:
            on_epoch_start
            for each batch:
                on_step_start
                generator step, then discriminator step        (or the other way round), each:
                    loss, backward, on_before_optimizer_step, optimizer step
                on_step_end
            on_epoch_end
        on_fit_end                                             (or on_exception)

    A subclass may override the steps, what they are made of (`generate`, `draw_latents`,
    `run_generator`, `discriminate`, `penalty`, `update`), `unpack_batch`, `state_objects` and every
    hook, without its argument `trainer`.

    Args:
        generator: `forward(latents (N, latent_dim), labels=None) -> samples (N, *sample_shape)`.
        discriminator: `forward(samples (N, *sample_shape), labels=None) -> logits (N,)`.
        loss: Adversarial loss; `BCEAdversarialLoss()` by default.
        penalties: Added to the discriminator's loss, such as `[R1(0.5, every=4)]`.
        generator_optimizer: Creates the generator's optimizer; `adam()` by default.
        discriminator_optimizer: Creates the discriminator's optimizer; `adam()` by default.
        lr_schedule: Factor of both learning rates as a function of the fraction of the run that is
            done, in [0, 1], such as `linear_decay(0.5)`.
        discriminator_steps: Discriminator steps for each generator step (k of Algorithm 1), at
            least 1. Each reads a batch of its own, so that an epoch has 1/k as many steps.
        accumulate: Parts that each batch is split into, to use less memory (gradient accumulation).
            Their gradients are added up, so that a step is that of the whole batch, but for
            BatchNorm, which normalizes each part by itself.
        update_order: "generator_first", as in the reference implementation (PyTorch-GAN's gan.py):
            the discriminator's step reuses the fakes of the generator's. "discriminator_first", as
            in Algorithm 1: every step draws new latents.
        latent_sampler: Draws latents, `(n, torch.Generator) -> Tensor (n, ...)`; by default from
            N(0, 1) of `generator.latent_dim`.
        ema: Moving average of the generator's weights, such as `EMA(0.999)`; one that no other
            trainer uses.
        device: Device to train on, such as "cpu" or "cuda:0"; by default the accelerator, if any.
        precision: "fp32", or "bf16" for autocast to bfloat16.
        compile: Run the networks through `torch.compile` in training.
        cuda_graphs: Record training steps as CUDA graphs and replay them without Python. Values of
            Python that a step reads stay those of the recording, which each `fit` does anew.
        callbacks: Callbacks, called in this order within each priority.
        seed: Seed of latents and sample order, in [0, 2**63 - 1]. Initial weights depend on
            `torch.manual_seed` before the networks are created.

    Attributes:
        g: The generator as a `Player`: network, parameters, optimizer.
        d: The discriminator as a `Player`.
        callbacks: The callbacks, a sequence.
        progress: Steps and epochs done.
        history: Losses of each step, and recorded metrics.
        distributed: The processes that train together.
        rng: Random state of the run: latents and sample order.
        stop_reason: Why the last `fit` was stopped; None if it was not.

    Raises:
        ValueError, TypeError: An argument is invalid, or two of them do not go together.

    Source: Goodfellow et al., 2014 (arXiv 1406.2661), Algorithm 1.

    Example:
        >>> from vanillagan import Discriminator, Generator
        >>> trainer = GANTrainer(Generator(8, (2,)), Discriminator((2,)), device="cpu")
        >>> history = trainer.fit(torch.rand(256, 2) * 2 - 1, max_epochs=1, batch_size=64)
        >>> len(history), trainer.sample(5).shape
        (4, torch.Size([5, 2]))
    """

    # the players hold the networks and their optimizers: another network would not be trained
    generator = ReadOnly[nn.Module]("create a new trainer for it, or load weights into it")
    discriminator = ReadOnly[nn.Module]("create a new trainer for it, or load weights into it")
    callbacks = ReadOnly[CallbackList]("pass `callbacks` to a new trainer and `load` the run")

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        loss: AdversarialLoss | None = None,
        penalties: Sequence[Penalty] = (),
        generator_optimizer: OptimizerFactory | None = None,
        discriminator_optimizer: OptimizerFactory | None = None,
        lr_schedule: LRFactor | None = None,
        discriminator_steps: int = 1,
        accumulate: int = 1,
        update_order: Literal["generator_first", "discriminator_first"] = "generator_first",
        latent_sampler: LatentSampler | None = None,
        ema: EMA | None = None,
        device: torch.device | str | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
        compile: bool = False,
        cuda_graphs: bool = False,
        callbacks: Sequence[Callback] = (),
        seed: int = 0,
    ) -> None:
        self.loss = BCEAdversarialLoss() if loss is None else loss
        compatibility.check_networks(generator, discriminator, self.loss)
        compatibility.check_parts(penalties, callbacks, latent_sampler, ema, lr_schedule)
        self.penalties = tuple(penalties)
        self.lr_schedule = lr_schedule
        self.discriminator_steps = check_integer(
            "discriminator_steps", discriminator_steps, minimum=1
        )
        self.accumulate = check_integer("accumulate", accumulate, minimum=1)
        self.update_order = check_choice(
            "update_order", update_order, ("generator_first", "discriminator_first")
        )
        self.latent_sampler = latent_sampler or latent_sampler_of(generator)
        self.device = resolve_device(device)
        check_bool("compile", compile)
        check_bool("cuda_graphs", cuda_graphs)
        self.precision = check_choice("precision", precision, ("fp32", "bf16"))
        self.rng = RunRNG(check_seed(seed), self.device)

        self.distributed = Distributed(self.device)
        networks = generator.to(self.device), discriminator.to(self.device)
        self.distributed.broadcast(networks)
        self.g = Player("generator", networks[0], generator_optimizer, compile=compile)
        self.d = Player("discriminator", networks[1], discriminator_optimizer, compile=compile)
        self.generator, self.discriminator = self.g.network, self.d.network
        rng = self.rng.latents
        self._graphs = StepGraphs(self.device, rng, self.players) if cuda_graphs else None
        self.ema = ema
        if ema is not None:
            ema.start(self.generator)
        self.callbacks = CallbackList(callbacks, is_main_process=self.distributed.rank == 0)
        self.progress = Progress()
        self.history = History()
        self.stop_reason: str | None = None

        # BatchNorm needs two samples of each batch
        self._min_batch_size = 1 + (has_batch_norm(generator) or has_batch_norm(discriminator))
        # one pass over real and fake samples is faster, and equal where samples are independent
        self._single_pass = has_independent_samples(self.discriminator)
        self._accumulation = Accumulation(self.accumulate)
        self._checked_shape: torch.Size | None = None
        self._thread = TrainingThread()
        self._example_labels: Tensor | None = None

    def __repr__(self) -> str:
        done = f"{self.progress.step:,} steps, {self.progress.epoch:,} epochs"
        networks = f"{type(self.generator).__name__}, {type(self.discriminator).__name__}"
        return f"{type(self).__name__}({networks}, {self.loss!r}, {self.device}: {done})"

    @property
    def players(self) -> tuple[Player, Player]:
        """Both players, the generator first."""
        return self.g, self.d

    @property
    def eval_generator(self) -> nn.Module:
        """Generator that `sample` runs: that of the EMA if there is one, else `generator`.

        Its mode is not changed: without an EMA it may be in training mode.
        """
        return self.generator if self.ema is None else self.ema.network

    def fit(
        self,
        data: Any,
        *,
        max_epochs: int | None = None,
        max_steps: int | None = None,
        batch_size: int = 64,
    ) -> History:
        """Train until the run has reached `max_epochs` or `max_steps`, whichever comes first.

        Both are totals of the run, so that a script started again after `load` ends where it would
        have ended. A partial last batch is used, unless it is one sample and a network has
        BatchNorm.

        Args:
            data: A tensor or array (N, *sample_shape), a table of numbers, a DataLoader, anything
                with `__len__` and `__getitem__` (a Dataset, a list of images), or an iterable of
                batches or samples, which their shapes tell; in forms that `unpack_batch` takes.
            max_epochs: Number of passes over the data.
            max_steps: Number of training steps.
            batch_size: Real samples in a batch, over all ranks. A DataLoader or an iterable brings
                its own batches.

        Returns:
            The history of the run.

        Raises:
            ValueError, TypeError: An argument, the data or a batch is invalid.
            RuntimeError: `fit` is running already: this is a hook, or another thread.
        """
        self._thread.check("fit", in_hooks=False)
        # again: weights may have been frozen meanwhile
        compatibility.check_networks(self.generator, self.discriminator, self.loss)
        check_integer("batch_size", batch_size, minimum=1)
        self.progress.set_limits(max_epochs, max_steps)
        source = self._open(data, batch_size)
        if self._graphs is not None:
            self._graphs.forget()
        self.stop_reason = None
        self.generator.train()
        self.discriminator.train()
        with self._thread, self.distributed.running(), self.callbacks.running(self):
            while not self._is_done():
                self.callbacks.on_epoch_start(self)
                if self._run_epoch(source):
                    self.progress.count_epoch()
                    self.callbacks.on_epoch_end(self)
        return self.history

    def _run_epoch(self, source: BatchSource) -> bool:
        """Train on the rest of the current epoch; return True if the epoch is complete."""
        batches = source.batches(self.progress.epoch, skip=self.progress.resume_step)
        if not source.sampler.length:  # an iterable, which may end earlier on one rank
            batches = self.distributed.until_shortest(batches)
        for batch in batches:
            self.train_step(batch)
            if self._is_done():
                return self.progress.at_epoch_end
        return True

    def train_step(self, batch: Any) -> StepResult:
        """Take one generator step and `discriminator_steps` discriminator steps.

        Args:
            batch: Real samples, in a form that `unpack_batch` takes. It is split into
                `discriminator_steps` parts, one for each discriminator step.

        Returns:
            The results of the last step of either player.

        Raises:
            ValueError, TypeError: The batch is invalid; nothing has changed.
        """
        batch = self.prepare_batch(batch)
        if self.lr_schedule is not None:
            apply_lr_schedule(self.lr_schedule, self.progress, self.players)
        self.callbacks.on_step_start(self, batch)
        if self._graphs is None:
            result = self._steps(batch)
        else:
            result = self._graphs.run(self._steps, batch, due=self._due_penalties())
        if self.ema is not None:
            self.ema.update(self.generator)
        self.progress.count_step()
        self.history.append(result)
        self.callbacks.on_step_end(self, result)
        return result

    def _steps(self, batch: Batch) -> StepResult:
        """Take the steps of both players, each on `accumulate` parts of its batch."""
        run = self._accumulation.run
        parts = batch.split(self.discriminator_steps)
        if self.update_order == "generator_first":
            g_step = run(self.generator_step, parts[0])
            d_step = run(self.discriminator_step, parts[0], g_step.fake)
            for part in parts[1:]:
                d_step = run(self.discriminator_step, part)
        else:
            for part in parts:
                d_step = run(self.discriminator_step, part)
            g_step = run(self.generator_step, parts[-1])
        return StepResult(g_step, d_step)

    def generator_step(self, batch: Batch) -> GeneratorStep:
        """Generate one fake per real sample and take a generator step."""
        fake = self.generate(batch)
        with self.d.frozen():
            fake_logits = self.discriminate(fake, batch.labels)
            real_logits = self.discriminate(*batch) if self.loss.needs_real else None
            loss = self.loss.generator(fake_logits, real_logits)
            self.update(self.g, loss)
        return GeneratorStep(loss.detach(), fake.detach())

    def discriminator_step(self, batch: Batch, fake: Tensor | None = None) -> DiscriminatorStep:
        """Take a discriminator step on real samples and as many fakes, generated if not given."""
        if fake is None:
            with torch.no_grad():
                fake = self.generate(batch)
        fakes = Batch(fake, batch.labels)
        if self._single_pass:
            real_logits, fake_logits = self.discriminate(*Batch.join([batch, fakes])).chunk(2)
        else:
            real_logits, fake_logits = self.discriminate(*batch), self.discriminate(*fakes)
        loss = self.loss.discriminator(real_logits, fake_logits)
        penalty = self.penalty(batch, fake)
        self.update(self.d, loss if penalty is None else loss + penalty)
        losses = loss.detach(), None if penalty is None else penalty.detach()
        return DiscriminatorStep(*losses, real_logits.detach(), fake_logits.detach())

    def generate(self, batch: Batch) -> Tensor:
        """Generate one fake per real sample, with its label, from new latents.

        `sample` does not call it: override `run_generator` to change what is generated there, too.
        """
        latents = self.draw_latents(batch)
        with autocast(self.device, self.precision):
            fake = self.run_generator(self.g.forward, *Batch(latents, batch.labels).inputs)
        compatibility.check_fake(fake, batch.samples)
        return fake.to(batch.samples.dtype)

    def draw_latents(self, batch: Batch) -> Tensor:
        """Draw one latent per real sample from the random state of the run."""

        def draw(n: int) -> Tensor:
            # every rank draws the latents of all ranks, so that they do not depend on their number
            n *= self.distributed.world_size
            return self.distributed.shard(draw_latents(self.latent_sampler, n, self.rng.latents))

        latents = self._accumulation.latents(len(batch.samples), draw)
        # latents that are integers, such as tokens, keep their dtype
        dtype = batch.samples.dtype if latents.is_floating_point() else None
        return to_device(latents, self.device, dtype)

    def run_generator(
        self, generator: Callable[..., Tensor], latents: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """Map latents to samples, in training and in `sample`, with the network it is given."""
        return generator(*Batch(latents, labels).inputs)

    def discriminate(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the discriminator's logits, converted to the samples' dtype for the loss."""
        with autocast(self.device, self.precision):
            logits = self.d.judge(Batch(samples, labels))
        compatibility.check_logits(logits)
        return logits.to(samples.dtype)

    def penalty(self, batch: Batch, fake: Tensor) -> Tensor | None:
        """Return the sum of the penalties that are due in this step; None if none is."""

        def critic(samples: Tensor) -> Tensor:
            return self.d.judge(Batch(samples, batch.labels), eager=True)

        due = [self.penalties[index] for index in self._due_penalties()]
        return total_penalty(due, critic, batch.samples, fake) if due else None

    def _due_penalties(self) -> tuple[int, ...]:
        step = self.progress.step
        return tuple(i for i, penalty in enumerate(self.penalties) if step % penalty.every == 0)

    def update(self, player: Player, loss: Tensor) -> None:
        """Add up the gradients of a batch, and take one optimizer step for `player`."""
        if self._accumulation.is_first:
            player.optimizer.zero_grad()
        self._accumulation.weight(player.name, loss).backward()
        if self._accumulation.is_last:
            self.distributed.average_gradients(player.parameters)
            self.callbacks.on_before_optimizer_step(self, player)
            player.optimizer.step()

    def unpack_batch(self, batch: Any) -> Batch:
        """Convert what the data yields to a `Batch`, as `Batch.of` does; override it for others."""
        return Batch.of(batch)

    def prepare_batch(self, batch: Any) -> Batch:
        """Unpack a batch, check it, and copy it to the device."""
        unpacked = batch if isinstance(batch, Batch) else self.unpack_batch(batch)
        smallest = self._min_batch_size * self.discriminator_steps * self.accumulate
        checked = compatibility.check_batch(unpacked, self.generator, smallest=smallest)
        prepared = checked.to(self.device, self.g.dtype)
        if prepared.samples.shape[1:] != self._checked_shape:
            # once for each shape, so that an error comes before anything has changed
            compatibility.check_first_batch(self, prepared, given=unpacked)
            self._checked_shape = prepared.samples.shape[1:]
            self._example_labels = prepared.labels
        return prepared

    def sample(
        self,
        n: int,
        *,
        labels: Labels = None,
        latents: Tensor | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Draw n samples (n, *sample_shape) in eval mode, with the EMA weights if there are any.

        The training state does not change. See `sampling.draw_samples` for the arguments.

        Raises:
            RuntimeError: `fit` is running in another thread.
        """
        self._thread.check("sample")
        return draw_samples(
            self.eval_generator,
            n,
            labels=labels,
            latents=latents,
            latent_sampler=self.latent_sampler,
            seed=seed,
            run=self.run_generator,
        )

    def sample_labels(self, n: int) -> Tensor | None:
        """Return labels of n samples to look at or to measure; None without conditions.

        Classes are taken in turn; labels for a `label_shape` are those of the first batch.
        """
        return labels_in_turn(self.generator, n, self._example_labels)

    def state_objects(self) -> dict[str, checkpoint.Stateful]:
        """Return all that the future of the run depends on, by name: what a checkpoint holds.

        A subclass adds its own: `return super().state_objects() | {"mine": self.mine}`.
        """
        objects: dict[str, checkpoint.Stateful] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "generator_optimizer": self.g.optimizer,
            "discriminator_optimizer": self.d.optimizer,
            "progress": self.progress,
            "history": self.history,
            "run_rng": self.rng,
            "global_rng": RankRNG(self.distributed, self.device),
            "callbacks": self.callbacks,
        }
        return objects if self.ema is None else objects | {"ema": self.ema}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, whole or not at all; all ranks call it, and rank 0 writes.

        Training resumes from it bit for bit on the CPU. Missing folders are created. If the
        run has diverged, a warning says so.

        Raises:
            TypeError: A state holds something other than tensors and primitives.
            RuntimeError: `fit` is running in another thread.
        """
        self._thread.check("save")
        content = checkpoint.collect(self.state_objects())
        if self.distributed.rank == 0 and (fault := find_divergence(self.state_objects())):
            warnings.warn(f"saving a run that has diverged: {fault}", stacklevel=2)
        self.distributed.on_rank_0(lambda: checkpoint.write(path, content))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Restore a checkpoint of the same networks, optimizers and callbacks; `fit` continues it.

        Callbacks may be added, and an EMA, which starts at the generator's weights. Settings of
        optimizers are the checkpoint's, but for the learning rates with `lr_schedule`; a warning
        names those that differ.

        Raises:
            FileNotFoundError: There is no such file.
            CheckpointError: It is not a checkpoint, is damaged, or does not fit; nothing changed.
            RuntimeError: `fit` is running: this is a hook, or another thread.
        """
        self._thread.check("load", in_hooks=False)
        content = self.distributed.on_rank_0(lambda: checkpoint.read(path))
        states = content["states"]
        if self.ema is not None:  # an average that the run had not yet
            states.setdefault("ema", EMA.initial_state(states.get("generator")))
        if self._graphs is not None:  # optimizer states come to other memory, also after an error
            self._graphs.forget()
        with compatibility.warning_of_settings(self):
            checkpoint.restore(self.state_objects(), content)

    def load_weights(self, path: str | os.PathLike[str], *, strict: bool = True) -> None:
        """Start from the weights of both networks in a checkpoint, such as to fine-tune them.

        Optimizers, callbacks and progress stay as they are, and an EMA starts at the generator's
        weights.

        Args:
            path: A file written by `save`, also of a trainer with other optimizers and callbacks.
            strict: If False, weights whose names or shapes do not fit are left out, with a warning.

        Raises:
            FileNotFoundError: There is no such file.
            CheckpointError: It is not a checkpoint, is damaged, or does not fit; nothing changed.
            RuntimeError: `fit` is running in another thread.
        """
        self._thread.check("load_weights")
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        content = self.distributed.on_rank_0(lambda: checkpoint.read(path))
        checkpoint.restore_weights(networks, content, strict=strict)
        if self.ema is not None:
            self.ema.load_state_dict(EMA.initial_state(self.generator.state_dict()))

    def stop(self, reason: str) -> None:
        """End `fit` after the current step; several ranks end together, after the next one."""
        self.stop_reason = reason

    def _open(self, data: Any, batch_size: int) -> BatchSource:
        """Create the batch source and locate the resume position in the current epoch."""
        sampler = EpochSampler(
            self.rng.seed,
            batches_per_step=self.discriminator_steps,
            smallest_batch=self._min_batch_size * self.accumulate,
            rank=self.distributed.rank,
            world_size=self.distributed.world_size,
        )
        network, unpack = self.generator, self.unpack_batch
        source = open_source(data, sampler, batch_size=batch_size, unpack=unpack, generator=network)
        compatibility.check_classes(data, network)
        signature = source.sampler.signature
        arguments = asdict(self.progress) | signature
        steps_per_epoch = self.distributed.start_fit(arguments, source.steps_per_epoch)
        self.progress.set_data(signature, steps_per_epoch)
        return source

    def _is_done(self) -> bool:
        # all ranks call it at the same points, and learn of a stop on any of them a step later
        if self.distributed.any(self.stop_reason is not None, delayed=True):
            self.stop_reason = self.stop_reason or "stopped by another rank"
            return True
        return self.progress.is_complete
