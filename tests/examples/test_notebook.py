"""The notebook runs, and is stored with its outputs.

After a change, execute it again: `jupyter execute --inplace examples/first_gan.ipynb`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from tests.helpers.digits import write_mnist
from tests.helpers.scripts import ROOT

NOTEBOOK = ROOT / "examples" / "first_gan.ipynb"


def stored_cells() -> list[dict[str, Any]]:
    """Return the cells with code."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_stored_notebook_has_been_run_from_top_to_bottom():
    cells = stored_cells()
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]


def test_the_stored_outputs_have_pictures_and_no_errors_or_warnings():
    outputs = [output for cell in stored_cells() for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) > 8
    kinds = {output["output_type"] for output in outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert [output for output in outputs if output.get("name") == "stderr"] == []


def test_the_notebook_is_small():
    assert NOTEBOOK.stat().st_size < 700_000


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    write_mnist(tmp_path / "data", train=130)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = (
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])
    )
    parameters.source = "STEPS = 3\nSHOW_AT = (1, 3)\nFAILING_STEPS = 2\n"
    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=folder).execute()
    assert (tmp_path / "runs" / "first_gan.pt").is_file()
    printed = [
        output["text"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.get("name") == "stdout"
    ]
    assert "True\n" in printed  # the loaded generator has the same samples
