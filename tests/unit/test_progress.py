"""Progress of a run, and its limits."""

from __future__ import annotations

import pytest

from vanillagan.progress import Progress

SIGNATURE = {"length": 40}


def at(steps: int, steps_per_epoch: int | None = 5, **limits: int) -> Progress:
    """Return the progress after some steps in epochs of five."""
    progress = Progress(**limits)
    progress.set_data(SIGNATURE, steps_per_epoch)
    for _ in range(steps):
        progress.count_step()
        if progress.step_in_epoch == 5:
            progress.count_epoch()
    return progress


def test_steps_and_epochs_are_counted():
    progress = at(12)
    assert (progress.step, progress.epoch, progress.step_in_epoch) == (12, 2, 2)


def test_epoch_end_is_known_before_it_is_counted():
    progress = at(4)
    assert not progress.at_epoch_end
    progress.count_step()
    assert progress.at_epoch_end
    progress.count_epoch()
    assert (progress.epoch, progress.at_epoch_end) == (1, False)


@pytest.mark.parametrize(
    ("steps", "steps_per_epoch", "limits", "total"),
    [
        (0, 5, {"max_epochs": 3}, 15),
        (12, 5, {"max_epochs": 3}, 15),
        (12, 5, {"max_steps": 13}, 13),
        (12, 5, {"max_epochs": 3, "max_steps": 13}, 13),
        (12, 5, {"max_epochs": 3, "max_steps": 99}, 15),
        (12, 5, {"max_epochs": 1}, 12),
        (12, None, {"max_epochs": 3}, None),
        (12, None, {"max_epochs": 3, "max_steps": 99}, 99),
        (12, 5, {}, None),
    ],
)
def test_total_steps(steps, steps_per_epoch, limits, total):
    progress = at(steps, steps_per_epoch, **limits)
    assert progress.total_steps == total
    assert progress.at_last_step == (total == 12)


@pytest.mark.parametrize(
    ("steps", "steps_per_epoch", "limits", "fraction"),
    [
        (0, 5, {"max_epochs": 4}, 0.0),
        (5, 5, {"max_epochs": 4}, 0.25),
        (7, 5, {"max_steps": 28}, 0.25),
        (29, 5, {"max_steps": 28}, 1.0),
        (7, None, {"max_epochs": 4}, 0.25),
        (25, None, {"max_epochs": 4}, 1.0),
        (7, 5, {}, None),
    ],
)
def test_fraction_of_the_run(steps, steps_per_epoch, limits, fraction):
    assert at(steps, steps_per_epoch, **limits).fraction == fraction


@pytest.mark.parametrize(
    ("limits", "complete"),
    [
        ({}, False),
        ({"max_epochs": 2}, True),
        ({"max_epochs": 3}, False),
        ({"max_steps": 12}, True),
        ({"max_steps": 13}, False),
        ({"max_steps": 12, "max_epochs": 3}, True),
    ],
)
def test_the_first_limit_reached_completes_a_run(limits, complete):
    assert at(12, **limits).is_complete == complete


def test_limits_must_be_positive_and_one_must_be_given():
    with pytest.raises(ValueError, match="`max_epochs` must be a positive integer, got 0"):
        Progress().set_limits(0, None)
    with pytest.raises(TypeError, match=r"`max_steps` must be a positive integer, got 2\.5"):
        Progress().set_limits(None, 2.5)
    with pytest.raises(ValueError, match="`max_epochs` or `max_steps` must be given, got None"):
        Progress().set_limits(None, None)


def test_limits_that_are_reached_warn():
    with pytest.warns(UserWarning, match="nothing left to do: the run has done 2 epochs and 12"):
        at(12).set_limits(2, None)


def test_same_data_continues_the_epoch():
    progress = at(12)
    progress.set_data(dict(SIGNATURE), 5)
    assert progress.resume_step == progress.step_in_epoch == 2


def test_other_data_restart_the_epoch_with_a_warning():
    progress = at(12)
    with pytest.warns(UserWarning, match=r"started with {'length': 40}.* imply {'length': 80}"):
        progress.set_data({"length": 80}, 10)
    assert progress.resume_step == 0
    progress.max_epochs = 3
    assert progress.total_steps == 12 + 10
    progress.count_step()
    assert (progress.step, progress.epoch, progress.step_in_epoch) == (13, 2, 1)
    assert progress.resume_step == 1


def test_a_restart_without_a_step_changes_nothing():
    progress = at(12)
    before = progress.state_dict()
    with pytest.warns(UserWarning, match="restarting the current epoch"):
        progress.set_data({"length": 80}, 10)
    assert progress.state_dict() == before
    progress.set_data(SIGNATURE, 5)
    assert progress.resume_step == 2


def test_other_data_between_epochs_do_not_warn():
    progress = at(10)
    progress.set_data({"length": 80}, 10)
    assert progress.steps_per_epoch == 10


def test_state_is_what_is_done_not_the_limits():
    other = Progress(max_steps=99)
    other.load_state_dict(at(12, max_epochs=3).state_dict())
    assert (other.step, other.epoch, other.step_in_epoch) == (12, 2, 2)
    assert (other.max_epochs, other.max_steps) == (None, 99)
    with pytest.warns(UserWarning, match="restarting the current epoch"):
        other.set_data({"length": 80}, 10)
