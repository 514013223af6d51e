"""Measure the time of imports, and of the first step of examples/mnist.py.

    python -m tests.benchmarks.startup --data FOLDER [--rounds 15] [--json FILE]

Each row is a new process, and the rows take turns. The seconds are those of the whole process,
which exits immediately (`os._exit`) when the row's work is done. The first round, which fills the
disk cache and writes bytecode, is dropped.

    torch                 import torch
    vanillagan            import torch, vanillagan; with the ratio to torch
    torchvision           import torch, torchvision
    first step            python examples/mnist.py until the end of its first step; with the ratio
                          to torchvision

The second ratio is that of the seconds inside the process, from its first statement on.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.machine import write_figures
from tests.benchmarks.options import Parser

ROOT = Path(__file__).parents[2]
FRAME = """
import os, sys, time

def end():
    sys.stdout.flush()
    os.write(1, b"%.6f" % (time.perf_counter() - started))
    os._exit(0)

started = time.perf_counter()
"""
FIRST_STEP = """
import runpy
from vanillagan import GANTrainer

train_step = GANTrainer.train_step

def first_step(trainer, batch):
    train_step(trainer, batch)
    end()

GANTrainer.train_step = first_step
sys.argv = sys.argv[1:]
sys.path.insert(0, "examples")
runpy.run_path(sys.argv[0], run_name="__main__")
"""
PROGRAMS = {
    "torch": "import torch\nend()",
    "vanillagan": "import torch, vanillagan\nend()",
    "torchvision": "import torch, torchvision\nend()",
    "first step": FIRST_STEP,
}
AGAINST = {"vanillagan": "torch", "first step": "torchvision"}


def main() -> None:
    parser = Parser(__doc__)
    parser.add("--data")
    parser.add("--rounds", default=15)
    parser.add("--json")
    options = parser.parse_args()

    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    inside: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        words = ["examples/mnist.py", "--data", str(options.data.resolve()), "--out", folder]
        for _ in range(1 + options.rounds):
            for name, program in PROGRAMS.items():
                whole, part = run(program, words)
                seconds[name].append(whole)
                inside[name].append(part)

    for name in PROGRAMS:
        whole, part = statistics.median(seconds[name][1:]), statistics.median(inside[name][1:])
        line = f"{name:12} {whole:6.2f} s"
        if name in AGAINST:
            other = AGAINST[name]
            line += f"   {whole / statistics.median(seconds[other][1:]):.3f} of {other}"
            line += f"   ({part / statistics.median(inside[other][1:]):.3f} inside the process)"
        print(line)
    figures = {
        name: {"seconds": seconds[name][1:], "inside": inside[name][1:]} for name in PROGRAMS
    }
    write_figures(options.json, "tests.benchmarks.startup", figures)


def run(program: str, words: list[str]) -> tuple[float, float]:
    """Return the seconds of a new process, and those from its first statement on."""
    started = time.perf_counter()
    command = [sys.executable, "-c", FRAME + program, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
