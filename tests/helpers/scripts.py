"""Examples, run or loaded in this process."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import signal
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

ROOT = Path(__file__).parents[2]


class Run(NamedTuple):
    """Exit status or message, output, and seconds of a run."""

    code: Any
    printed: str
    seconds: float


class Output(io.StringIO):
    """Keep what is printed; optionally press Ctrl-C when training has started."""

    def __init__(self, *, interrupt: bool) -> None:
        super().__init__()
        self.interrupt = interrupt

    def write(self, text: str) -> int:
        if self.interrupt and text.startswith("[Epoch "):
            self.interrupt = False
            os.kill(os.getpid(), signal.SIGINT)
        return super().write(text)


def importable_examples() -> AbstractContextManager[object]:
    """Let examples import modules of their folder, as when Python runs them as scripts."""
    return patch.object(sys, "path", [str(ROOT / "examples"), *sys.path])


def load_example(name: str) -> dict[str, Any]:
    """Return the names that examples/NAME.py defines."""
    with importable_examples():
        return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


def run_here(words: list[str], *, interrupt: bool = False) -> Run:
    """Run a script in this process, which starts faster than a new one."""
    printed = Output(interrupt=interrupt)
    before, started = Path.cwd(), time.monotonic()
    os.chdir(ROOT)
    try:
        with (
            importable_examples(),
            patch.object(sys, "argv", words),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as exit:
        return Run(exit.code, printed.getvalue(), time.monotonic() - started)
    finally:
        os.chdir(before)
    raise AssertionError(f"{words[0]} ended without an exit status")
