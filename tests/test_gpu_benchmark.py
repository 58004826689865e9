"""The benchmark for a GPU, on a CPU: all of its tables on tiny nets, and what it does when memory or time is short."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import gpu

    monkeypatch.setattr(gpu, "ROUNDS", 1)
    return gpu


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch.compile reads it
def test_tiny_nets_have_all_rows_and_a_search_ends_in_an_export(gpu, tmp_path, capsys):
    words = ["--device", "cpu", "--tiny", "--parts", "llama", "search", "--output", str(tmp_path / "gpu.json")]
    gpu.main(words)
    *steps, search = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    own = {"stock", "weight", "arch", "search"}
    more = {"gdas weight", "gdas arch", "gdas search", "extracted", "single path"}
    for precision in ("bf16", "fp32"):
        for blocks, expected in (("as they are", own | more), ("compiled", own)):
            rows = [row for row in steps if (row["precision"], row["blocks"]) == (precision, blocks)]
            assert {row["step"] for row in rows} == expected and not any("problem" in row for row in rows)
            assert all(row["x"] == pytest.approx(row["seconds"] / base["seconds"]) for row in rows
                       for base in rows if base["step"] == row["to"])  # fmt: skip
            assert all(row["tokens/s"] == pytest.approx(32 / row["seconds"]) for row in rows)
    assert search["steps"] == 4 and search["largest difference of logits"] < 1e-4 * search["of"]
    assert "single path" in capsys.readouterr().out


def test_what_fails_is_a_row_and_the_others_are_measured(gpu):
    model = torch.nn.Linear(1, 1)

    def full():
        model.requires_grad_(False)  # as an architecture step leaves it
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")

    steps = {"stock": lambda: None, "weight": full, "arch": lambda: None}
    own, cpu = dict.fromkeys(steps, model), torch.device("cpu")
    rows = {row["step"]: row for row in gpu.time_steps(steps, own, cpu, time.monotonic() + 9)}
    assert rows["weight"] == {"step": "weight", "problem": "out of memory"} and model.weight.requires_grad
    assert rows["arch"]["rounds"] == 1 and "search" not in rows
    late = list(gpu.time_steps(steps, own, cpu, 0.0))
    assert [row["problem"] for row in late] == ["no time left"] * 3


def test_a_part_that_takes_too_long_is_ended_and_what_it_measured_counts(gpu):
    code = 'import time; print(\'{"part": "vit", "x": 1}\\nof the recipe\', flush=True); time.sleep(60)'
    start = time.monotonic()
    rows = list(gpu.rows_of_process([sys.executable, "-c", code, "vit"], 1.0))
    assert rows == [{"part": "vit", "x": 1}, {"part": "vit", "step": "the rest", "problem": "ended after 1 s"}]
    assert time.monotonic() - start < 20
    (row,) = gpu.rows_of_process([sys.executable, "-c", "raise SystemExit(3)", "vit"], 60.0)
    assert row["problem"] == "failed with exit code 3"
