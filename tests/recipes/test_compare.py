"""A comparison from end to end on tiny runs: rows are whole, never repeated, shared safely, and test data stay test data."""

import json
import os
import shutil
import signal
import statistics
from dataclasses import asdict, replace
from functools import partial

import compare
import pytest
import torch
from accelerate import PartialState
from search_gpt import supernet_config
from transformers import Trainer
from transformers.utils import logging

from tangle_hf import ElasticGPT2LMHeadModel, evaluation, one_hot
from tangle_hf.compare import rows as compare_rows
from tangle_hf.compare.plan import limits_of
from tangle_hf.compare.rows import Row, claim
from tangle_hf.compare.runs import load_data, read_runs, supernet_of
from tangle_hf.compare.settings import CompareArguments
from tangle_hf.cost.latency_tables import LatencyTable, Part, save_latency_table
from tangle_hf.cost.timing import conditions
from tangle_hf.data.text import load_texts
from tangle_hf.data.text_settings import DataArguments
from tangle_hf.data.tokens import load_tokenizer
from tangle_hf.models.loading import load_supernet
from tangle_hf.models.space_settings import SpaceArguments
from tangle_hf.runs.folder import write_config
from tangle_hf.runs.text_supernets import text_supernet
from tangle_hf.search import SearchArguments
from tangle_hf.settings import parse
from tangle_hf.space import Architecture


BUDGET = "84%"  # of the parameters without embedding tables: ratios 4,2 and 2,4 and 3,3 of two layers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four finished runs of two methods, as a search would leave them."""
    logging.disable_progress_bar()
    PartialState(cpu=True)
    folder = tmp_path_factory.mktemp("runs")
    for name in ("train", "validation", "test"):
        lines = 200 if name == "train" else 30
        (folder / f"{name}.txt").write_text("".join(f"{name} line {i} of a small text.\n" for i in range(lines)))
    files = {f"{name}_file": str(folder / f"{name}.txt") for name in ("train", "validation", "test")}
    space = SpaceArguments(n_embd=[16], n_layer=[1, 2], n_head=[2], mlp_ratio=[1, 2, 3, 4])
    data = DataArguments(**files, block_size=16, vocab_size=300)
    texts = load_texts(data)
    tokenizer = load_tokenizer(data, texts)
    for number, (name, ratios) in enumerate(
        {"drnas-0": [4, 2], "drnas-1": [2, 4], "gdas-0": [2, 4], "gdas-1": [2, 4]}.items()
    ):
        torch.manual_seed(number)
        run = folder / name
        supernet = text_supernet(ElasticGPT2LMHeadModel, partial(supernet_config, space, 16), data, tokenizer)
        for part in (supernet, tokenizer):
            part.save_pretrained(run / "supernet")
        settings = SearchArguments(
            output_dir=str(run),
            method=name[:-2],
            seed=number,
            max_steps=2,
            per_device_batch_size=4,
            max_params_without_embeddings=BUDGET,
        )
        resolved = asdict(space) | asdict(data) | asdict(settings)
        write_config(run, resolved)
        arch = supernet.space.architecture(n_embd=16, n_layer=2, n_head=2, mlp_ratio=ratios)
        (run / "architecture.json").write_text(arch.to_json())
        (run / "results.json").write_text(json.dumps({"search_cost": 10.0 + number}))
        shares = {name: rows.tolist() for name, rows in one_hot(supernet.space, arch).items()}
        lines = [
            {
                "step": 1,
                "search_cost": 3.0,
                "validation_loss": 6.0,
                "arch": supernet.space.smallest.to_dict(),
                "shares": shares,
            },
            {"step": 2, "search_cost": 7.0, "validation_loss": 5.0, "arch": arch.to_dict(), "shares": shares},
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(autouse=True)
def other_runs():
    """Folders of other tests have the same names."""
    supernet_of.cache_clear()


def run(folder, out, *options, names=("drnas-0", "drnas-1", "gdas-0")):
    argv = ["--runs", *(folder / name for name in names), "--output_dir", out, "--latency_rounds", "2", *options]
    compare.main(*parse(CompareArguments, argv=[str(word) for word in argv]))
    return json.loads((out / "results.json").read_text())


def rows(out):
    return {path.stem: json.loads(path.read_text()) for path in (out / "rows").glob("*.json")}


@pytest.fixture(scope="module")
def seen():
    """What was trained on and what was scored, of the comparison below."""
    return {"trained": [], "scored": []}


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory, seen):
    """A comparison with everything, not interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    step, score = Trainer.training_step, evaluation.perplexity

    def spying_step(self, model, inputs, *args, **kwargs):
        seen["trained"].append(inputs["input_ids"].clone())
        return step(self, model, inputs, *args, **kwargs)

    def spying_score(model, blocks, *args, **kwargs):
        seen["scored"].append((tuple(blocks[0]["input_ids"].tolist()), len(rows(out))))
        return score(model, blocks, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "training_step", spying_step)
        patch.setattr("tangle_hf.data.text_examples.perplexity", spying_score)
        options = ("--baselines", "largest", "uniform", "random", "most_parameters", "--random_count", "2")
        run(folder, out, *options, "--horizons", "2", "--baseline_seeds", "0", "--seeds", "0", "1",
            "--generate_tokens", "5")  # fmt: skip
    return out


def test_every_row_is_there_and_equal_nets_are_trained_once(whole, folder):
    found, results = rows(whole), json.loads((whole / "results.json").read_text())
    assert (
        results["missing"] == [] and not (whole / "checkpoints").exists() and not (whole / "rows" / ".locks").exists()
    )
    nets = {net["net"]: net for net in results["nets"]}
    assert {
        "drnas-0",
        "drnas-1",
        "gdas-0",
        "largest",
        "random-0",
        "random-1",
        "most_parameters",
        "uniform-0",
    } <= nets.keys()
    archs = {name: Architecture(net["architecture"]) for name, net in nets.items()}
    trained = {(name, seed) for name, arch in archs.items()
               for seed in ((0, 1) if name[0] in "dg" else (0,))}  # fmt: skip
    distinct = {(archs[name].id, seed) for name, seed in trained}
    assert len(distinct) < len(trained)  # drnas-1 and gdas-0 found the same
    expected = {f"retrain-{arch}-x2-seed{seed}" for arch, seed in distinct}
    expected |= {f"finetune-{name}-x2-seed{s}" for name in ("drnas-0", "drnas-1", "gdas-0") for s in (0, 1)}
    expected |= {f"inherit-{name}" for name in ("drnas-0", "drnas-1", "gdas-0")}
    expected |= {f"rank-{name}-{arch.id}" for name in ("drnas-0", "drnas-1", "gdas-0") for arch in archs.values()}
    smallest = load_supernet(folder / "gdas-0" / "supernet").space.smallest  # what the searches had found half-way
    expected |= {f"rank-{name}-{smallest.id}" for name in ("drnas-0", "drnas-1", "gdas-0")}
    assert set(found) == expected
    assert all(row["steps"] == 4 for row in found.values() if row["horizon"])
    assert all(net["equal cost"] == (name != "largest") for name, net in nets.items())
    assert all(net["5 tokens in s"] > 0 and net["latency ms"] > 0 for net in nets.values())
    left = {path.name for path in whole.iterdir() if not path.name.startswith(".")}
    assert left == {"rows", "models", "config.yaml", "results.json", "rank_correlation.json", "rank_correlation.png",
                    "cka.json", "cka.png", "architectures.json", "architectures.png", "anytime.json", "anytime.png",
                    "shares-drnas-0.png", "shares-drnas-1.png", "shares-gdas-0.png", "run.json", "report.html"}  # fmt: skip


def test_the_table_is_made_of_the_rows(whole):
    found, results = rows(whole), json.loads((whole / "results.json").read_text())
    methods = {row["method"]: row for row in results["methods"]}

    def test_loss(mode, what, seed):
        return found[f"{mode}-{what}-x2-seed{seed}"]["test"]["loss"]

    means = [statistics.mean(test_loss("finetune", name, seed) for seed in (0, 1)) for name in ("drnas-0", "drnas-1")]
    column = methods["drnas"]["finetune x2"]
    assert column["mean"] == pytest.approx(statistics.mean(means)) and column["of"] == "nets"
    assert column["deviation"] == pytest.approx(abs(means[0] - means[1]) / 2**0.5)
    (gdas,) = (Architecture(net["architecture"]) for net in results["nets"] if net["net"] == "gdas-0")
    values = [test_loss("retrain", gdas.id, seed) for seed in (0, 1)]
    assert methods["gdas"]["retrain x2"]["values"] == values and methods["gdas"]["retrain x2"]["of"] == "seeds"
    assert methods["drnas"]["search cost"] == 10.5 and methods["random"]["search cost"] is None
    assert methods["drnas"]["parameters"] < methods["largest"]["parameters"]
    low, high = column["interval"]
    assert low < column["mean"] < high
    assert (methods["drnas"]["nets"], methods["drnas"]["searches"]) == (2, 2)
    assert (methods["random"]["nets"], methods["random"]["searches"]) == (2, None)
    retrained = {(test["first"], test["second"]): test for test in results["tests"] if test["mode"] == "retrain"}
    assert retrained.keys() >= {("drnas", "gdas"), ("drnas", "random")} and ("largest", "random") not in retrained
    test = retrained["drnas", "gdas"]  # the net of gdas-0 is that of drnas-1
    assert (test["first_nets"], test["second_nets"], test["shared"], test["p"]) == (1, 0, 1, None)
    assert test["too_few"] == "0 nets: too few for a test" and retrained["drnas", "random"]["seeds"] == [0]
    predictors = {entry["predictor"] for entry in results["rank_correlation"]}
    assert predictors == {"drnas-0", "drnas-1", "gdas-0", "more parameters"}
    (curve,) = json.loads((whole / "anytime.json").read_text())["gdas"]
    assert (curve["costs"], curve["own_losses"]) == ([3.0, 7.0], [6.0, 5.0])
    scored = [found[f"rank-gdas-0-{Architecture(arch).id}"]["validation"]["loss"] for arch in curve["archs"]]
    assert curve["validation_losses"] == scored and scored[0] != scored[1]
    assert 0 < results["cka"]["gdas-0"]["inherit and retrain"]["mean"] < 1


def test_test_data_are_never_trained_on_and_read_once_per_finished_row(whole, folder, seen):
    data = load_data(read_runs([str(folder / "drnas-0")])[0])
    trained = data.processor.batch_decode(torch.cat(seen["trained"]))
    assert all("train line" in text or "line" in text for text in trained) and any("train line" in t for t in trained)
    assert not [text for text in trained if "test" in text or "validation" in text]
    texts = [(data.processor.decode(tokens), finished) for tokens, finished in seen["scored"]]
    assert not [text for text, _ in texts if "train" in text]
    read = [finished for text, finished in texts if "test" in text]
    # once for each row but the "rank" ones, and each time another number of rows was finished
    assert len(read) == len(set(read)) == len([row for row in rows(whole).values() if row["mode"] != "rank"])


def test_a_stopped_comparison_goes_on_and_repeats_nothing(folder, whole, tmp_path, monkeypatch, capsys):
    out, step, steps = tmp_path / "out", Trainer.training_step, []

    def stopping(*args, **kwargs):
        steps.append(1)
        if len(steps) == 6:  # in the middle of the second row that trains
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    options = ("--rank_batches", "0", "--modes", "retrain", "--keep_models", "false", "--horizons", "2")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "training_step", stopping)
        run(folder, out, *options)
    before = {path: path.stat().st_mtime_ns for path in (out / "rows").glob("*.json")}
    assert len(before) == 1 and not (out / "results.json").exists()
    work, worked = compare_rows.work, []
    monkeypatch.setattr(
        compare, "work", lambda row, *args, **kwargs: worked.append(row.name) or work(row, *args, **kwargs)
    )
    run(folder, out, *options)
    assert len(worked) == 1 and {path: path.stat().st_mtime_ns for path in before} == before
    capsys.readouterr()
    run(folder, out, *options)
    assert len(worked) == 1
    printed = capsys.readouterr().out
    (test,) = [line for line in printed.splitlines() if line.split()[:2] == ["drnas", "gdas"]]
    assert test.split() == "drnas gdas 2 1 and 0 1 0 - 0 nets: too few for a test".split()
    assert "(2 nets)" in printed and "(1 seed)" in printed and "mean [95 % t-interval] and what it is over" in printed
    assert "checkpoints" not in {path.name for path in out.iterdir()}
    # ... and ends as one that was not stopped, whose rank correlations and other modes change nothing
    for name, row in rows(out).items():
        other = rows(whole)[name]
        assert (row["validation"], row["test"]) == (other["validation"], other["test"])


def test_a_row_is_one_process_s_until_it_dies(tmp_path):
    row = Row("retrain", Architecture(n=1), None, 1.0, 0)
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with claim(tmp_path, row) as mine:
            os.write(told, b"1" if mine else b"0")
            signal.pause()
    try:
        assert os.read(ready, 1) == b"1"
        with claim(tmp_path, row) as mine:
            assert not mine
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with claim(tmp_path, row) as mine:
        assert mine
        (tmp_path / "rows" / f"{row.name}.json").write_text(json.dumps({"arch": {"n": 1}}))
    with claim(tmp_path, row) as mine:
        assert not mine
    with pytest.raises(ValueError, match="use another --output_dir"):
        (tmp_path / "rows" / f"{row.name}.json").write_text(json.dumps({"arch": {"n": 2}}))
        compare_rows.read_row(tmp_path, row)


def test_the_papers_protocol(folder, tmp_path, capsys):
    names = ("drnas-0", "drnas-1", "gdas-0", "gdas-1")
    with pytest.raises(ValueError, match="takes four runs of every method, drnas has 2"):
        run(folder, tmp_path / "two", "--protocol", "paper", "--modes", "inherit", names=names)
    argv = ["--runs", *(f"tangle={folder / name}" for name in names), "--protocol", "paper", "--output_dir", "x"]
    (settings,) = parse(CompareArguments, argv=argv)
    assert settings.seeds == [0, 1, 2, 3]
    settings.output_dir, settings.modes = str(tmp_path / "four"), ["inherit"]
    compare.main(settings)
    found = rows(tmp_path / "four")
    losses = {row["run"]: row["validation"]["loss"] for row in found.values()
              if row["mode"] == "rank" and row["arch"]["n_layer"] == 2}  # fmt: skip
    best = min(losses, key=losses.get)
    assert len(losses) == 4 and {name for name in found if not name.startswith("rank")} == {f"inherit-{best}"}
    assert f"it is {best}" in capsys.readouterr().out
    (method,) = json.loads((tmp_path / "four" / "results.json").read_text())["methods"]
    assert method["search cost"] == 10 + 11 + 12 + 13  # of all four searches
    # the choice reads validation data only: the run whose test loss is best would not do
    assert "test" not in next(row for row in found.values() if row["mode"] == "rank")


def test_weights_are_inherited_or_new(folder):
    (one,) = read_runs([str(folder / "drnas-0")])
    supernet = supernet_of(one.folder)
    build = compare_rows.build
    inherited, again = (build(supernet, Row("finetune", one.arch, one.name, 1.0, seed)) for seed in (0, 1))
    new = build(supernet, Row("retrain", one.arch, None, 1.0, 0))
    tokens = torch.arange(16)[None]
    expected = supernet(input_ids=tokens, arch=one.arch).logits
    for model in (inherited, again):
        assert torch.allclose(model(input_ids=tokens).logits, expected, atol=1e-5)
    assert not torch.allclose(new(input_ids=tokens).logits, expected, atol=1e-2)


def test_what_cannot_be_compared_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="is not a finished run: config.yaml, results.json, supernet missing"):
        run(folder, tmp_path / "out", names=("nothing",))
    with pytest.raises(ValueError, match="none twice"):
        run(folder, tmp_path / "out", names=("drnas-0", "./drnas-0"))
    other = tmp_path / "other"
    shutil.copytree(folder / "drnas-0", other)
    config = json.loads((other / "supernet" / "config.json").read_text())
    (other / "supernet" / "config.json").write_text(json.dumps(config | {"n_positions": 8}))
    with pytest.raises(ValueError, match="differ in their supernet .n_positions: 16 and 8"):
        run(folder, tmp_path / "out", names=("drnas-0", other))
    (other / "supernet" / "config.json").write_text(json.dumps(config | {"superposition": "weights"}))
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace("test.txt", "train.txt"))
    with pytest.raises(ValueError, match="differ in their data .test_file"):
        run(folder, tmp_path / "out", names=("drnas-0", other))
    arch = folder / "drnas-0" / "architecture.json"
    for options, message in {
        ("--generate_tokens", "16"): "must be below the 16 positions",
        ("--modes", "train"): "modes=..train.. are unknown",
        ("--seeds", "1", "1"): "none twice",
        ("--protocol", "mine"): "protocol='mine' is unknown",
        ("--architectures", "x"): "must be name=file",
        ("--horizons", "0"): "above 0",
        ("--horizons", "1", "0.01"): "a training of no step",
        ("--architectures", f"mine={arch}", f"mine={arch}"): "'mine' is the name of another net",
        ("--architectures", f"random={arch}"): "'random' is the name of another net",
        ("--architectures", f"drnas-0={arch}"): "'drnas-0' is the name of another net",
    }.items():
        with pytest.raises(ValueError, match=message):
            run(folder, tmp_path / "out", *options)
    (other / "architecture.json").unlink()
    for name in ("config.yaml", "supernet/config.json"):
        shutil.copy(folder / "drnas-0" / name, other / name)
    with pytest.raises(ValueError, match="no run found a net"):
        run(folder, tmp_path / "out", names=(other,))
    assert not (tmp_path / "out").exists()  # the corrected command begins anew


def test_finished_rows_keep_their_recipe(folder, whole):
    with pytest.raises(ValueError, match="learning_rate=0.003 .now 0.01"):
        run(folder, whole, "--learning_rate", "0.01")


def test_baselines_keep_to_a_latency_by_the_table_of_the_first_run(folder, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for copy in (first, second):
        shutil.copytree(folder / "drnas-0", copy)
        text = (copy / "config.yaml").read_text()
        text = text.replace(f"max_params_without_embeddings: {BUDGET}", "max_params_without_embeddings: null")
        (copy / "config.yaml").write_text(text.replace("max_latency_ms: null", "max_latency_ms: 75%"))
    runs = read_runs([str(first), str(second)])
    settings, supernet = CompareArguments(runs=[str(first)], baselines=["uniform"]), load_supernet(first / "supernet")
    with pytest.raises(ValueError, match="there is no latency table"):
        limits_of(settings, runs, supernet, 16)
    widths = supernet.space.choices["n_embd"]
    part = Part(("n_embd",), False, torch.tensor([float(width) for width in widths]))
    save_latency_table(
        LatencyTable(conditions(supernet, sequence_length=16), supernet.space, (part,)), first / "latency_table.json"
    )
    (budget,) = limits_of(settings, runs, supernet, 16)
    assert budget.cost == "latency_ms" and budget.in_units(budget.limit) == 0.75 * max(widths)
    (budget,) = limits_of(replace(settings, max_latency_ms="50%"), runs, supernet, 16)
    assert budget.in_units(budget.limit) == 0.5 * max(widths)


def test_baselines_need_a_budget(folder, tmp_path):
    other = tmp_path / "free"
    shutil.copytree(folder / "drnas-0", other)
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(
        text.replace(f"max_params_without_embeddings: {BUDGET}", "max_params_without_embeddings: null")
    )
    with pytest.raises(ValueError, match="no budget that baselines could keep to"):
        run(folder, tmp_path / "out", "--baselines", "random", names=(other,))
    with pytest.raises(ValueError, match="have other budgets than drnas-0"):
        run(folder, tmp_path / "out", "--baselines", "random", names=("drnas-0", other))
    assert not (tmp_path / "out").exists()
