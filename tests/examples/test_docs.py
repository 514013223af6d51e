"""Code in the README and the docs runs, type-checks, and does what the text says."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from tests.helpers.digits import write_mnist
from tests.helpers.scripts import ROOT
from vanillagan import Batch, Discriminator, GANTrainer, Generator, __version__

IMPORTS = """
from pathlib import Path

import torch
from torch import Tensor, nn

from vanillagan import EMA, Discriminator, GANTrainer, Generator, linear_decay
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist
"""

SETUP = re.compile(r"<!-- what the reader has already, for the tests:\n(.*?)-->\n", re.DOTALL)
"""Comment of a page with the trainers, data and files that its code uses."""

OPTIONAL = ["datasets", "h5py", "huggingface_hub", "onnxruntime", "optuna", "pandas"]
OPTIONAL += ["safetensors", "webdataset"]
"""Packages whose blocks run only where they are installed: the tests do without them."""

SMALLER = {
    "10_000": "100",
    "1_000": "10",
    "8_000": "2",
    "3000": "2",
    "= mnist_5000()": '= mnist("data")',
    "1_500": "3",
    "1_600": "4",
    "max_steps: int = 200": "max_steps: int = 8",
    "max_steps=700": "max_steps=3",
    "max_epochs=200": "max_epochs=2",
    "max_epochs=20,": "max_epochs=1,",
    "max_epochs=20)": "max_epochs=1)",
    "max_epochs=5)": "max_epochs=1)",
    "max_epochs=10)": "max_epochs=2)",
}


def pages_with_code() -> list[str]:
    """Return the pages with Python code, without translations, which have the same code."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    names = [str(page.relative_to(ROOT)) for page in pages if "```python" in page.read_text()]
    return sorted(name for name in names if not name.startswith("docs/zh/"))


PAGES = pages_with_code()

WITH_FIXTURES = {
    "docs/use/evaluation.md",
    "docs/use/how_to_networks.md",
    "docs/use/how_to_tools.md",
    "docs/use/how_to_training.md",
}
"""Pages that a fixture runs, for tests of what they define."""


def code_of(page: str) -> str:
    """Return the Python code of a page, as one script."""
    return "\n".join(blocks_of(page))


def blocks_of(page: str) -> list[str]:
    """Return the imports of all pages, the setup of a page and its blocks of Python code."""
    text = (ROOT / page).read_text()
    return [IMPORTS, *SETUP.findall(text), *re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


def can_run(block: str) -> bool:
    """Return True if the optional packages that a block imports are installed."""
    imported = re.findall(r"^(?:from|import) (\w+)", block, re.MULTILINE)
    return all(find_spec(package) for package in imported if package in OPTIONAL)


def run_page(page: str, folder: Path) -> dict[str, Any]:
    """Run the code of a page in a folder, with few samples and steps, and return its names."""
    code = "\n".join(filter(can_run, blocks_of(page)))
    for long, short in SMALLER.items():
        code = code.replace(long, short)
    write_mnist(folder / "data", train=130, test=30)
    names: dict[str, Any] = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(code, f"<code of {page}>", "exec"), names)
    return names


def test_links_of_the_readme_work_on_a_package_index():
    targets = re.findall(r"\]\((.*?)\)", (ROOT / "README.md").read_text())
    assert all(target.startswith("https://") for target in targets)
    own = [re.search(r"/vanillagan/vanillagan/(?:blob/)?main/(.*)", target) for target in targets]
    files = [ROOT / match[1] for match in own if match]
    assert len(files) > 10
    assert [str(file) for file in files if not file.is_file()] == []


def test_the_citation_has_the_version_of_the_package():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.filterwarnings(
    "ignore:the .* optimizer goes on with lr:UserWarning",
    "ignore::ResourceWarning",  # webdataset leaves the last shard open
)
@pytest.mark.parametrize("page", sorted({*PAGES} - WITH_FIXTURES))
def test_the_code_of_a_page_runs(page, tmp_path):
    run_page(page, tmp_path)


@pytest.mark.slow
def test_the_code_of_all_pages_type_checks(tmp_path):
    for page in PAGES:
        name = "_".join(Path(page).with_suffix("").parts)
        (tmp_path / f"{name}_page.py").write_text(code_of(page))
    config = tmp_path / "mypy.ini"
    untyped = ",".join(f"{package}.*" for package in [*OPTIONAL, "mlflow", "wandb"])
    config.write_text(
        f"""
[mypy]
strict = True
disallow_subclassing_any = False
allow_redefinition = True
untyped_calls_exclude = torch
mypy_path = {ROOT}
cache_dir = {ROOT / ".mypy_cache" / "docs"}

[mypy-PIL.*,torchmetrics.*,torchvision.*,{untyped}]
follow_imports = skip
ignore_missing_imports = True

# methods of a mixin whose package is not installed are taken for modules of the network
[mypy-docs_use_how_to_tools_page]
disable_error_code = operator
"""
    )
    pages = sorted(map(str, tmp_path.glob("*.py")))
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), *pages]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


# -- understand ------------------------------------------------------------------------------------


def flatten(value: Any) -> list[float]:
    """Return the numbers in a number, a tensor, or a tuple or list of them."""
    if isinstance(value, tuple | list):
        return [number for part in value for number in flatten(part)]
    return torch.as_tensor(value).flatten().tolist()


@pytest.mark.parametrize("page", [page for page in PAGES if "/understand/" in page])
def test_expressions_have_the_values_in_their_comments(page):
    """`expression  # 0.88, 0.12: text` is within a unit of the last digit."""
    number = r"(?:nan|-?\d+(?:\.\d+)?)"
    stated = re.compile(rf"  # \(?({number}(?:, {number})*)")
    torch.manual_seed(0)
    code, names = code_of(page), {"__name__": "page"}
    for node in ast.parse(code).body:
        source = ast.get_source_segment(code, node)
        comment = stated.match(code.splitlines()[node.end_lineno - 1], node.end_col_offset)
        if not isinstance(node, ast.Expr) or comment is None:
            exec(source, names)
            continue
        expected = comment[1].split(", ")
        unit = max(10.0 ** -len(text.partition(".")[2]) for text in expected)
        found = flatten(eval(source, names))
        assert found == pytest.approx([*map(float, expected)], abs=unit, nan_ok=True), source


# -- extending.md ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def extending(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the code of `extending.md` defines."""
    return run_page("docs/use/extending.md", tmp_path_factory.mktemp("extending"))


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def make(trainer_class: type[GANTrainer], **options: Any) -> GANTrainer:
    torch.manual_seed(0)
    return trainer_class(
        Generator(3, (2,), hidden=(), output="linear"),
        Discriminator((2,), hidden=(8,)),
        generator_optimizer=sgd,
        discriminator_optimizer=sgd,
        device="cpu",
        **options,
    )


def test_the_rewritten_step_also_matches_the_mean(extending, points):
    rewritten, plain = make(extending["MeanMatching"]), make(GANTrainer)
    step, other = (trainer.generator_step(Batch(points)) for trainer in (rewritten, plain))
    assert torch.equal(step.loss, other.loss)
    assert torch.equal(step.fake, other.fake)
    # gradient by the bias of the mean over features of (mean of fakes - mean of data)^2
    matching = 0.1 * (step.fake.mean(0) - points.mean(0))
    torch.testing.assert_close(
        rewritten.generator.layers[0].bias, plain.generator.layers[0].bias - matching
    )
    assert len(rewritten.fit(points, max_epochs=1, batch_size=50)) == 4


def test_the_callback_stops_at_its_step(extending, points):
    trainer = make(GANTrainer, callbacks=[extending["StopAtStep"](3)])
    trainer.fit(points, max_epochs=1, batch_size=50)
    assert (trainer.progress.step, trainer.stop_reason) == (3, "step 3")


def test_the_subclass_reads_its_form_of_batches(extending, points):
    trainer = make(extending["LabeledPixels"])
    trainer.fit([{"pixels": points, "kind": torch.zeros(200, dtype=torch.long)}], max_epochs=1)
    assert trainer.progress.step == 1


def test_the_penalty_is_applied_lazily(extending, points):
    trainer = make(GANTrainer, penalties=[extending["LazyLogit"]()])
    penalties = [trainer.train_step(points).discriminator.penalty for _ in range(5)]
    assert [penalty is None for penalty in penalties] == [False, True, True, True, False]


# -- evaluation.md ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the code of `evaluation.md` defines."""
    fid = pytest.importorskip("torchmetrics.image.fid")
    flatten = torch.nn.Flatten()  # instead of Inception, whose weights would be downloaded
    flatten.num_features = 3 * 28 * 28
    folder = tmp_path_factory.mktemp("evaluation")
    with pytest.MonkeyPatch.context() as patch:
        inception = functools.partial(fid.FrechetInceptionDistance, flatten)
        patch.setattr(fid, "FrechetInceptionDistance", inception)
        names = run_page("docs/use/evaluation.md", folder)
    return names | {"folder": folder}


def test_the_parzen_estimate_gets_pixels_in_0_1(evaluation):
    expected = (evaluation["test_images"] + 1) / 2
    torch.testing.assert_close(evaluation["data"], expected)
    assert (float(expected.min()), float(expected.max())) == (0, 1)
    for images in (evaluation["samples"], evaluation["validation"]):
        assert 0 <= float(images.min()) < float(images.max()) <= 1
    assert len(evaluation["samples"]) == 100
    assert evaluation["estimate"].sigma > 0


def test_the_best_checkpoint_is_that_of_the_metric(evaluation):
    best, history = evaluation["best"], evaluation["trainer"].history
    assert history.metrics["frechet"] == [(best.best_step, best.best_value)]
    assert (evaluation["folder"] / "best.pt").exists()


def test_inception_gets_three_channels_in_0_1():
    page = code_of("docs/use/evaluation.md")
    transform = eval(re.search(r"transform=(lambda.*),\n", page)[1])  # the page's own
    images = transform(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1))
    assert images.tolist() == [[[[0.0]]] * 3, [[[1.0]]] * 3]


def test_rejection_gives_as_many_as_asked_for(evaluation):
    assert evaluation["better"].shape == (10, 1, 28, 28)


# -- how_to_networks.md, how_to_training.md --------------------------------------------------------


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the code of `how_to_networks.md` defines."""
    return run_page("docs/use/how_to_networks.md", tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the code of `how_to_training.md` defines."""
    return run_page("docs/use/how_to_training.md", tmp_path_factory.mktemp("training"))


def test_both_players_of_acgan_lower_the_cross_entropy(networks, points):
    class Head(torch.nn.Module):
        num_classes = 2
        independent_samples = True

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 3)

        def forward(self, samples: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return self.layer(samples)

    torch.manual_seed(0)
    trainer = networks["ACGAN"](
        Generator(3, (2,), hidden=(), num_classes=2, output="linear"),
        Head(),
        generator_optimizer=sgd,
        discriminator_optimizer=sgd,
        device="cpu",
    )
    labels = (points[:, 0] > points[:, 0].median()).long()
    trainer.fit([(points, labels)], max_steps=100)
    for samples in (points, trainer.sample(200, labels=labels, seed=0)):
        classes = trainer.discriminator(samples, labels)[:, 1:].argmax(1)
        assert (classes == labels).float().mean() > 0.9


def test_frozen_layers_train_from_the_step_on_that_unfreezes_them(networks, points):
    trainer = make(GANTrainer, callbacks=[networks["Unfreeze"]()])
    weight = trainer.generator.layers[0].weight.requires_grad_(False)
    before = weight.clone()
    changed = []
    for _ in range(4):
        trainer.train_step(points)
        changed.append(not torch.equal(weight, before))
    assert changed == [False, False, True, True]


def test_the_weights_of_the_discriminator_are_clipped(training, points):
    trainer = make(training["ClippedWGAN"])
    trainer.train_step(points)
    generator, discriminator = (
        max(float(weight.detach().abs().max()) for weight in player.parameters)
        for player in trainer.players
    )
    assert discriminator == pytest.approx(0.01)
    assert generator > 0.01


def test_features_are_matched(training, points, monkeypatch):
    monkeypatch.setitem(training, "features", torch.nn.Identity())
    trainer = make(training["FeatureMatching"])
    losses = [float(trainer.generator_step(Batch(points)).loss) for _ in range(50)]
    assert sum(losses[-5:]) < sum(losses[:5]) / 10


# -- how_to_tools.md -------------------------------------------------------------------------------


class Pixels(torch.nn.Module):
    """In place of Inception, whose weights would be downloaded."""

    num_features = 3 * 28 * 28

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float()


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the code of `how_to_tools.md` defines, with trackers that record calls."""
    inception = pytest.importorskip("torchmetrics.image.inception")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `InceptionScore` will save all")
        score = functools.partial(inception.InceptionScore, Pixels())
        patch.setattr(inception, "InceptionScore", score)
        for tracker in ("mlflow", "wandb"):
            patch.setitem(sys.modules, tracker, MagicMock())
        return run_page("docs/use/how_to_tools.md", tmp_path_factory.mktemp("tools"))


def test_trackers_get_losses_at_intervals(tools):
    run = tools["wandb"].init.return_value
    run.finish.assert_called_once_with()
    for log in (run.log, tools["mlflow"].log_metrics):
        (values,), step = log.call_args
        assert step == {"step": 10}
        assert values.keys() == {"generator_loss", "discriminator_loss"}
        assert log.call_count == 1


def test_the_inception_score_is_recorded(tools):
    ((step, score),) = tools["trainer"].history.metrics["inception"]
    assert (step, score >= 1) == (1, True)
