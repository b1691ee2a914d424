"""The notebook of the examples runs from its first cell to its last, and shows what the files say."""

import json
import shutil

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY

pytestmark = pytest.mark.distributed


def test_first_look_runs_and_its_figures_are_those_of_the_run(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    shutil.copy(REPOSITORY / "examples" / "first_look.ipynb", tmp_path)
    notebook = nbformat.read(tmp_path / "first_look.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=PATIENCE_SECONDS, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    run = tmp_path / "first-look" / "run"
    assert (run / "report" / "index.html").is_file()
    assert any("image/png" in output.get("data", {}) for output in shown)
    table = next(output["data"]["text/html"] for output in shown if "bits per byte" in output.get("data", {}).get("text/html", ""))
    scores = json.loads((run / "scores" / "step-59.json").read_text())
    assert all(f"{found['value']:.6f}" in table for found in scores["bits_per_byte"])


def test_first_look_is_kept_without_outputs():
    cells = json.loads((REPOSITORY / "examples" / "first_look.ipynb").read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
