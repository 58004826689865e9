"""The recipe from end to end on a tiny space: what it leaves, what it refuses, and that a stopped run continues."""

import csv
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from finetune import arguments
from safetensors.torch import load_file
from search_gpt import main

import tangle_hf_cli
from tangle_hf.cli import compare_fronts
from tangle_hf.data.text_settings import DataArguments
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.space_settings import SpaceArguments
from tangle_hf.search import SearchArguments
from tangle_hf.search.finalists.halving import round_steps
from tangle_hf.settings import parse
from tangle_hf.space import Architecture


RECIPE = Path(__file__).parents[2] / "recipes" / "search_gpt.py"
KINDS = (SpaceArguments, DataArguments, SearchArguments, SearchHubArguments)
TINY = ["--n_embd", "16", "32", "--n_layer", "1", "2", "--block_size", "32", "--vocab_size", "300", "--max_steps", "6",
        "--per_device_batch_size", "4", "--save_steps", "2", "--eval_steps", "3", "--eval_batches", "2",
        "--warmup_steps", "1", "--logging_steps", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for name in ("train", "validation", "test"):
        (folder / f"{name}.txt").write_text("".join(f"{name} line {i} of a small text.\n" for i in range(300)))
    return [x for name in ("train", "validation", "test") for x in (f"--{name}_file", str(folder / f"{name}.txt"))]


def run(folder, text, *options):
    main(*parse(*KINDS, argv=["--output_dir", str(folder), *TINY, *text, *options]))


def as_a_script(folder, text, *options):
    """A process of its own, as a user starts it."""
    command = [sys.executable, str(RECIPE), "--output_dir", str(folder), *TINY, *text, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_leaves_a_checkpoint_that_equals_the_supernet_and_no_warning(tmp_path, text):
    process = as_a_script(tmp_path / "run", text)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert (out + err).lower().count("warn") == err.count("warning: the search has not decided") == 1, out + err
    assert "\r" not in out + err and "\n\n" not in out and "\n\n" not in err, "bars and blank lines in a file"
    assert "Map" not in err and "cutting" not in out, "progress of what takes no time"
    assert re.search(r"^n_layer    1, 2 +1\n", out, flags=re.M) and re.search(
        r"^parameters +[\d,]+ to [\d,]+$", out, flags=re.M
    )
    assert re.search(r"^search: 6 of 6 \(100%\), \d\d:\d\d so far, .* left, loss \d", err, flags=re.M), err
    commands = [shlex.split(words) for words in re.findall(r"^[\w -]+?  +tangle-hf (.*)$", out, flags=re.M)]
    assert [words[0] for words in commands] == ["resolve", "finetune", "push"]
    for words in commands:
        if words[0] == "finetune":
            arguments(words[1:])
            for option in (
                "--train_file",
                "--validation_file",
                "--test_file",
            ):  # or it would learn Python's documentation
                assert words[words.index(option) + 1] == text[text.index(option) + 1]
            assert not Path(words[words.index("--output_dir") + 1]).exists()
        else:
            assert Path(tangle_hf_cli.make_parser().parse_args(words).source).is_dir()
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"config.yaml", "metrics.jsonl", "checkpoints", "arch_parameters.safetensors", "architecture.json",
                    "supernet", "subnet", "results.json", "shares.png", "losses.png", "diagnostics.png", "run.json",
                    "report.html"}  # fmt: skip
    assert "has not decided" in err and "--arch_learning_rate" in err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    inside, exported, largest = results["table"]
    assert results["logit_difference"] < 1e-5 * results["logit_scale"]
    assert inside["test loss"] == pytest.approx(exported["test loss"], rel=1e-6)
    assert inside["parameters"] <= largest["parameters"] and "pipeline(" in out
    with pytest.raises(ValueError, match="holds a run already"):
        run(tmp_path / "run", text)
    with pytest.raises(ValueError, match=r"n_head=\[2, 4\] \(now \[2\]\)"):
        run(tmp_path / "run", text, "--resume", "--n_head", "2")


def test_interrupted_runs_leave_a_checkpoint_and_continue(tmp_path, text):
    long = ("--max_steps", "48", "--save_steps", "24")
    process = as_a_script(tmp_path / "run", text, *long)
    run(tmp_path / "whole", text, *long)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 5) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert "--resume" in process.communicate(timeout=100)[0] and process.returncode == 130
    assert not (tmp_path / "run" / "subnet").exists()
    run(tmp_path / "run", text, *long, "--resume")
    for name in ("architecture.json", "supernet/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    # The header of the logits has its entries in any order.
    logits = [load_file(tmp_path / name / "arch_parameters.safetensors") for name in ("run", "whole")]
    assert all(torch.equal(rows, logits[1][name]) for name, rows in logits[0].items())

    def lines(run):
        return [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]

    assert lines("run") == lines("whole")


def test_dry_run_prints_costs_and_leaves_nothing(tmp_path, text, capsys):
    run(tmp_path / "run", text, "--dry_run", "--gradient_accumulation_steps", "3")
    printed = capsys.readouterr().out
    assert "projected for 6 steps" in printed and "peak memory" in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--block_size=99999", "shorter than one block"),
        ("--n_head=5", "not divisible"),
        ("--max_params=9", "smallest possible"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, text, option, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", text, *option.split("="))
    assert not (tmp_path / "run").exists()


def test_a_budget_holds_and_is_reported(tmp_path, text, capsys):
    budgets = ["--max_params", "60%", "--max_flops", "90%", "--standard_only", "true", "--budget_candidates", "2"]
    run(tmp_path / "run", text, *budgets)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    inside, exported, largest = results["table"]
    used = results["budgets"]
    assert used["arch_params"] == inside["parameters"] <= used["max_params"] == largest["parameters"] * 6 // 10
    assert used["expected_params"] == pytest.approx(used["max_params"], rel=1e-5)
    assert used["arch_flops"] <= used["max_flops"] and results["form"] == "stock"
    printed = capsys.readouterr().out
    assert "parameters used (" in printed and "FLOPs per block used (" in printed
    losses = [candidate["loss"] for candidate in results["candidates"]]
    assert len(losses) == 2 and losses == sorted(losses)
    assert results["candidates"][0]["arch"] == results["finalists"]["chosen_by_search"]


@pytest.mark.parametrize("method", ["drnas", "spos+rs"])
def test_the_best_finalist_is_exported_and_all_are_shown(tmp_path, text, capsys, method):
    options = ["--method", method, "--n_embd", "24", "32", "--n_layer", "1", "2", "3", "--max_params", "60%"]
    options += ["--max_steps", "8", "--finalists", "3", "--random_finalists", "1", "--finalist_ratio", "0.5"]
    few = ["--population_size", "6", "--generations", "1"] if method == "spos+rs" else []
    run(tmp_path / "run", text, *options, *few)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    finalists, printed = results["finalists"], capsys.readouterr().out
    origins = [row["finalist"] for row in finalists["rows"]]
    assert sum("search" in origin for origin in origins) == 3 and origins.count("random") == 1
    assert any("hand cut" in origin for origin in origins)
    assert finalists["steps"] == round_steps(len(origins), 4) and finalists["noise"] > 0
    last = [row["4 steps"] for row in finalists["rows"] if row["4 steps"] != "-"]
    seeded = finalists["seeded"]
    assert 1 < seeded < 4 and last[seeded:] == sorted(last[seeded:])
    assert last[:seeded] == sorted(last[:seeded])
    assert f"the last losses of the first {seeded} are means over 2 seeds" in printed
    winner = Architecture(results["found"])
    assert finalists["rows"][0]["architecture"] == str(winner)
    assert Architecture.from_json((tmp_path / "run" / "architecture.json").read_text()) == winner
    assert finalists["changed"] == (finalists["chosen_by_search"] != results["found"])
    assert all(row["parameters"] <= results["budgets"]["max_params"] for row in finalists["rows"])
    assert results["budgets"]["arch_params"] == results["table"][0]["parameters"] == finalists["rows"][0]["parameters"]
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert results["search_cost"] > metrics[-1]["search_cost"] + finalists["cost"] > finalists["cost"] > 0
    card = (tmp_path / "run" / "subnet" / "README.md").read_text()
    assert "### Finalists" in card and "nets with equal layers, cut by hand to the same budget" in card
    for row in finalists["rows"]:
        assert row["architecture"] in card and row["architecture"] in printed
    assert "with a standard error of " in printed
    assert sum(row["finalist"].endswith(" (its choice)") for row in finalists["rows"]) == 1
    assert ("the search's choice stays" in printed) != finalists["changed"]
    with pytest.raises(ValueError, match=r"finalists=3 \(now 5\); resume it with the same settings"):
        run(tmp_path / "run", text, *options, *few, "--finalists", "5", "--resume")


def test_a_search_from_a_checkpoint_knows_its_tokens_and_learns_from_it(tmp_path, text, capsys):
    run(tmp_path / "first", text, "--n_embd", "32", "--n_layer", "2", "--n_head", "4", "--mlp_ratio", "4")
    start = tmp_path / "first" / "subnet"
    options = ("--start_from", str(start), "--teacher_share", "1", "--max_params", "50%", "--finalist_ratio", "0.5",
               "--dropout", "0.01")  # fmt: skip
    run(tmp_path / "run", text, *options)
    assert json.loads((tmp_path / "run" / "supernet" / "config.json").read_text())["attn_pdrop"] == 0.01
    printed = capsys.readouterr().out
    assert "slices of the checkpoint that the search started from" in printed
    assert "tangle-hf resolve" in printed and f"{tmp_path}/run --max_params 30%" in printed  # it has the half
    tokenizers = [(folder / "tokenizer.json").read_bytes() for folder in (start, tmp_path / "run" / "subnet")]
    assert tokenizers[0] == tokenizers[1]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["teacher"]["forward_passes"] > 2 * 6 and results["finalists"]["start"] == "checkpoint"
    with pytest.raises(
        ValueError, match="vocab_size=400: .* keeps its vocabulary of 300; leave --vocab_size out, or 0"
    ):
        run(tmp_path / "none", text, *options, "--vocab_size", "400")
    (start / "tokenizer.json").unlink()
    (start / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match="tokenizer .*"):
        run(tmp_path / "none", text, *options)
    assert not (tmp_path / "none").exists()


def test_finalists_that_are_missing_are_said(tmp_path, text, capsys):
    one = ["--n_embd", "32", "--n_layer", "1", "--n_head", "4", "--mlp_ratio", "3", "4", "--max_params", "98%"]
    many = ["--finalists", "9", "--random_finalists", "2"]
    run(tmp_path / "run", text, *one, *many, "--max_steps", "2")
    printed = capsys.readouterr().out
    assert (
        "the search proposes 1 different nets that use the budget and are as deep as its choice, fewer than 9"
        in printed
    )
    assert "0 other nets use the budget and are as deep, fewer than random_finalists=2" in printed
    assert "one finalist only: nothing to decide" in printed


@pytest.fixture
def new_accelerator():
    """The precision of a process is decided once, by the first `Accelerator` in it."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_bf16_training_exports_exactly(tmp_path, text, new_accelerator):
    run(tmp_path / "run", text, "--mixed_precision", "bf16", "--superposition", "weights")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["logit_difference"] < 1e-5 * results["logit_scale"]


def test_two_stages_leave_what_one_leaves_and_the_candidates(tmp_path, text, capfd, caplog):
    few = ["--population_size", "4", "--generations", "2", "--num_parents", "2", "--num_mutations", "2",
           "--num_crossovers", "1", "--candidate_batches", "2", "--max_params", "80%", "--budget_mode", "at_most",
           "--finalists", "0"]  # fmt: skip
    run(tmp_path / "run", text, "--method", "sandwich+es", *few)
    printed, errors = capfd.readouterr()
    assert "warn" not in (printed + errors + caplog.text).lower(), printed + errors + caplog.text
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"config.yaml", "metrics.jsonl", "checkpoints", "candidates.jsonl", "architecture.json", "supernet",
                    "subnet", "results.json", "losses.png", "run.json", "report.html"}  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "run" / "candidates.jsonl").read_text().splitlines()]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    best = min(lines, key=lambda line: line["loss"])
    inside, exported, largest = results["table"]
    assert len(lines) == results["candidates_evaluated"] == 8 and results["candidate_examples"] == 8
    assert results["found"] == best["arch"] and inside["parameters"] == best["params"] == exported["parameters"]
    assert all(line["params"] <= results["budgets"]["max_params"] < largest["parameters"] for line in lines)
    assert results["search_cost"] == lines[-1]["search_cost"] > lines[0]["search_cost"] > results["training_cost"] > 6
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["search_cost"] == results["training_cost"] and "subnets_loss" in metrics[-1]
    assert "the best of 8, each evaluated on 8 blocks" in printed and "\nsearch cost  " in printed
    assert "tangle-hf resolve" not in printed  # which needs logits


def test_more_generations_continue_a_finished_search(tmp_path, text):
    few = ["--method", "spos+rs", "--population_size", "3", "--candidate_batches", "1", "--max_steps", "2"]
    run(tmp_path / "run", text, *few, "--generations", "1")
    before = (tmp_path / "run" / "candidates.jsonl").read_text()
    run(tmp_path / "run", text, *few, "--generations", "2", "--resume")
    after = (tmp_path / "run" / "candidates.jsonl").read_text()
    assert after.startswith(before) and after.count("\n") == 6


def test_a_front_is_left_as_tables_and_compared_with_a_separate_search(tmp_path, text, capsys):
    front, single = tmp_path / "front", tmp_path / "single"
    budgets = ["--pareto_anchors", "40%", "60%", "90%", "--pareto_points", "6", "--max_flops", "95%"]
    run(front, text, "--pareto", "params", *budgets)
    left = {path.name for path in front.iterdir()}
    assert left == {"config.yaml", "metrics.jsonl", "checkpoints", "arch_parameters.safetensors", "supernet", "losses.png",
                    "diagnostics.png", "pareto.json", "pareto.csv", "pareto.png", "results.json", "run.json",
                    "report.html"}  # fmt: skip
    result = json.loads((front / "pareto.json").read_text())
    points = result["points"]
    assert [round(p["limit"] / result["largest"], 2) for p in points] == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert all(p["cost"] <= p["limit"] and p["share"] == p["cost"] / result["largest"] for p in points)
    cuts = result["hand_cuts"]
    assert cuts and all(len(set(c["arch"][name])) == 1 for c in cuts for name in ("n_head", "mlp_ratio"))
    assert all(c["cost"] <= points[-1]["limit"] and c["loss"] > 0 for c in cuts)
    assert f"cuts by hand at these budgets, with the same weights: {len(cuts)}" in capsys.readouterr().out
    reference_share, reference_loss = result["reference"]
    assert 0 < result["hypervolume"] < reference_share * reference_loss
    with (front / "pareto.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["test loss"]) for row in table] == [p["test loss"] for p in points]
    assert [row["front"] == "yes" for row in table] == [p["nondominated"] for p in points]
    run(single, text, "--max_params", "60%")
    capsys.readouterr()
    compare_fronts.main(front, [single])
    printed = capsys.readouterr().out
    assert "one front, budgets of the others" in printed and "21,657" in printed
    with pytest.raises(ValueError, match="has no --max_params"):
        compare_fronts.main(front, [front])
    with pytest.raises(ValueError, match="give one run of each budget"):
        compare_fronts.main(front, [single, single])
