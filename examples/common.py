"""Common options of the examples, and their reaction to errors and Ctrl-C."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vanillagan import Callback, GANTrainer
from vanillagan import checkpoint as files
from vanillagan.callbacks import Checkpoint
from vanillagan.errors import CheckpointError, VanillaGANError
from vanillagan.validation import check_seed

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


class Parser(argparse.ArgumentParser):
    """Parser with the options that all examples have.

    Args:
        description: Docstring of the example, shown by --help as it is.
        name: Name of the example: outputs go to runs/NAME by default.
        seeds: Accept more than one seed.
    """

    def __init__(self, description: str | None, name: str, *, seeds: bool = False) -> None:
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        # fmt: off
        self.add_argument("--out", type=Path, default=Path("runs", name), metavar="FOLDER",
                          help="Write all outputs to this folder (default: %(default)s).")
        self.add_argument("--device", metavar="NAME",
                          help="Train on this device, such as cpu or cuda:0 (default: the "
                          "accelerator, if there is one).")
        if seeds:
            self.add_argument("--seed", "--seeds", type=seed, nargs="+", default=[0], metavar="N",
                              dest="seeds", help="Make one run with each of these seeds "
                              "(default: 0).")
        else:
            self.add_argument("--seed", type=seed, default=0, metavar="N",
                              help="Seed of weights, noise and sample order (default: 0).")
        # fmt: on

    def add_count(self, *names: str, help: str, default: int | None = None) -> None:
        """Add an option that takes a positive integer."""
        self.add_argument(*names, type=positive, default=default, metavar="N", help=help)

    def add_data(self) -> None:
        """Add the folder of MNIST."""
        # fmt: off
        self.add_argument("--data", type=Path, default=Path("data"), metavar="FOLDER",
                          help="Folder of MNIST in torchvision's layout; what is missing is "
                          "downloaded (default: %(default)s).")
        # fmt: on

    def add_resume(self) -> None:
        """Add --resume."""
        self.add_argument(
            "--resume", action="store_true", help="Resume from the newest checkpoint in --out."
        )

    def add_precision(self) -> None:
        """Add --precision."""
        # fmt: off
        self.add_argument("--precision", choices=("fp32", "bf16"), default="fp32",
                          help="Precision of the networks; bf16 is faster where the hardware has "
                          "it (default: fp32).")
        # fmt: on

    def add_quick(self) -> None:
        """Add --quick."""
        # fmt: off
        self.add_argument("--quick", action="store_true",
                          help="Run a few steps of each part, to see that it works; outputs go to "
                          f"{self.get_default('out')}-quick by default.")
        # fmt: on

    def change_default_out(self, options: argparse.Namespace, name: str) -> None:
        """Let outputs go to runs/NAME if --out is not given."""
        if options.out == self.get_default("out"):
            options.out = Path("runs", name)


def positive(word: str) -> int:
    """Convert the value of an option to a positive integer."""
    try:
        number = int(word)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {word}")
    return number


def seed(word: str) -> int:
    """Convert the value of an option to a seed."""
    try:
        number = int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer, got {word}") from None
    try:
        return check_seed(number)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class RunOptions(Callback):
    """Keep in the checkpoints the options with which a run must be resumed.

    Args:
        options: The options of the command line.
        names: Those that must not change.
    """

    def __init__(self, options: argparse.Namespace, *names: str) -> None:
        values = {name: getattr(options, name) for name in names}
        self.options = {n: str(v) if isinstance(v, Path) else v for n, v in values.items()}

    def state_dict(self) -> dict[str, Any]:
        return self.options

    def check(self, path: Path) -> None:
        """Raise ValueError if a checkpoint is of a run with other options."""
        try:
            states = files.read(path)["states"]
        except CheckpointError:
            return  # `Checkpoint.resume` tells of it, and takes an older one
        saved = states["callbacks"].get("RunOptions#1", {})
        differing = [n for n, v in self.options.items() if n in saved and saved[n] != v]
        if differing:
            had, asked = (in_words(values, differing) for values in (saved, self.options))
            raise ValueError(
                f"{path} is of a run with {had}, but this one has {asked}: resume it with the same "
                "options, or pass another folder as --out"
            )


def in_words(options: dict[str, Any], names: list[str]) -> str:
    """Return options as they are written on a command line."""
    words = []
    for name in names:
        option, value = f"--{name.replace('_', '-')}", options[name]
        if value is None or value is False:
            words.append(f"{option} not given")
        else:
            words.append(option if value is True else f"{option} {value}")
    return ", ".join(words)


def start_or_resume(trainer: GANTrainer, checkpoint: Checkpoint, *, resume: bool) -> None:
    """Resume from the newest checkpoint, or make sure that a new run finds none of another run.

    Otherwise --resume could continue a run that went further earlier in the same folder.
    """
    if resume:
        newest = max(checkpoint.folder.glob("step-*.pt"), default=None)
        for callback in trainer.callbacks:
            if isinstance(callback, RunOptions) and newest is not None:
                callback.check(newest)
        if checkpoint.resume(trainer) is None:
            print(f"{checkpoint.folder} has no checkpoint: starting a new run")
    elif any(checkpoint.folder.glob("*.pt")):
        raise ValueError(
            f"{checkpoint.folder} has checkpoints of an earlier run: pass --resume to continue it, "
            "or another folder as --out"
        )


def exit_if_stopped(trainer: GANTrainer) -> None:
    """Exit if the run was stopped by a signal, and print how to resume it."""
    if trainer.stop_reason is None:
        return
    words = [word for word in sys.argv if word != "--resume"]
    print(f"\nStopped at step {trainer.progress.step:,}. Resume with:")
    print(f"  python {shlex.join([*words, '--resume'])}")
    sys.exit(INTERRUPTED)


def run(main: Callable[[], None]) -> None:
    """Run an example and exit, after a user's error with one line in place of a traceback."""
    try:
        main()
        sys.exit(0)
    except KeyboardInterrupt:
        print("\nInterrupted")
        sys.exit(INTERRUPTED)
    except (OSError, ValueError, VanillaGANError) as error:
        sys.exit(f"error: {error}")
