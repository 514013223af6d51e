"""Command line of the benchmarks: options of the same name have the same help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

FOLDER = {"type": Path, "metavar": "FOLDER"}
FILE = {"type": Path, "metavar": "FILE"}
COMMON: dict[str, dict[str, Any]] = {
    "--data": FOLDER | {"default": Path("data"), "help": "Folder of MNIST"},
    "--out": FOLDER | {"help": "Write all outputs to this folder"},
    "--json": FILE | {"help": "Write the figures to this file, too"},
    "--networks": {"help": "Measure with these networks"},
    "--recipes": {"help": "Measure these recipes"},
    "--rounds": {"help": "Rounds that are counted"},
    "--seed": {"default": 0, "help": "Seed of the run"},
    "--seeds": {"default": [0, 1, 2, 3, 4], "help": "Make one run with each of these seeds"},
    "--steps": {"help": "Steps of a row in each round"},
}


class Parser(argparse.ArgumentParser):
    """Parser of the options of a benchmark.

    Args:
        description: Docstring of the benchmark, shown by --help as it is.
    """

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def add(self, name: str, **options: Any) -> None:
        """Add an option: an integer if nothing else is given, several if the default is a list.

        Args:
            name: Name of the option; what `COMMON` has for it is the default of `options`.
            options: Arguments of `add_argument`; `help` is a sentence without its full stop.
        """
        options = COMMON.get(name, {}) | options
        text, default = options.pop("help"), options.get("default")
        if isinstance(default, list):
            options.setdefault("nargs", "+")
        if "choices" not in options and "action" not in options:
            options = {"type": int, "metavar": "N"} | options
        if default is not None:
            values = default if isinstance(default, list) else [default]
            text += f" (default: {' '.join(map(str, values))})"
        self.add_argument(name, help=f"{text}.".replace("%", "%%"), **options)
