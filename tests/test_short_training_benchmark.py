"""The benchmark that asks which short training predicts the order of nets runs as documented."""

import json
import subprocess
import sys
from pathlib import Path


SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "short_training.py"


def test_every_start_is_trained_and_ranked(tmp_path):
    (tmp_path / "train.txt").write_text("".join(f"line {number} of a small text.\n" for number in range(200)))
    tiny = "--n_embd 16 32 --n_layer 1 2 --block_size 32 --vocab_size 300 --per_device_batch_size 4 --max_steps 2 --shares 50"
    command = [
        sys.executable,
        str(SCRIPT),
        "gpt2",
        *tiny.split(),
        "--max_params",
        "80%",
        "--nets",
        "3",
        "--rivals",
        "2",
    ]
    command += ["--validation_batches", "1", "--json", "--train_file", str(tmp_path / "train.txt")]
    command += ["--output_dir", str(tmp_path / "run")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    rows = json.loads(ran.stdout)["rows"]
    starts = {(row["start"], row["share"]) for row in rows}
    assert {(start, 50.0) for start in ("new", "alone", "shared", "supernet", "recalibrated", "low rate")} <= starts
    lines = (tmp_path / "run" / "trainings.jsonl").read_text().splitlines()
    assert len(lines) == 3 * len(rows)
