"""The example of mixtures of Gaussians: its figures, and short runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from PIL import Image

from tests.helpers.scripts import Run, load_example, run_here

pytestmark = pytest.mark.slow

SCRIPT = "examples/mixtures.py"
SHORT = ["--steps", "8", "--refit-steps", "2"]


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return load_example("mixtures")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("mixtures")
    options = [*SHORT, "--rejection", "--mixture", "ring", "--seeds", "0", "3"]
    return out, run_here([SCRIPT, *options, "--out", str(out)])


@pytest.mark.parametrize(("name", "count", "std"), [("ring", 8, 0.01), ("grid", 25, 0.05)])
def test_the_data_itself_is_perfect(example, name, count, std):
    mixture = example["MIXTURES"][name]()
    assert (len(mixture.centers), mixture.std) == (count, std)
    figures = mixture.evaluate(mixture.draw(10_000, seed=1))
    assert (figures["found"], figures["strict"]) == (count, count)
    assert figures["high_quality"] == pytest.approx(scipy.stats.chi2(2).cdf(9), abs=0.004)
    assert figures["kl"] < 0.004
    # E[r^2 | r < 3] / 2 of a normal in the plane
    within = 1 - 4.5 * scipy.stats.chi2(2).sf(9) / scipy.stats.chi2(2).cdf(9)
    assert figures["spread"] == pytest.approx(within**0.5, abs=0.02)


def test_the_modes_are_those_of_the_papers(example):
    ring, grid = (example["MIXTURES"][name]().centers for name in ("ring", "grid"))
    torch.testing.assert_close(ring.norm(dim=1), torch.ones(8))
    assert (ring - torch.tensor([0.5**0.5, 0.5**0.5])).norm(dim=1).min() < 1e-6
    assert sorted(set(grid.flatten().tolist())) == [-4, -2, 0, 2, 4]
    assert len({tuple(center) for center in grid.tolist()}) == 25


def test_collapse_shows_in_the_figures(example):
    mixture = example["MIXTURES"]["grid"]()
    samples = mixture.centers[0].repeat(10_000, 1)
    samples[:5] = mixture.centers[1]
    samples[::2] += 1.0  # between the modes
    figures = mixture.evaluate(samples)
    assert (figures["found"], figures["strict"]) == (2, 1)
    assert figures["high_quality"] == 0.5
    assert figures["kl"] == pytest.approx(3.2, abs=0.05)
    assert figures["spread"] == pytest.approx(0, abs=1e-6)


def test_without_good_samples_the_spread_is_infinite(example):
    mixture = example["MIXTURES"]["ring"]()
    nothing = mixture.evaluate(torch.zeros(10_000, 2))
    assert (nothing["found"], nothing["kl"], nothing["spread"]) == (0, math.inf, math.inf)
    data = mixture.evaluate(mixture.draw(10_000, seed=1))
    kind = {"mixture": "ring", "run": "stable"}
    for order in ([nothing, data, nothing], [data, nothing, nothing], [nothing, nothing, data]):
        rows = [kind | {"seed": seed} | row for seed, row in enumerate(order)]
        median, worst = example["summarize"](rows)
        assert median["spread"] == worst["spread"] == math.inf


def test_a_sample_counts_within_3_standard_deviations(example):
    mixture = example["MIXTURES"]["grid"]()
    samples = mixture.centers.repeat(400, 1)
    samples[:, 0] += 3.01 * mixture.std
    assert mixture.evaluate(samples)["high_quality"] == 0
    samples[:, 0] -= 0.02 * mixture.std
    assert mixture.evaluate(samples)["high_quality"] == 1


def test_a_row_is_printed_for_each_run_and_the_worst(finished):
    _, run = finished
    assert run.code == 0
    lines = run.printed.splitlines()
    for kind in ("full run", "full run, accepted", "short run", "short run, accepted"):
        title = f"ring, stable, {kind}"
        for seed in ("0", "3"):
            assert any(line.startswith(f"{title} ") and f" {seed} " in line for line in lines)
        assert any(line.startswith(f"{title}: worst ") for line in lines)


def test_a_run_saves_a_picture_and_strict_json(finished):
    out, _ = finished
    assert sorted(path.name for path in out.iterdir()) == ["results.json", "ring.png"]
    with Image.open(out / "ring.png") as picture:
        assert picture.width > 4 * picture.height

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    results = json.loads((out / "results.json").read_text(), parse_constant=refuse)
    assert len(results["runs"]) == 1 + 2 * 4
    assert len(results["summary"]) == 2 * 4
    assert results["runs"][0]["run"] == "the data"
    assert {row["steps"] for row in results["runs"][1:]} == {8, 2}


def test_both_recipes_and_both_mixtures_run(tmp_path):
    run = run_here([SCRIPT, *SHORT, "--recipe", "stable", "reference", "--out", str(tmp_path)])
    assert run.code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "ring.png", "grid.png"}
    results = json.loads((tmp_path / "results.json").read_text())
    kinds = {(row["mixture"], row["run"]) for row in results["runs"]}
    runs = {"the data", "stable, full run", "reference, full run"}
    assert kinds == {(mixture, run) for mixture in ("ring", "grid") for run in runs}


def test_the_stable_recipe_covers_modes_early(example):
    """The reference has 2 modes by the strict count here, a KL of 1.7 and 7 % of quality."""
    mixture = example["MIXTURES"]["grid"]()
    setup = example["train"](mixture, "stable", 1_000, seed=0, device="cpu")
    figures = mixture.evaluate(setup.sample(10_000, seed=0))
    assert figures["strict"] >= 12
    assert figures["kl"] < 1
    assert figures["high_quality"] > 0.15


def test_the_noise_fades_to_zero(example):
    torch.manual_seed(0)
    seen = []

    class Record(example["Callback"]):
        def on_step_start(self, trainer, batch):
            seen.append(trainer.discriminator.std)

    mixture = example["MIXTURES"]["ring"]()
    setup = example["stable"](mixture, device="cpu", callbacks=[Record()])
    setup.trainer.fit(mixture.draw(256, seed=0), max_steps=10, batch_size=16)
    assert seen == pytest.approx([50 ** -(step / 7) for step in range(7)] + [0.02] * 3)
    assert setup.trainer.discriminator.std == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "argument --steps: must be a positive integer, got 0"),
        (["--mixture", "line"], "argument --mixture: invalid choice: 'line'"),
        (["--recipe", "best"], "argument --recipe: invalid choice: 'best'"),
    ],
)
def test_a_wrong_option_is_explained(tmp_path, options, message):
    run = run_here([SCRIPT, *options, "--out", str(tmp_path)])
    assert run.code == 2
    assert message in run.printed
    assert "Traceback" not in run.printed
