"""The notebook runs from top to bottom in a kernel of its own, with settings that take seconds; no outputs are stored."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient


NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "quickstart.ipynb"
TINY = """
STEPS, MAX_PARAMS, OTHER_MAX_PARAMS, PROMPT = 4, "70%", "60%", "a line"
OPTIONS = "--n_embd 16 32 --n_layer 1 2 --block_size 32 --vocab_size 300 --per_device_batch_size 4 --eval_batches 1"
OPTIONS += " --train_file train.txt --candidate_batches 1 --finalists 2 --finalist_batches 1 --finalist_seeds 1"
"""


@pytest.fixture(scope="module")
def notebook():
    found = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(found)
    return found


def test_it_is_stored_without_outputs_and_its_parameters_have_the_form_of_colab(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    (settings,) = (cell for cell in code if "parameters" in cell.metadata.get("tags", ()))
    lines = [line for line in settings.source.splitlines() if not line.startswith("# @title")]
    assert len(lines) == 6 and all(" = " in line and "# @param {type:" in line for line in lines)


def test_it_searches_shows_exports_and_generates(notebook, tmp_path):
    (tmp_path / "train.txt").write_text("".join(f"line {number} of a small text.\n" for number in range(400)))
    number = next(n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    cells = [*notebook.cells[: number + 1], nbformat.v4.new_code_cell(TINY), *notebook.cells[number + 1 :]]
    ran = nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)
    NotebookClient(ran, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in ran.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    assert "image/png" in {kind for output in outputs for kind in output.get("data", ())}
    assert "publish" in text and "test loss " in text and " parameters, saved as " in text
    for name in ("subnet", "other"):
        assert f"{name}: 'a line" in text and (tmp_path / "runs" / "quickstart" / name / "config.json").is_file()
