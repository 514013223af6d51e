"""Step results and the history of a run."""

from __future__ import annotations

import pytest
import torch

from vanillagan.results import DiscriminatorStep, GeneratorStep, History, StepResult


def result(generator: float, discriminator: float) -> StepResult:
    nothing = torch.zeros(1)
    return StepResult(
        GeneratorStep(torch.tensor(generator), nothing),
        DiscriminatorStep(torch.tensor(discriminator), None, nothing, nothing),
    )


def filled(steps: int) -> History:
    history = History()
    for step in range(steps):
        history.append(result(step / 2, step / 4))
    return history


@pytest.mark.parametrize("steps", [0, 1, 255, 256, 600])
def test_losses_of_every_step_are_kept(steps):
    history = filled(steps)
    assert len(history) == steps
    assert history.generator_loss == [step / 2 for step in range(steps)]
    assert history.discriminator_loss == [step / 4 for step in range(steps)]
    assert len(history) == steps


def test_last_loss_is_the_newest():
    history = filled(300)
    assert history.last_loss("generator") == 299 / 2
    assert history.last_loss("discriminator") == 299 / 4
    history.append(result(7.0, 8.0))
    assert history.last_loss("generator") == 7.0


def test_metrics_are_step_value_pairs():
    history = History()
    history.record(10, {"fid": 3.5, "recall": torch.tensor(0.5)})
    history.record(20, {"fid": 2})
    assert history.metrics == {"fid": [(10, 3.5), (20, 2.0)], "recall": [(10, 0.5)]}


def test_metrics_are_a_copy():
    history = History()
    history.record(1, {"fid": 1.0})
    history.metrics["fid"].append((2, 2.0))
    assert history.metrics == {"fid": [(1, 1.0)]}


def test_state_restores_losses_and_metrics():
    history = filled(300)
    history.record(10, {"fid": 0.1})
    other = filled(3)
    other.record(1, {"recall": 1.0})
    other.load_state_dict(history.state_dict())
    assert other.generator_loss == history.generator_loss
    assert other.discriminator_loss == history.discriminator_loss
    assert other.metrics == {"fid": [(10, 0.1)]}
    assert len(other) == 300


def test_a_history_shows_its_length_and_last_losses(points, make_trainer):
    trainer = make_trainer()
    assert repr(trainer.history) == "History(0 steps)"
    history = trainer.fit(points, max_steps=3)
    losses = f"{history.generator_loss[-1]:.3f}, discriminator loss "
    assert repr(history).startswith(f"History(3 steps, last generator loss {losses}")


def test_rows_are_those_of_a_table():
    history = filled(2)
    history.record(2, {"fid": 3.5})
    history.record(3, {"fid": 2.5})
    assert history.rows() == [
        {"step": 1, "generator_loss": 0.0, "discriminator_loss": 0.0},
        {"step": 2, "generator_loss": 0.5, "discriminator_loss": 0.25, "fid": 3.5},
        {"step": 3, "fid": 2.5},
    ]
    pandas = pytest.importorskip("pandas")
    assert list(pandas.DataFrame(history.rows()).set_index("step")["fid"].dropna()) == [3.5, 2.5]


def test_plot_shows_losses_and_metrics():
    pytest.importorskip("matplotlib").use("agg")
    history = filled(3)
    history.record(2, {"fid": 3.5})
    axes = history.plot()
    lines = {line.get_label(): line.get_xydata().tolist() for axis in axes for line in axis.lines}
    assert lines == {
        "generator loss": [[1, 0], [2, 0.5], [3, 1]],
        "discriminator loss": [[1, 0], [2, 0.25], [3, 0.5]],
        "fid": [[2, 3.5]],
    }
