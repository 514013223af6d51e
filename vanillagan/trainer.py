"""The training loop of a GAN, to be read from top to bottom."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from vanillagan import checkpoint
from vanillagan.checks import (
    check_batch,
    check_fakes,
    check_game,
    warn_of_missing_classes,
    warn_of_range,
)
from vanillagan.data import Batch, LatentSampler, draw_latent, latent_sampler_of
from vanillagan.ema import EMA
from vanillagan.errors import check_choice, check_integer, check_kind, check_seed
from vanillagan.hooks import (
    Callback,
    CallbackStates,
    OwnHooks,
    Player,
    StepResult,
    check_hook_names,
    find_listeners,
)
from vanillagan.losses import AdversarialLoss, BCEAdversarialLoss
from vanillagan.networks.blocks import has_batch_norm, scores_samples_alone
from vanillagan.optimizers import OptimizerFactory, make_player
from vanillagan.penalties import Penalty
from vanillagan.progress import History, Progress
from vanillagan.runtime import (
    GlobalRNG,
    LatentRNG,
    Processes,
    ProcessRNG,
    autocast,
    resolve_device,
    to_device,
)
from vanillagan.sampling import Labels, draw_samples
from vanillagan.sources import Order, Source, open_source

__all__ = ["DiscriminatorStep", "GANTrainer", "GeneratorStep"]

UpdateOrder = Literal["generator_first", "discriminator_first"]


class DiscriminatorStep(NamedTuple):
    """What a step of the discriminator gives, detached, as in `StepResult`.

    Attributes:
        loss: Its adversarial loss, a scalar, without penalties.
        penalty: What penalties have added to it, a scalar; None where none was due.
        real_scores: The scores of the real samples, shape (N,).
        fake_scores: The scores of the fakes, shape (N,).
    """

    loss: Tensor
    penalty: Tensor | None
    real_scores: Tensor
    fake_scores: Tensor


class GeneratorStep(NamedTuple):
    """What a step of the generator gives, detached.

    Attributes:
        loss: Its adversarial loss, a scalar.
        fake: The fakes that the loss was computed on, shape (N, *sample_shape).
    """

    loss: Tensor
    fake: Tensor


class GANTrainer(OwnHooks):
    """Plays a generator against a discriminator.

    The loop, which `fit` and `train_step` are::

        on_fit_start
        for each epoch:
            on_epoch_start
            for each batch:
                on_step_start
                the generator's step, then the discriminator's     (or the other way round)
                    loss, backward, on_before_optimizer_step, optimizer step
                on_step_end
            on_epoch_end
        on_fit_end                                                 (or on_exception)

    A subclass overrides any of the steps, which are made of `generate`, `score`, `penalty` and
    `descend`; or `unpack_batch`, `parts`, or a hook of `Callback` (without its argument `trainer`).

    Args:
        generator: `forward(latent, labels=None) -> samples (N, *sample_shape)`.
        discriminator: `forward(samples, labels=None) -> scores`, one for each sample.
        loss: The game.
        penalties: Added to the discriminator's loss.
        generator_optimizer: Makes the generator's optimizer from its weights.
        discriminator_optimizer: Makes the discriminator's.
        discriminator_steps: The k of Algorithm 1: the discriminator's steps for one of the
            generator's, each on real samples and noise of its own. At least 1.
        update_order: "generator_first", as in the source: the generator's step comes first, and the
            discriminator's reuses its fakes. "discriminator_first", as in Algorithm 1 of the paper:
            k steps of the discriminator, then one of the generator, all with fresh noise.
        latent: Draws the noise, `(n, torch.Generator) -> Tensor`; by default N(0, 1) of
            `generator.latent_dim`.
        ema: Averages the generator's weights: `EMA(0.999)`. A new one for each trainer.
        device: Where to train, such as "cpu" or "cuda:0"; by default the accelerator, if any.
        precision: "fp32", or "bf16" for autocast to bfloat16.
        compile: Whether the networks run through `torch.compile` in training.
        callbacks: Watch and steer the training; their hooks run in this order.
        seed: Fixes the noise and the order of samples, in [0, 2**63 - 1]. (The weights are drawn
            before there is a trainer: `torch.manual_seed` fixes those.)

    Attributes:
        generator: The generator.
        discriminator: The discriminator.
        players: Both sides of the game, "generator" and "discriminator", each a `Player`.
        ema: The average of the generator's weights, or None.
        progress: How far the run is.
        history: The losses of each step.
        device: Where it trains.
        stop_reason: Why the last `fit` was stopped, or None.

    Raises:
        ValueError, TypeError: An argument is wrong, or two of them don't go together.

    Source: Goodfellow et al., 2014 (arXiv 1406.2661), Algorithm 1.

    Example:
        >>> from vanillagan import Discriminator, Generator
        >>> trainer = GANTrainer(Generator(8, (2,)), Discriminator((2,)), device="cpu")
        >>> history = trainer.fit(torch.rand(256, 2) * 2 - 1, epochs=1, batch_size=64)
        >>> len(history), trainer.sample(5).shape
        (4, torch.Size([5, 2]))
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_hook_names(cls)

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        loss: AdversarialLoss | None = None,
        penalties: Sequence[Penalty] = (),
        generator_optimizer: OptimizerFactory | None = None,
        discriminator_optimizer: OptimizerFactory | None = None,
        discriminator_steps: int = 1,
        update_order: UpdateOrder = "generator_first",
        latent: LatentSampler | None = None,
        ema: EMA | None = None,
        device: torch.device | str | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
        compile: bool = False,
        callbacks: Sequence[Callback] = (),
        seed: int = 0,
    ) -> None:
        self.loss = BCEAdversarialLoss() if loss is None else loss
        check_game(generator, discriminator, self.loss, penalties, callbacks, latent, ema)
        self.penalties = tuple(penalties)
        self.callbacks = tuple(callbacks)
        self.discriminator_steps = check_integer(
            "discriminator_steps", discriminator_steps, minimum=1
        )
        self.update_order = check_choice(
            "update_order", update_order, ("generator_first", "discriminator_first")
        )
        self.device = resolve_device(device)
        self.precision = check_choice("precision", precision, ("fp32", "bf16"))
        self.latent = latent_sampler_of(generator) if latent is None else latent
        check_seed(seed)

        self.generator = generator.to(self.device)
        self.discriminator = discriminator.to(self.device)
        self.processes = Processes(self.device)
        self.processes.broadcast([generator, discriminator])
        self.players: dict[str, Player] = {
            "generator": make_player("generator", generator, generator_optimizer, compile),
            "discriminator": make_player(
                "discriminator", discriminator, discriminator_optimizer, compile
            ),
        }
        self.ema = ema
        if ema is not None:
            ema.start(generator)

        self.progress = Progress()
        self.history = History()
        self.stop_reason: str | None = None
        normalizes = has_batch_norm(generator) or has_batch_norm(discriminator)
        self._smallest_batch = 2 if normalizes else 1
        self._checked_shape: torch.Size | None = None
        self._scores_jointly = scores_samples_alone(discriminator)
        self._order = Order(seed)
        self._latent_rng = LatentRNG(seed)
        main = self.processes.rank == 0
        heard = [callback for callback in callbacks if main or not callback.main_process_only]
        self._listeners = find_listeners(self, heard)

    # -- the loop ----------------------------------------------------------------------------------

    def fit(
        self,
        data: Any,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int = 64,
    ) -> History:
        """Trains until the run has had so many epochs or steps, whichever comes first.

        Both are totals for the run, so that a script restarted after `load` goes on to the same
        end. A partial last batch is used; one of a single sample is left out where a network has
        BatchNorm, which can't normalise it.

        Args:
            data: A tensor (N, *sample_shape), a Dataset, a DataLoader, or any iterable of batches;
                see `unpack_batch` for what a batch may be. Tensors and datasets that are tensors
                are read in memory.
            epochs: Passes over the data.
            steps: Training steps.
            batch_size: Real samples in a batch, over all processes; each step reads
                `discriminator_steps` batches. A DataLoader or an iterable brings its own.

        Returns:
            The losses of each step of the run so far.

        Raises:
            ValueError, TypeError: An argument is wrong, the data is empty, or a batch in it is bad.
        """
        for name, total in (("epochs", epochs), ("steps", steps)):
            if total is not None:
                check_integer(name, total, minimum=1)
        if epochs is None and steps is None:
            raise ValueError("`epochs` or `steps` must be given, got None for both")
        check_integer("batch_size", batch_size, minimum=1)
        first_step, place = self.progress.step, (self._order, self.progress.batch)
        source = self._open(data, batch_size)
        self.progress.epochs, self.progress.steps = epochs, steps
        self.stop_reason = None
        if self.progress.is_complete:
            warnings.warn(
                f"nothing is left to do: the run has had {self.progress.epoch} epochs and "
                f"{self.progress.step} steps, and `epochs` and `steps` are totals, got "
                f"epochs={epochs}, steps={steps}",
                stacklevel=2,
            )
        self.generator.train()
        self.discriminator.train()
        try:
            self._call("on_fit_start")
            while not self._is_over():
                self._call("on_epoch_start")
                self._run_epoch(source)
            self._call("on_fit_end")
        except BaseException as error:
            if self.progress.step == first_step:  # data that can't be used leaves no trace
                self._order, self.progress.batch = place
            self._call("on_exception", error)
            raise
        return self.history

    def _run_epoch(self, source: Source) -> None:
        """Runs what is left of the epoch under way, or as much of it as is wanted."""
        if self._is_over():
            return
        for batch in self._batches(source):
            self.train_step(batch)
            if self._is_over() and not self.progress.at_epoch_end:
                return
        if self.progress.batch == 0:
            raise ValueError(
                f"`data` must give {self.discriminator_steps} batches or more in each epoch, got "
                f"fewer in epoch {self.progress.epoch} (an iterator can be read only once)"
            )
        self.progress.count_epoch()
        self._call("on_epoch_end")

    def train_step(self, batch: Any) -> StepResult:
        """Plays one round: the steps of the discriminator, and one of the generator.

        Args:
            batch: The real samples of the whole round, in any form that `unpack_batch` takes. With
                `discriminator_steps=k` it is split into k parts, one for each of the
                discriminator's steps.

        Returns:
            The losses and scores of the last step of either player, as tensors on the device.

        Raises:
            ValueError, TypeError: The batch is bad; nothing has changed.
        """
        batch = self._prepare(batch)
        self._call("on_step_start", batch)
        parts = batch.split(self.discriminator_steps)
        if self.update_order == "generator_first":
            for_generator = self.generator_step(parts[0])
            for_discriminator = self.discriminator_step(parts[0], for_generator.fake)
            for part in parts[1:]:
                for_discriminator = self.discriminator_step(part)
        else:
            for part in parts:
                for_discriminator = self.discriminator_step(part)
            for_generator = self.generator_step(parts[-1])
        if self.ema is not None:
            self.ema.update(self.generator)
        result = StepResult(
            for_discriminator.loss,
            for_generator.loss,
            for_discriminator.penalty,
            for_discriminator.real_scores,
            for_discriminator.fake_scores,
        )
        self.progress.count_step()
        self.history.append(result)
        self._call("on_step_end", result)
        return result

    def generator_step(self, batch: Batch) -> GeneratorStep:
        """Makes as many fakes as the batch has samples, and moves the generator to pass them.

        Args:
            batch: Real samples on the device; the labels and, for a relativistic game, the samples
                are read.

        Returns:
            The loss, and the fakes before the generator moved, both detached.
        """
        fake = self.generate(batch)
        with self.players["discriminator"].idle():
            fake_scores = self.score(Batch(fake, batch.labels))
            real_scores = self.score(batch) if self.loss.needs_real else None
            loss = self.loss.generator(fake_scores, real_scores)
            self.descend(self.players["generator"], loss)
        return GeneratorStep(loss.detach(), fake.detach())

    def discriminator_step(self, batch: Batch, fake: Tensor | None = None) -> DiscriminatorStep:
        """Moves the discriminator to tell the batch's samples from fakes.

        Args:
            batch: Real samples on the device.
            fake: As many fakes, detached; fresh ones are made if there are none.

        Returns:
            The loss, the penalties, and the scores, all detached.
        """
        if fake is None:
            with torch.no_grad():
                fake = self.generate(batch)
        fakes = Batch(fake, batch.labels)
        if self._scores_jointly:
            real_scores, fake_scores = self.score(Batch.join([batch, fakes])).chunk(2)
        else:
            real_scores, fake_scores = self.score(batch), self.score(fakes)
        loss = self.loss.discriminator(real_scores, fake_scores)
        penalty = self.penalty(batch, fake)
        self.descend(self.players["discriminator"], loss if penalty is None else loss + penalty)
        return DiscriminatorStep(
            loss.detach(),
            None if penalty is None else penalty.detach(),
            real_scores.detach(),
            fake_scores.detach(),
        )

    def generate(self, batch: Batch) -> Tensor:
        """Makes as many fakes as the batch has samples, from fresh noise, of its labels if any.

        Raises:
            TypeError: `latent` gives no tensor.
            ValueError: The fakes are of another shape than the samples.
        """
        dtype, shape = batch.samples.dtype, batch.samples.shape[1:]
        # the first time that fakes of a shape are made, an error leaves no trace
        parts: list[checkpoint.Stateful] = [self.generator, self._latent_rng, GlobalRNG()]
        with checkpoint.undone_on_error(*([] if shape == self._checked_shape else parts)):
            latent = self.draw_latent(batch)
            with autocast(self.device, self.precision):
                fake = self.make_fakes(latent, batch)
            check_fakes(fake, batch.samples)
        self._checked_shape = shape
        return fake.to(dtype)

    def make_fakes(self, latent: Tensor, batch: Batch) -> Tensor:
        """What the generator makes of the noise, given what it may read of the batch: its labels.

        A generator that reads more, such as images to be changed, overrides this.
        """
        fake: Tensor = self.players["generator"].forward(*Batch(latent, batch.labels).inputs)
        return fake

    def draw_latent(self, batch: Batch) -> Tensor:
        """Draws fresh noise for as many fakes as the batch has samples, from the run's own state.

        Raises:
            TypeError: `latent` gives no tensor.
        """
        n = len(batch.samples) * self.processes.count
        latent = self.processes.share(draw_latent(self.latent, n, self._latent_rng.generator))
        dtype = batch.samples.dtype if latent.is_floating_point() else None
        return latent.to(self.device, dtype)

    def score(self, batch: Batch) -> Tensor:
        """The discriminator's scores of samples, in full precision: what losses are made of."""
        with autocast(self.device, self.precision):
            scores = self.players["discriminator"].forward(*batch.inputs)
        return scores.to(batch.samples.dtype)

    def penalty(self, batch: Batch, fake: Tensor) -> Tensor | None:
        """The sum of the penalties that are due in this step, in full precision; None if none is.

        They run on the network itself, since a compiled one has no second derivative.
        """

        def critic(samples: Tensor) -> Tensor:
            scores: Tensor = self.discriminator(*Batch(samples, batch.labels).inputs)
            return scores

        due = [penalty for penalty in self.penalties if self.progress.step % penalty.every == 0]
        if not due:
            return None
        return torch.stack(
            [penalty.every * penalty(critic, batch.samples, fake) for penalty in due]
        ).sum()

    def descend(self, player: Player, loss: Tensor) -> None:
        """Moves one player down the gradient of its loss: backward, hooks, optimizer."""
        player.optimizer.zero_grad()
        loss.backward()
        self.processes.average_gradients(player.parameters)
        self._call("on_before_optimizer_step", player)
        player.optimizer.step()

    # -- data --------------------------------------------------------------------------------------

    def unpack_batch(self, batch: Any) -> Batch:
        """Turns what the data gives into a `Batch`; a subclass overrides it for other forms.

        Args:
            batch: What `Batch.of` takes: a tensor, a pair (samples, labels), or a mapping.

        Raises:
            TypeError: The batch has another form.
        """
        return Batch.of(batch)

    def _open(self, data: Any, batch_size: int) -> Source:
        """Finds the way to read the data, and where in it the epoch under way goes on."""
        order = Order(
            self._order.seed,
            discriminator_steps=self.discriminator_steps,
            smallest_batch=self._smallest_batch,
            rank=self.processes.rank,
            processes=self.processes.count,
        )
        source = open_source(data, order, batch_size)
        warn_of_missing_classes(data, self.generator)
        if self.progress.batch and not order.reads_as(self._order):
            warnings.warn(
                f"the epoch under way starts anew: it was of {self._order.state_dict()}, and "
                f"`data`, `batch_size` and `discriminator_steps` now give {order.state_dict()}",
                stacklevel=3,
            )
            self.progress.batch = 0
        self._order = order
        batches = source.batches_per_epoch
        self.progress.steps_per_epoch = batches and batches // self.discriminator_steps
        return source

    def _batches(self, source: Source) -> Iterator[Batch]:
        """The batches of the epoch under way, each joined of one for each discriminator's step."""
        k = self.discriminator_steps
        batches = source.batches(self.progress.epoch, skip=self.progress.batch * k)
        while len(parts := [self._unpack(batch) for batch in islice(batches, k)]) == k:
            yield Batch.join(parts)

    def _unpack(self, batch: Any) -> Batch:
        unpacked = batch if isinstance(batch, Batch) else self.unpack_batch(batch)
        check_kind("unpack_batch", unpacked, Batch, "a function that returns a Batch")
        return unpacked

    def _prepare(self, batch: Any) -> Batch:
        """The batch unpacked, checked, and on the device."""
        smallest = self._smallest_batch * self.discriminator_steps
        samples, labels = check_batch(
            self._unpack(batch), smallest=smallest, generator=self.generator
        )
        if self.progress.step == 0:
            warn_of_range(samples, self.generator)
        samples = to_device(samples, self.device, self.players["generator"].dtype)
        return Batch(samples, None if labels is None else to_device(labels, self.device))

    # -- sampling ----------------------------------------------------------------------------------

    def sample(
        self,
        n: int,
        *,
        labels: Labels = None,
        latent: Tensor | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Draws n samples in eval mode, with the EMA weights where there are any.

        Training goes on afterwards as if nothing had been drawn.

        Args:
            n: How many samples, at least 1.
            labels: For a conditional generator: n classes, or one for all samples.
            latent: The noise itself, shape (n, ...), in place of drawn noise.
            seed: Makes the samples repeatable; None draws new ones at each call.

        Returns:
            Samples of shape (n, *sample_shape), on the trainer's device.

        Raises:
            ValueError, TypeError: An argument is wrong, or labels and network don't fit.
        """
        network = self.generator if self.ema is None else self.ema.network
        return draw_samples(
            network, n, labels=labels, latent=latent, latent_sampler=self.latent, seed=seed
        )

    # -- state -------------------------------------------------------------------------------------

    def parts(self) -> dict[str, checkpoint.Stateful]:
        """All that the future of the run depends on, by name: what a checkpoint holds.

        A subclass with a state of its own adds it: `return super().parts() | {"mine": mine}`.
        """
        parts: dict[str, checkpoint.Stateful] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "generator_optimizer": self.players["generator"].optimizer,
            "discriminator_optimizer": self.players["discriminator"].optimizer,
            "progress": self.progress,
            "history": self.history,
            "order": self._order,
            "latent_rng": self._latent_rng,
            "global_rng": ProcessRNG(self.processes),
            "callbacks": CallbackStates(self.callbacks),
        }
        return parts if self.ema is None else parts | {"ema": self.ema}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a checkpoint, from which training goes on bit for bit on the CPU.

        Where several processes train, all of them call it, and the first one writes.

        Args:
            path: Where to; missing folders are made. The file is whole or not there at all.

        Raises:
            TypeError: A part's state holds something other than tensors and primitives.
        """
        content = checkpoint.collect(self.parts())
        try:
            if self.processes.rank == 0:
                checkpoint.write(path, content)
        finally:
            self.processes.wait()

    def load(self, path: str | os.PathLike[str]) -> None:
        """Goes back to a checkpoint; `fit` then goes on from there.

        Args:
            path: A file that `save` wrote, for the same networks, optimizers and callbacks.

        Raises:
            FileNotFoundError: There is no such file.
            CheckpointError: The file is no checkpoint, is damaged, or doesn't fit; the trainer is
                as it was.
        """
        checkpoint.restore(self.parts(), checkpoint.read(path))

    # -- stopping and hooks ------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Ends `fit` after the step under way; all processes agree on it.

        Args:
            reason: Why, kept in `stop_reason`.
        """
        self.stop_reason = reason

    def _is_over(self) -> bool:
        if self.processes.any(self.stop_reason is not None):
            self.stop_reason = self.stop_reason or "stopped by another process"
            return True
        return self.progress.is_complete

    def _call(self, hook: str, *arguments: Any) -> None:
        for listener in self._listeners[hook]:
            listener(*arguments)
