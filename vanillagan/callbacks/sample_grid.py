"""Grids of samples over a run, always from the same latents."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vanillagan.callback import Callback
from vanillagan.callbacks.pictures import GAP, caption, tile
from vanillagan.results import StepResult
from vanillagan.runtime import atomic_file
from vanillagan.runtime.atomic_file import warn_if_it_fails
from vanillagan.trainer import GANTrainer
from vanillagan.traits import label_shape_of
from vanillagan.validation import check_function, check_integer, check_path, check_state

__all__ = ["SampleGrid"]


class SampleGrid(Callback):
    """Save a square grid of samples, `<folder>/<steps done>.png`, always from the same latents.

    One is saved before the first step, every `every_n_steps` steps, and at the end. A conditional
    generator shows its classes in turn. If a grid cannot be written, the first raises the error;
    training continues, with a warning, after the others.

    Args:
        folder: Folder of the images; created if it is missing.
        every_n_steps: Steps between two grids, at least 1; 400 as in the reference implementation.
        side: Images on a side of the grid, at least 1.
        seed: Seed of the latents, at least 0.
        scale: Factor by which images are enlarged, at least 1; by default the whole number that
            brings them to about 84 pixels a side: 3 for MNIST's 28 pixels, 1 for 64 pixels.
        transform: Maps samples (N, ...) to images (N, 1 or 3, height, width) in [-1, 1], such as
            `lambda x: x[:, :3]` for those of four channels.

    Attributes:
        saved: Steps of the grids that the run has saved.

    Raises:
        ValueError: Images are not of shape (1 or 3, height, width); raised by `fit`.
    """

    main_process_only = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_n_steps: int = 400,
        side: int = 5,
        seed: int = 0,
        scale: int | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.folder = check_path("folder", folder)
        self.every_n_steps = check_integer("every_n_steps", every_n_steps, minimum=1)
        self.side = check_integer("side", side, minimum=1)
        self.seed = check_integer("seed", seed, minimum=0)
        self.scale = None if scale is None else check_integer("scale", scale, minimum=1)
        if transform is not None:
            check_function("transform", transform, "a function of samples")
        self.transform = transform
        self.saved: list[int] = []

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Save the grid of the untrained generator."""
        if trainer.progress.step == 0:
            self.saved = []
            self._save(trainer)

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Save a grid if one is due."""
        if trainer.progress.step % self.every_n_steps == 0:
            self._save(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Save the last grid."""
        self._save(trainer)

    def film_strip(self, path: str | os.PathLike[str], *, moments: int = 12) -> None:
        """Save the first column of the grids side by side: the same latents over time.

        Each column has its step above it, unless the images are too narrow for that. Grids of
        another size than the last one are left out.

        Args:
            path: File to write; missing folders are created.
            moments: Number of grids to show, evenly spaced, at least 1; fewer if fewer were saved.

        Raises:
            RuntimeError: No grid has been saved.
        """
        from PIL import Image

        check_integer("moments", moments, minimum=1)
        sizes = {}
        for step in self.saved:
            if self._path(step).exists():
                with Image.open(self._path(step)) as image:
                    sizes[step] = image.size
        if not sizes:
            raise RuntimeError("`film_strip` must come after a `fit` that has saved grids")
        # a resumed run may have grids that were saved with another `scale` or `side`
        steps = [step for step, size in sizes.items() if size == list(sizes.values())[-1]]
        places = np.linspace(0, len(steps) - 1, min(moments, len(steps))).round().astype(int)
        shown = [steps[place] for place in places]
        columns = []
        for step in shown:
            with Image.open(self._path(step)) as image:
                width = (image.width - GAP) // self.side + (GAP if step == shown[-1] else 0)
                columns.append(np.asarray(image)[:, :width])
        strip = Image.fromarray(np.concatenate(columns, axis=1))
        path = check_path("path", path, file=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        caption(strip, [f"step {n:,}" for n in shown], [f"{n:,}" for n in shown]).save(path)

    def state_dict(self) -> dict[str, Any]:
        """Return the steps of the grids saved so far."""
        return {"saved": self.saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        check_state("state", state, {"saved": {int: int}})
        self.saved = list(state["saved"])

    def _save(self, trainer: GANTrainer) -> None:
        step = trainer.progress.step
        if step in self.saved:
            return
        labels = trainer.sample_labels(self.side**2)
        if labels is None and label_shape_of(trainer.generator) is not None:
            return  # labels that are no classes are those of the first batch
        samples = trainer.sample(self.side**2, labels=labels, seed=self.seed)
        images = samples if self.transform is None else self.transform(samples)
        if images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ValueError(
                "`SampleGrid` must have images of shape (1 or 3, height, width), got "
                f"{tuple(images.shape[1:])} (pass `transform`, which maps samples to images)"
            )
        data, path = io.BytesIO(), self._path(step)
        tile(images, columns=self.side, scale=self.scale).save(data, "PNG")
        is_first = not self.saved
        if warn_if_it_fails(
            lambda: atomic_file.write(path, data.getbuffer()), path, must_succeed=is_first
        ):
            self.saved.append(step)

    def _path(self, step: int) -> Path:
        return self.folder / f"{step}.png"
