"""Trains a GAN to write, from noise, and prints what it writes as it learns.

  --task grammar    (default) the arithmetic of Kusner and Hernandez-Lobato (arXiv 1611.04051):
                    S -> x | S + S | S - S | S * S | S / S, strings of at most 12 characters, 5,000
                    of them. Each number of operands is equally frequent (a derivation at random
                    would give "x" half of the time). A parser says which samples are valid
  --task words      the words of Python's own reference manual, which comes with Python, as often as
                    they occur in it: about 60,000, of 2 to 12 letters
  --corpus FILE     texts of your own in any script, UTF-8: a line is a text, and one longer than
                    --length is cut into several. Characters beyond the most frequent --vocabulary
                    are left to a sign for unknown ones

The generator draws one token for each place by a straight-through Gumbel-softmax; the discriminator
is of 1-D convolutions. At the end a table compares, with texts that were held out: other texts of
the data, which is what a perfect generator would get; n-gram models of the training texts, which
are hard to beat in this measure; and the GAN.

  valid             of the grammar, by the parser
  in corpus         that the corpus has somewhere
  in training       that are among the training texts, and so learned by heart or met by chance
  distinct          different texts among those that are valid, or in the corpus
  length            Jensen-Shannon divergence of the lengths, in nats: 0 for equal distributions,
                    0.69 for such that have nothing in common
  n=1 ... n=4       the same for n-grams of characters

A sample with something after its end is shown with the sign … and counts as wrong.

A run takes 3 to 8 minutes on 2 cores; more --steps make better texts. Ctrl-C stops after the step
under way, measures, and saves.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from vanillagan import (
    EMA,
    R1,
    R2,
    Batch,
    Callback,
    GANTrainer,
    RelativisticLoss,
    StepResult,
)
from vanillagan.applications.text import (
    NGramModel,
    TextDiscriminator,
    TextGenerator,
    Vocabulary,
    ngram_divergence,
)
from vanillagan.callbacks import ConsoleLog, LRSchedule, NaNGuard, ProgressBar, StopOnSignal
from vanillagan.errors import VanillaGANError, check_seed, require
from vanillagan.optimizers import adam
from vanillagan.theory import jensen_shannon_divergence

LONGEST = 12
OPERATORS = "+-*/"
GRAMMAR_TEXTS = 5_000
MEASURED = 5_000
FEWEST = 100
UNKNOWN = "\ufffd"
JUNK = "…"
ORDERS = (1, 2, 3, 4)
SHOWN = 8
STEPS = {"grammar": 8_000, "words": 12_000}
BATCH = 64
LATENT = 64
WIDTH = 64
BLOCKS = 1
OF_A_CORPUS = {"length": 12, "vocabulary": 500}
INTERRUPTED = 130


# -- the data --------------------------------------------------------------------------------------


class Corpus(NamedTuple):
    """Texts to train on, texts held out to measure against, and others to set beside samples.

    Attributes:
        train: What the GAN and the n-gram models see.
        held_out: What all are compared with.
        other: As many again: real against real.
        vocabulary: The characters of them all.
        length: Characters in the longest text there may be.
        is_right: Judges a text.
        label: What the table calls the judgement.
    """

    train: list[str]
    held_out: list[str]
    other: list[str]
    vocabulary: Vocabulary
    length: int
    is_right: Callable[[str], bool]
    label: str


def grammar(seed: int) -> Corpus:
    rng = random.Random(seed)
    sizes = (GRAMMAR_TEXTS, MEASURED, MEASURED)
    parts = ([expression(rng) for _ in range(size)] for size in sizes)
    return Corpus(*parts, Vocabulary("x" + OPERATORS), LONGEST, is_expression, "valid")


def expression(rng: random.Random) -> str:
    """A string of the grammar, of 1 to 6 operands."""
    rest = (rng.choice(OPERATORS) + "x" for _ in range(rng.randrange((LONGEST + 1) // 2)))
    return "x" + "".join(rest)


def is_expression(text: str) -> bool:
    """Whether the grammar derives the text: a parser by recursive descent."""

    def is_sum(place: int) -> bool:
        """S is x, or x, an operator and S: of the trees of an ambiguous string, one is enough."""
        if text[place : place + 1] != "x":
            return False
        end = place + 1
        return end == len(text) or (text[end] in OPERATORS and is_sum(end + 1))

    return len(text) <= LONGEST and is_sum(0)


def words(seed: int) -> Corpus:
    """The words of the Python reference, in lower case."""
    from pydoc_data.topics import topics

    found = re.findall(r"[a-z]+", " ".join(topics.values()).lower())
    texts = [word for word in found if 2 <= len(word) <= LONGEST]
    return split(texts, Vocabulary.of(texts), LONGEST, seed)


def lines_of(path: Path, length: int, size: int, seed: int) -> Corpus:
    """The lines of a file, those that are too long cut into pieces."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"`--corpus` must be a text in UTF-8, got {path}: {error}") from error
    lines = (" ".join(line.split()) for line in content.splitlines())
    pieces = [line[i : i + length].strip() for line in lines for i in range(0, len(line), length)]
    texts = [piece for piece in pieces if piece]
    if len(texts) < FEWEST:
        raise ValueError(f"`--corpus` must have {FEWEST} texts or more, got {len(texts)} in {path}")
    all_fit = len(set().union(*texts)) <= size
    vocabulary = Vocabulary.of(texts, size=size, unknown=None if all_fit else UNKNOWN)
    # with the sign for unknown characters, so that the data has it as well as the samples
    texts = vocabulary.decode(vocabulary.encode(texts, length))
    return split(texts, vocabulary, length, seed)


def split(texts: list[str], vocabulary: Vocabulary, length: int, seed: int) -> Corpus:
    """A tenth is held out, a tenth set beside, and the rest is to train on."""
    random.Random(seed).shuffle(texts)
    tenth = min(MEASURED, len(texts) // 10)
    held_out, other, train = texts[:tenth], texts[tenth : 2 * tenth], texts[2 * tenth :]
    is_right = frozenset(texts).__contains__
    return Corpus(train, held_out, other, vocabulary, length, is_right, "in corpus")


# -- the measures ----------------------------------------------------------------------------------


def measure(corpus: Corpus, texts: list[str]) -> dict[str, float]:
    """What the text above defines, of as many texts as were held out."""
    seen = frozenset(corpus.train)
    right = [text for text in texts if corpus.is_right(text)]
    return {
        corpus.label: len(right) / len(texts),
        "in training": sum(text in seen for text in texts) / len(texts),
        "distinct": len(set(right)) / len(texts),
        "length": length_divergence(corpus.held_out, texts),
        **{f"n={n}": ngram_divergence(corpus.held_out, texts, n) for n in ORDERS},
    }


def length_divergence(real: list[str], fake: list[str]) -> float:
    longest = max(map(len, real + fake))
    counts = (
        np.bincount([len(text) for text in side], minlength=longest + 1) for side in (real, fake)
    )
    return float(jensen_shannon_divergence(*(count / count.sum() for count in counts)))


def texts_of(samples: Tensor, vocabulary: Vocabulary) -> list[str]:
    """Samples as texts; one with something after its end gets a sign there that makes it wrong."""
    ids = samples.argmax(2).cpu()
    is_padding = ids == Vocabulary.PADDING
    after_end = (is_padding.cumsum(1) > 0) & ~is_padding
    texts = vocabulary.decode(ids)
    return [text + JUNK * bad for text, bad in zip(texts, after_end.any(1).tolist(), strict=True)]


def print_table(rows: dict[str, dict[str, float]]) -> None:
    names = list(next(iter(rows.values())))
    print(f"\n{'':24}" + "".join(f"{name:>12}" for name in names))
    for row, figures in rows.items():
        cells = (f"{figures[n]:12.1%}" if is_share(n) else f"{figures[n]:12.4f}" for n in names)
        print(f"{row:24}" + "".join(cells))


def is_share(name: str) -> bool:
    return name != "length" and not name.startswith("n=")


# -- the game --------------------------------------------------------------------------------------


class TextTrainer(GANTrainer):
    """Reads ids, and makes one-hot samples of each batch of them."""

    def __init__(self, vocabulary: Vocabulary, *players: Any, **options: Any) -> None:
        super().__init__(*players, **options)
        self.vocabulary = vocabulary

    def unpack_batch(self, batch: Tensor) -> Batch:
        return Batch(self.vocabulary.one_hot(batch))

    def write(self, n: int, seed: int) -> list[str]:
        return texts_of(self.sample(n, seed=seed), self.vocabulary)


class SamplePrinter(Callback):
    """Prints a line of samples, from the same noise all along."""

    main_process_only = True

    def __init__(self, every: int, echo: Callable[[str], None]) -> None:
        self.every = every
        self.echo = echo

    def on_fit_start(self, trainer: TextTrainer) -> None:
        self.print(trainer)

    def on_step_end(self, trainer: TextTrainer, result: StepResult) -> None:
        if trainer.progress.step % self.every == 0:
            self.print(trainer)

    def print(self, trainer: TextTrainer) -> None:
        self.echo(f"step {trainer.progress.step:6,}   " + "   ".join(trainer.write(SHOWN, seed=0)))


def make_trainer(
    corpus: Corpus, options: argparse.Namespace, callbacks: list[Callback]
) -> TextTrainer:
    shape = (corpus.length, len(corpus.vocabulary))
    return TextTrainer(
        corpus.vocabulary,
        TextGenerator(LATENT, shape, width=WIDTH, blocks=BLOCKS, output=options.output),
        TextDiscriminator(shape, width=WIDTH, blocks=BLOCKS),
        loss=RelativisticLoss(),
        penalties=[R1(0.5, every=4), R2(0.5, every=4)],
        generator_optimizer=adam(4e-4, (0.0, 0.99)),
        discriminator_optimizer=adam(8e-4, (0.0, 0.99)),
        ema=EMA(0.999),
        device=options.device,
        seed=options.seed,
        callbacks=callbacks,
    )


# -- a run -----------------------------------------------------------------------------------------


def main() -> int:
    options = parse_options()
    check_seed(options.seed)
    corpus = read_corpus(options)
    print(
        f"{len(corpus.train):,} texts to train on, {len(corpus.held_out):,} held out, of "
        f"{len(corpus.vocabulary) - 1} different characters. Some of them:\n"
        f"  {'   '.join(corpus.train[:SHOWN])}"
    )
    torch.manual_seed(options.seed)
    on_terminal = sys.stderr.isatty()
    watch = ProgressBar() if on_terminal else ConsoleLog(10)
    samples = SamplePrinter(
        options.every or max(1, options.steps // 15),
        above_the_bar if on_terminal else partial(print, flush=True),
    )
    # the same rate for half of the run, then a straight line to 0
    slowing = LRSchedule(
        lambda optimizer: LambdaLR(optimizer, lambda step: min(1.0, 2 - 2 * step / options.steps)),
        interval="step",
    )
    callbacks = [slowing, watch, samples, NaNGuard(), StopOnSignal()]
    trainer = make_trainer(corpus, options, callbacks)
    started = time.monotonic()
    ids = corpus.vocabulary.encode(corpus.train, corpus.length)
    trainer.fit(ids, steps=options.steps, batch_size=BATCH)
    seconds = time.monotonic() - started
    finish(trainer, corpus, options, seconds)
    return 0 if trainer.stop_reason is None else INTERRUPTED


def above_the_bar(line: str) -> None:
    require("tqdm", extra="progress", user="ProgressBar").tqdm.write(line)


def read_corpus(options: argparse.Namespace) -> Corpus:
    if options.corpus is not None:
        return lines_of(options.corpus, options.length, options.vocabulary, options.seed)
    return TASKS[options.task](options.seed)


def finish(
    trainer: TextTrainer, corpus: Corpus, options: argparse.Namespace, seconds: float
) -> None:
    """Measures, prints and writes what the run has come to."""
    count = len(corpus.held_out)
    rows = {"the data": measure(corpus, corpus.other)}
    for n in ORDERS[1:]:
        drawn = NGramModel(corpus.train, n).sample(
            count, max_length=corpus.length, seed=options.seed
        )
        rows[f"{n}-gram model"] = measure(corpus, ["".join(tokens) for tokens in drawn])
    texts = trainer.write(count, seed=options.seed)
    rows["GAN"] = measure(corpus, texts)
    print(f"\n{trainer.progress.step:,} steps in {seconds:.0f} s. {count:,} texts of each:")
    print_table(rows)
    print("\nSamples:")
    for start in range(0, 60, SHOWN):
        print("  " + "   ".join(texts[start : start + SHOWN]))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "samples.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    results = {
        "steps": trainer.progress.step,
        "seconds": seconds,
        "seed": options.seed,
        "vocabulary": trainer.vocabulary.config,
        "figures": rows,
    }
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (options.out / "results.json").write_text(text, encoding="utf-8")
    trainer.save(options.out / "text.pt")
    print(f"\nLook at {options.out}: all samples, the figures, and a checkpoint")


TASKS = {"grammar": grammar, "words": words}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--task", choices=list(TASKS), default="grammar", help="(default: grammar)")
    what.add_argument("--corpus", type=Path, metavar="FILE", help="see above")
    whole = {"type": positive, "metavar": "N"}
    add("--length", help="of a --corpus: characters in a text at most (default: "
        f"{OF_A_CORPUS['length']})", **whole)  # fmt: skip
    add("--vocabulary", help="of a --corpus: different characters at most (default: "
        f"{OF_A_CORPUS['vocabulary']})", **whole)  # fmt: skip
    add("--output", help="of the generator: gumbel, or softmax as in Gulrajani et al., 2017, which "
        "brings less diverse texts (default: gumbel)", choices=("gumbel", "softmax"),
        default="gumbel")  # fmt: skip
    add("--steps", help=f"training steps in all (default: {STEPS['grammar']:,} for the grammar, "
        f"else {STEPS['words']:,})", **whole)  # fmt: skip
    add("--every", help="steps between two lines of samples (default: 15 lines in all)", **whole)
    add("--device", help="where to train, such as cpu or cuda:0; an accelerator if there is one")
    add("--seed", help="fixes data, weights and noise (default: 0)", type=int, default=0)
    add("--out", help="where to write samples, figures and a checkpoint (default: text)",
        type=Path, default=Path("text"), metavar="FOLDER")  # fmt: skip
    options = parser.parse_args()
    for name, default in OF_A_CORPUS.items():
        if options.corpus is None and getattr(options, name) is not None:
            parser.error(f"--{name} goes with --corpus")
        setattr(options, name, getattr(options, name) or default)
    task = "words" if options.corpus else options.task
    options.steps = options.steps or STEPS[task]
    return options


def positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {number}")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted")
        sys.exit(INTERRUPTED)
    except (OSError, ValueError, VanillaGANError) as error:
        sys.exit(f"error: {error}")
