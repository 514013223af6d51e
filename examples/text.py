"""Train a GAN on texts, and print its samples during training.

  --task grammar    (default) the arithmetic of Kusner and Hernandez-Lobato (arXiv 1611.04051):
                    S -> x | S + S | S - S | S * S | S / S, strings of at most 12 characters, 5,000
                    of them. All numbers of operands are equally frequent (a random derivation would
                    give "x" half of the time). A parser tells which samples are valid
  --task sentences  English sentences of at most 11 words, such as "the dog near these cats sleeps",
                    from a vocabulary of 41 words, 20,000 of them. The verb agrees in number with
                    its subject. A regular expression tells which samples are valid
  --task words      the words of Python's reference manual, which comes with Python, as often as
                    they occur in it: about 60,000, of 2 to 12 letters
  --corpus FILE     your own texts in any script, UTF-8, one text a line; a line longer than
                    --length is cut into pieces. Only the --vocabulary most frequent characters are
                    kept; the others become the sign for unknown ones

The generator draws one token for each position by a straight-through Gumbel-softmax; the
discriminator has 1-D convolutions. At the end a table compares with held-out texts: other texts of
the data, which a perfect generator would equal; n-gram models of the training texts, which are hard
to beat by these figures; and the GAN, with tokens drawn at random, and with the likeliest.

  valid             share that the parser accepts
  in corpus         share that the corpus has somewhere
  in training       share of training texts, memorized or met by chance
  distinct          share of different texts among those that are valid or in the corpus
  length            Jensen-Shannon divergence of the lengths in nats: 0 for equal distributions,
                    0.69 for disjoint ones
  n=1 ... n=4       the same for n-grams of characters, or of words in sentences

A sample with tokens after its end is shown with the sign … and counts as wrong.

A run takes 6 minutes for the grammar, else 9, on 2 cores; more --steps make better texts. Ctrl-C
stops the run after the current step and saves it. --resume continues it exactly.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Parser, RunOptions, exit_if_stopped, run, start_or_resume
from corpora import Corpus, grammar, lines_of, sentences, words
from torch import Tensor

from vanillagan import Batch, Callback, GANTrainer, StepResult, recipes
from vanillagan.applications.text import (
    NGramModel,
    TextDiscriminator,
    TextGenerator,
    Vocabulary,
    ngram_divergence,
)
from vanillagan.callbacks import Checkpoint, NaNGuard, Progress, ProgressBar, StopOnSignal
from vanillagan.errors import require
from vanillagan.theory import jensen_shannon_divergence

AFTER_END = "…"
ORDERS = (1, 2, 3, 4)
TASKS = {"grammar": grammar, "sentences": sentences, "words": words}
STEPS = {"grammar": 6_000, "sentences": 10_000, "words": 10_000}
LATENT_DIM, BATCH_SIZE = 64, 64
NETWORKS = ("channels", "blocks", "output", "precision")
FIXED = ("task", "corpus", "length", "vocabulary", *NETWORKS, "seed")
CORPUS_OPTIONS = {"length": 12, "vocabulary": 500}


def main() -> None:
    options = parse_options()
    if options.corpus is not None:
        corpus = lines_of(options.corpus, options.length, options.vocabulary, options.seed)
    else:
        corpus = TASKS[options.task](options.seed)
    print(
        f"{len(corpus.train):,} texts for training, {len(corpus.held_out):,} held out, with "
        f"{len(corpus.vocabulary) - 1} different {corpus.unit}. Some of them:\n"
        f"  {'   '.join(corpus.train[: corpus.texts_per_line])}"
    )
    torch.manual_seed(options.seed)
    interval = options.sample_interval or max(1, options.steps // 15)
    samples = SamplePrinter(interval, corpus.texts_per_line)
    checkpoint = Checkpoint(options.out / "checkpoints", every_n_steps=1000, keep=1)
    fixed = RunOptions(options, *FIXED)
    callbacks = [Progress(), samples, checkpoint, NaNGuard(), StopOnSignal(), fixed]
    trainer = make_trainer(corpus, options, callbacks)
    start_or_resume(trainer, checkpoint, resume=options.resume)
    started = time.monotonic()
    ids = corpus.vocabulary.encode(corpus.train, corpus.max_length)
    trainer.fit(ids, max_steps=options.steps, batch_size=BATCH_SIZE)
    exit_if_stopped(trainer)
    print(f"\nTrained for {time.monotonic() - started:.0f} s.")
    report(trainer, corpus, options)
    print(f"\nOutputs are in {options.out}: all samples, the figures, and {checkpoint.latest}")


class TextTrainer(GANTrainer):
    """Trainer that reads token ids, and converts each batch to one-hot samples."""

    def __init__(self, vocabulary: Vocabulary, *networks: Any, **options: Any) -> None:
        super().__init__(*networks, **options)
        self.vocabulary = vocabulary

    def unpack_batch(self, batch: Tensor) -> Batch:
        return Batch(self.vocabulary.one_hot(batch))

    def write(self, n: int, seed: int) -> list[str]:
        return texts_of(self.sample(n, seed=seed), self.vocabulary)


class SamplePrinter(Callback):
    """Print a line of samples of the same latents, every n steps."""

    main_process_only = True

    def __init__(self, every_n_steps: int, num_samples: int) -> None:
        self.every_n_steps = every_n_steps
        self.num_samples = num_samples

    def on_fit_start(self, trainer: TextTrainer) -> None:
        self.print(trainer)

    def on_step_end(self, trainer: TextTrainer, result: StepResult) -> None:
        if trainer.progress.step % self.every_n_steps == 0:
            self.print(trainer)

    def print(self, trainer: TextTrainer) -> None:
        texts = "   ".join(trainer.write(self.num_samples, seed=0))
        line = f"step {trainer.progress.step:6,}   {texts}"
        if any(isinstance(callback, ProgressBar) for callback in trainer.callbacks):
            require("tqdm", extra="progress", user="ProgressBar").tqdm.write(line)
        else:
            print(line, flush=True)


def make_trainer(
    corpus: Corpus, options: argparse.Namespace, callbacks: list[Callback]
) -> TextTrainer:
    shape = (corpus.max_length, len(corpus.vocabulary))
    size = {"channels": options.channels, "blocks": options.blocks}
    return TextTrainer(
        corpus.vocabulary,
        TextGenerator(LATENT_DIM, shape, output=options.output, **size),
        TextDiscriminator(shape, **size),
        **recipes.r3gan(lr=4e-4),
        precision=options.precision,
        device=options.device,
        seed=options.seed,
        callbacks=callbacks,
    )


def texts_of(samples: Tensor, vocabulary: Vocabulary) -> list[str]:
    """Convert samples to texts; those with tokens after their end get a sign that is wrong."""
    ids = samples.argmax(2).cpu()
    is_padding = ids == Vocabulary.PADDING
    has_more = ((is_padding.cumsum(1) > 0) & ~is_padding).any(1).tolist()
    texts = vocabulary.decode(ids)
    return [text + AFTER_END * more for text, more in zip(texts, has_more, strict=True)]


def evaluate(corpus: Corpus, texts: list[str]) -> dict[str, float]:
    """Return the figures defined above."""
    real, fake = ([corpus.tokens(text) for text in side] for side in (corpus.held_out, texts))
    known = frozenset(corpus.train)
    right = [text for text in texts if corpus.is_right(text)]
    return {
        corpus.label: len(right) / len(texts),
        "in training": sum(text in known for text in texts) / len(texts),
        "distinct": len(set(right)) / len(texts),
        "length": length_divergence(real, fake),
        **{f"n={n}": ngram_divergence(real, fake, n) for n in ORDERS},
    }


def length_divergence(real: list[list[str]], fake: list[list[str]]) -> float:
    longest = max(map(len, real + fake))
    counts = (
        np.bincount([len(text) for text in side], minlength=longest + 1) for side in (real, fake)
    )
    return float(jensen_shannon_divergence(*(count / count.sum() for count in counts)))


def report(trainer: TextTrainer, corpus: Corpus, options: argparse.Namespace) -> None:
    """Evaluate the samples, and print and save the figures and the samples."""
    count, separator = len(corpus.held_out), corpus.vocabulary.separator
    train = [corpus.tokens(text) for text in corpus.train]
    rows = {"the data": evaluate(corpus, corpus.other)}
    for n in ORDERS[1:]:
        model = NGramModel(train, n)
        drawn = model.sample(count, max_length=corpus.max_length, seed=options.seed)
        rows[f"{n}-gram model"] = evaluate(corpus, [separator.join(tokens) for tokens in drawn])
    samples = {"GAN": trainer.write(count, seed=options.seed)}
    if options.output == "gumbel":
        trainer.eval_generator.sampling_temperature = 0.0
        samples["GAN, likeliest tokens"] = trainer.write(count, seed=options.seed)
    rows |= {name: evaluate(corpus, texts) for name, texts in samples.items()}
    print(f"After {trainer.progress.step:,} steps, {count:,} texts of each:")
    print_table(rows)
    per_line = corpus.texts_per_line
    for name, texts in samples.items():
        print(f"\n{name}:")
        for start in range(0, 6 * per_line, per_line):
            print("  " + "   ".join(texts[start : start + per_line]))
    drawn_texts = "\n".join(samples["GAN"]) + "\n"
    (options.out / "samples.txt").write_text(drawn_texts, encoding="utf-8")
    results = {
        "steps": trainer.progress.step,
        "seed": options.seed,
        "vocabulary": trainer.vocabulary.config,
        "figures": rows,
    }
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (options.out / "results.json").write_text(text, encoding="utf-8")


def print_table(rows: dict[str, dict[str, float]]) -> None:
    names = list(next(iter(rows.values())))
    print(f"\n{'':24}" + "".join(f"{name:>12}" for name in names))
    for row, figures in rows.items():
        cells = (
            f"{figures[name]:12.4f}"
            if name == "length" or "=" in name
            else f"{figures[name]:12.1%}"
            for name in names
        )
        print(f"{row:24}" + "".join(cells))


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__, "text/TASK")
    # fmt: off
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--task", choices=list(TASKS), default="grammar",
                      help="Train on these texts, see above (default: grammar).")
    data.add_argument("--corpus", type=Path, metavar="FILE", help="Train on this file, see above.")
    parser.add_count("--length", help="With --corpus: largest number of characters in a text "
                     f"(default: {CORPUS_OPTIONS['length']}).")
    parser.add_count("--vocabulary", help="With --corpus: largest number of different characters "
                     f"(default: {CORPUS_OPTIONS['vocabulary']}).")
    parser.add_argument("--output", choices=("gumbel", "softmax"), default="gumbel",
                        help="Output of the generator; softmax (Gulrajani et al., 2017) makes "
                        "less diverse texts (default: gumbel).")
    parser.add_count("--channels", default=128, help="Channels of the convolutions (default: 128).")
    parser.add_count("--blocks", default=2, help="Residual blocks of each network (default: 2).")
    parser.add_precision()
    parser.add_count("--steps", help="Train for this many steps in all (default: "
                     f"{STEPS['grammar']:,} for the grammar, else {STEPS['words']:,}).")
    parser.add_resume()
    parser.add_count("--sample-interval", help="Steps between two lines of samples (default: 15 "
                     "lines in all).")
    # fmt: on
    options = parser.parse_args()
    for name, default in CORPUS_OPTIONS.items():
        if options.corpus is None and getattr(options, name) is not None:
            parser.error(f"--{name} goes with --corpus")
        setattr(options, name, getattr(options, name) or default)
    options.steps = options.steps or STEPS["words" if options.corpus else options.task]
    task = f"corpus-{options.corpus.stem}" if options.corpus else options.task
    parser.change_default_out(options, f"text/{task}")
    return options


if __name__ == "__main__":
    run(main)
