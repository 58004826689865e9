"""The benchmark that asks which short training predicts the order of nets runs as documented."""

import json
import runpy
import sys
from pathlib import Path


SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "short_training.py"


def test_every_start_is_trained_and_ranked(tmp_path, monkeypatch, capsys):
    (tmp_path / "train.txt").write_text("".join(f"line {number} of a small text.\n" for number in range(200)))
    tiny = "--n_embd 16 32 --n_layer 1 2 --block_size 32 --vocab_size 300 --per_device_batch_size 4 --max_steps 2 --shares 50"
    tiny += " --max_params 80% --nets 3 --rivals 2 --validation_batches 1 --json"
    folders = ["--train_file", str(tmp_path / "train.txt"), "--output_dir", str(tmp_path / "run")]
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, "gpt2", *tiny.split(), *folders])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    rows = json.loads(capsys.readouterr().out)["rows"]
    starts = {(row["start"], row["share"]) for row in rows}
    assert {(start, 50.0) for start in ("new", "alone", "shared", "supernet", "recalibrated", "low rate")} <= starts
    lines = (tmp_path / "run" / "trainings.jsonl").read_text().splitlines()
    assert len(lines) == 3 * len(rows)
