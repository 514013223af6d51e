"""ProgressBar, ConsoleLog and Progress."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import pty
import re
import struct
import sys
import termios
import warnings
from functools import partial
from types import SimpleNamespace

import pytest

from tests.helpers.callbacks import BATCH, Record, images, train
from tests.helpers.trainers import make_trainer as make_trainer_of
from vanillagan import Callback
from vanillagan.callbacks import ConsoleLog, Progress, ProgressBar
from vanillagan.errors import MissingExtraError

make_trainer = partial(make_trainer_of, shape=(1, 4, 4))


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    module = importlib.import_module("vanillagan.callbacks.display")
    clock = iter(seconds)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))


def test_the_console_prints_the_reference_line(capsys):
    trainer = train(make_trainer(ConsoleLog(0.0)), 2)
    lines = capsys.readouterr().out.splitlines()
    d, g = trainer.history.discriminator_loss, trainer.history.generator_loss
    assert lines == [
        f"[Epoch {1 + step // 4}/2] [Batch {1 + step % 4}/4] "
        f"[D loss: {d[step]:.2f}] [G loss: {g[step]:.2f}]"
        for step in range(8)
    ]


def test_the_console_leaves_out_unknown_totals(capsys):
    trainer = make_trainer(ConsoleLog())
    trainer.fit((batch for batch in images().split(BATCH)), max_steps=1)
    d, g = trainer.history.discriminator_loss[0], trainer.history.generator_loss[0]
    assert capsys.readouterr().out == (f"[Epoch 1] [Batch 1] [D loss: {d:.2f}] [G loss: {g:.2f}]\n")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(1.0, [1, 4, 6, 8]), (0.5, [1, 3, 4, 5, 6, 7, 8]), (100, [1, 8])]
)
def test_the_console_prints_at_intervals_and_at_the_end(capsys, monkeypatch, seconds, shown):
    set_clock(monkeypatch, [1000.0, 1000.4, 1000.9, 1001.4, 1002.0, 1002.5, 1003.1, 1003.2])
    train(make_trainer(ConsoleLog(seconds)), 2)
    lines = capsys.readouterr().out.splitlines()
    steps = [4 * (int(line[7]) - 1) + int(line.partition("[Batch ")[2][0]) for line in lines]
    assert steps == shown


def test_the_bar_shows_epoch_losses_and_speed(capsys):
    trainer = train(make_trainer(ProgressBar()), 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.rstrip().split("\r")[-1]
    d, g = trainer.history.discriminator_loss[-1], trainer.history.generator_loss[-1]
    assert last.startswith("Epoch 2/2: 100%|")
    assert " 8/8 [" in last
    assert f"D loss {d:.3f}, G loss {g:.3f}, " in last
    assert last.endswith(" images/s]")


def test_the_bar_of_a_resumed_run_continues(capsys):
    trainer = train(make_trainer(ProgressBar()), 1)
    capsys.readouterr()
    train(trainer, 2)
    err = capsys.readouterr().err
    assert " 50%|" in err.split("\r")[1]
    assert " 8/8 [" in err.split("\r")[-1]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (110, r", D loss \d\.\d{3}, G loss \d\.\d{3}, [\d,]+ images/s\]"),
        (80, r", D \d\.\d\d, G \d\.\d\d, [\d,]+ img/s\]"),
        (60, r", D \d\.\d\d, G \d\.\d\d\]"),
    ],
)
def test_the_bar_fits_in_a_narrow_terminal(monkeypatch, columns, shown):
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        train(make_trainer(ProgressBar()), 2)
    printed = b""
    with contextlib.suppress(OSError):  # Linux: the end of what a closed terminal has got
        while chunk := os.read(reader, 4096):
            printed += chunk
    os.close(reader)
    last = printed.decode().rstrip().split("\r")[-1]
    assert len(last) <= columns
    assert re.search(shown + "$", last)
    assert re.search(r"\|.{4,}\| 8/8 ", last)


class Warn(Callback):
    def on_step_end(self, trainer, result):
        if trainer.progress.step == 2:
            warnings.warn("be careful", UserWarning, stacklevel=1)


def test_warnings_are_printed_above_the_bar(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = warnings.showwarning = Printer()
        train(make_trainer(ProgressBar(), Warn()))
        assert warnings.showwarning is before
    err = capsys.readouterr().err
    assert re.search(r"\r *\r<be careful>\n\r", err)


class Printer:
    """Print a warning in angle brackets."""

    def __call__(self, message, *arguments, **options):
        print(f"<{message}>", file=sys.stderr)


def test_warnings_can_be_recorded_under_the_bar():
    with pytest.warns(UserWarning, match="be careful"):
        train(make_trainer(ProgressBar(), Warn()))


def test_warnings_are_as_before_after_an_error():
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="be careful"):
            train(make_trainer(ProgressBar(), Warn()))
        assert warnings.showwarning is before


def test_the_console_shows_the_newest_metrics(capsys):
    class Late(Callback):
        def on_fit_end(self, trainer):
            trainer.history.record(4, {"late": 12345.678})

    callbacks = Late(), Record(1.0, name="health/coverage"), ConsoleLog(0.0), Record(0.125, 2, 3)
    train(make_trainer(*callbacks), max_steps=1)
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith("] [m: 0.125]")
    assert last == "[Step 1] [m: 0.125] [late: 1.235e+04]"


def test_a_missing_tqdm_is_an_error_that_names_the_extra(monkeypatch):
    for module in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"'tqdm': pip install 'vanillagan\[progress\]'"):
        ProgressBar()


@pytest.mark.parametrize(
    ("is_terminal", "has_tqdm", "expected"),
    [(True, True, ProgressBar), (True, False, ConsoleLog), (False, True, ConsoleLog)],
)
def test_progress_fits_the_terminal(monkeypatch, is_terminal, has_tqdm, expected):
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: is_terminal))
    if not has_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert type(Progress()) is expected
