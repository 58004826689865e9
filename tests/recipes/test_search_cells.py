"""Recipes around cells from end to end on tiny spaces: search beside a table, two stages, networks to train, tables."""

import json
from itertools import product
from math import prod
from operator import getitem
from types import SimpleNamespace

import compare
import pytest
import search_cnn
import torch
from safetensors.torch import load_file
from search_cnn import ConvImageArguments, ConvSearchArguments
from transformers import AutoModelForImageClassification

from tangle_hf import ElasticCellsForImageClassification, num_params
from tangle_hf.cli import build_cells, make_table, prune_cells
from tangle_hf.compare.settings import CompareArguments
from tangle_hf.data.images.augmentation_settings import AugmentationArguments
from tangle_hf.data.images.transforms import cut_out
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.cells.subnets_cells import architecture_of
from tangle_hf.models.loading import load_supernet
from tangle_hf.models.space_settings import ConvSpaceArguments
from tangle_hf.runs.conv_spaces import check_settings
from tangle_hf.runs.image_search import SmallAugmentationArguments
from tangle_hf.search import SearchArguments
from tangle_hf.settings import parse
from tangle_hf.space import Architecture, PerLayer, SearchSpace
from tangle_hf.training.trainer import RaiseDropPath
from tangle_hf_cli import main


KINDS = (ConvSpaceArguments, ConvImageArguments, SmallAugmentationArguments, ConvSearchArguments, SearchHubArguments)
SHORT = ["--samples_per_class", "12", "--max_steps", "2", "--per_device_batch_size", "8", "--eval_steps", "1", "--eval_batches",
         "1", "--recalibration_batches", "2", "--warmup_steps", "1", "--logging_steps", "1"]  # fmt: skip
TOY = [
    "--space",
    "toy_cell",
    "--operations",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "--hidden_size",
    "4",
    "--image_size",
    "8",
]
DARTS = ["--space", "darts", "--hidden_size", "8", "--num_cells", "3", "--image_size", "8"]
TABLE = (ConvSpaceArguments, ConvImageArguments, AugmentationArguments, make_table.TableArguments)
OPERATIONS = PerLayer(["sep_conv_3x3", "sep_conv_5x5"], rows=3)


def search(folder, *options):
    search_cnn.main(*parse(*KINDS, argv=["--output_dir", str(folder), *SHORT, *options]))


def test_cells_have_finalists_on_request_without_a_budget_and_sizes_do_not(tmp_path, capsys):
    options = ["--max_steps", "4", "--finalists", "3", "--random_finalists", "1", "--finalist_ratio", "1"]
    search(tmp_path / "run", *TOY, *options, "--finalist_batches", "1")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    rows = results["finalists"]["rows"]
    assert sorted(row["finalist"].split(" (")[0] for row in rows) == ["random", *["search"] * 3]
    log = [json.loads(line) for line in (tmp_path / "run" / "finalists.jsonl").read_text().splitlines()]
    assert len({json.dumps(line["arch"]) for line in log}) == 4 and {line["steps"] for line in log} == {2, 4}
    assert results["found"] == json.loads((tmp_path / "run" / "architecture.json").read_text())
    assert results["found"] in [line["arch"] for line in log if line["steps"] == 4]
    shares = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["shares"]
    rows = [*shares["normal"], *shares["reduce"]]
    likeliest = sorted(product(*(range(2) for _ in rows)), key=lambda net: -prod(map(getitem, rows, net)))[:3]
    proposed = [line["arch"] for line in log if line["origin"] == "search" and line["steps"] == 2]
    numbers = [
        tuple(map(["sep_conv_3x3", "sep_conv_5x5"].index, [*arch["normal"], *arch["reduce"]])) for arch in proposed
    ]
    assert numbers == likeliest
    printed = capsys.readouterr().out
    assert "validation loss of the finalists" in printed and "cut by hand" not in printed and "budget" not in printed
    card = (tmp_path / "run" / "subnet" / "README.md").read_text()
    assert "### Finalists" in card and "within the budget" not in card
    sizes = ["--space", "conv_macro", "--image_size", "12", "--finalists", "2"]
    with pytest.raises(ValueError, match="finalists=2 need a budget in a space of sizes.*give max_params"):
        search(tmp_path / "sizes", *sizes)
    assert not (tmp_path / "sizes").exists()


def test_a_search_is_scored_along_its_way_by_a_table(tmp_path, capsys):
    space, path = SearchSpace(normal=OPERATIONS, reduce=OPERATIONS), tmp_path / "table.jsonl"
    accuracy = {arch: number / space.size for number, arch in enumerate(space)}
    path.write_text("".join(json.dumps({"arch": a.to_dict(), "accuracy": v}) + "\n" for a, v in accuracy.items()))
    search(tmp_path / "run", *TOY, "--table", str(path), "--optimizer", "sgd")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    scored = [line for line in lines if "validation_table_accuracy" in line]
    assert [line["step"] for line in scored] == [1, 2]
    assert all(line["validation_table_accuracy"] == accuracy[Architecture(line["arch"])] for line in scored)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    inside, exported = results["table"]
    found = Architecture(results["found"])
    assert inside["accuracy"] == accuracy[found] and architecture_of("toy_cell", results["notation"]) == found
    assert inside["test loss"] == pytest.approx(exported["test loss"], rel=1e-5)
    printed = capsys.readouterr().out
    assert results["notation"] in printed and "training steps of the most expensive net" in printed
    card = (tmp_path / "run" / "supernet" / "README.md").read_text()
    assert "training steps of the most expensive net." in card
    assert "There is no largest net" in card and "pipe = pipeline(" not in card
    most = max(num_params(space, arch, load_supernet(tmp_path / "run" / "supernet").config) for arch in space)
    assert f"the net with the most parameters\nhas {most:,}." in card
    main(["info", str(tmp_path / "run" / "supernet")])
    assert "AutoModel" not in capsys.readouterr().out
    main(["export", str(tmp_path / "run"), "--output", str(tmp_path / "again")])
    saved, again = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "run" / "subnet", tmp_path / "again")
    )
    assert saved.keys() == again.keys() and all(torch.equal(again[name], tensor) for name, tensor in saved.items())
    with pytest.raises(ValueError, match="baselines=largest: operations have no order"):
        options = [
            "--runs",
            str(tmp_path / "run"),
            "--baselines",
            "largest",
            "--output_dir",
            str(tmp_path / "compared"),
        ]
        compare.main(*parse(CompareArguments, argv=options))
    options = ["--runs", str(tmp_path / "run"), "--modes", "inherit", "--rank_batches", "0", "--latency_rounds", "0",
               "--output_dir", str(tmp_path / "scored")]  # fmt: skip
    compare.main(*parse(CompareArguments, argv=options))
    printed = capsys.readouterr().out
    assert "regret  percentile" in printed and "are among all 64 architectures of the space" in printed
    ((curve,),) = json.loads((tmp_path / "scored" / "anytime.json").read_text()).values()
    assert curve["costs"] == [line["search_cost"] for line in scored]
    assert curve["table_scores"] == [line["validation_table_accuracy"] for line in scored]
    assert curve["validation_losses"] == [None, None] and not (tmp_path / "scored" / "anytime.png").exists()
    assert (tmp_path / "scored" / "anytime_table.png").stat().st_size > 1000
    assert (
        "what the search would return, in the table of trained nets"
        in (tmp_path / "scored" / "report.html").read_text()
    )
    (net,) = json.loads((tmp_path / "scored" / "results.json").read_text())["nets"]
    number = round(accuracy[found] * space.size)
    assert (net["regret"], net["percentile"]) == pytest.approx(((63 - number) / 64, 100 * (number + 1) / 64))


def test_two_stages_of_a_progressive_search_and_the_network_of_what_it_finds(tmp_path, capsys):
    first, pruned, second = tmp_path / "first", tmp_path / "pruned", tmp_path / "second"
    search(first, *DARTS, "--partial_channels", "4", "--unrolled", "true", "--arch_kl_scale", "0.01")
    assert f"{8**28:,}, of all edges; nodes of a net keep 2\n" in capsys.readouterr().out
    parse_and_prune = [
        "--run",
        str(first),
        "--keep_operations",
        "2",
        "--partial_channels",
        "2",
        "--output_dir",
        str(pruned),
    ]
    none = [*parse_and_prune, "--partial_channels", "0"]
    with pytest.raises(ValueError, match="partial_channels=0 must be at least 1"):
        prune_cells.main(*parse(prune_cells.PruneArguments, argv=none))
    prune_cells.main(*parse(prune_cells.PruneArguments, argv=parse_and_prune))
    supernet = load_supernet(pruned / "supernet")
    assert type(supernet) is ElasticCellsForImageClassification and supernet.config.partial_channels == 2
    assert all(
        len(left) == 2 and "none" not in left for edges in supernet.config.operations.values() for left in edges
    )
    start = [
        "--start_from",
        str(pruned / "supernet"),
        "--arch_start_from",
        str(pruned / "arch_parameters.safetensors"),
    ]
    search(second, "--space", "darts", "--image_size", "8", *start)
    results = json.loads((second / "results.json").read_text())
    for kind, edges in supernet.config.operations.items():
        assert all(op == "none" or op in left for op, left in zip(results["found"][kind], edges, strict=True))
    shares = json.loads((second / "metrics.jsonl").read_text().splitlines()[-1])["shares"]["normal"]
    assert all(sorted(row)[-3] < 0.01 for row in shares), "pruned operations are shown with a share"
    with pytest.raises(ValueError, match="method=gdas draws single operations"):
        check_settings(supernet, SearchArguments(method="gdas"))
    with pytest.raises(ValueError, match="nodes keep 2 of them; use --kept_inputs 0"):
        check_settings(supernet, SearchArguments(method="spos+rs"))
    for limit in ({"max_params": "50%"}, {"max_latency_ms": "50%"}, {"pareto": "params"}, {"finalists": 2}):
        with pytest.raises(ValueError, match=f"{next(iter(limit))}: chosen are the operations of all edges"):
            check_settings(supernet, SearchArguments(**limit))

    network = tmp_path / "network"
    options = ["--architecture", str(second / "architecture.json"), "--hidden_size", "4", "--num_cells", "3"]
    options += ["--drop_path_rate", "0.3", "--output_dir", str(network)]
    build_cells.main(*parse(build_cells.CellsNetworkArguments, argv=options))
    model = AutoModelForImageClassification.from_pretrained(network)
    assert model.config.genotype == results["notation"] and model.config.auxiliary_weight == 0.4
    assert model.config.norm_affine and not model.config.pool_norm
    state = SimpleNamespace(global_step=5, max_steps=20)
    RaiseDropPath().on_step_begin(None, state, None, model=model)
    assert model.drop_path_rate == pytest.approx(0.3 * 5 / 20)


def test_networks_of_cells_that_keep_all_edges_and_of_no_such_kind(tmp_path):
    arch = Architecture(normal=["sep_conv_3x3"] * 14, reduce=["skip_connect"] * 14)
    (tmp_path / "architecture.json").write_text(arch.to_json())
    options = {"hidden_size": 4, "num_cells": 3, "architecture": str(tmp_path / "architecture.json")}
    config = build_cells.network_config(build_cells.CellsNetworkArguments(**options))
    assert config.normal == ["sep_conv_3x3"] * 14 and config.genotype is None and config.drop_path_rate == 0.2
    with pytest.raises(ValueError, match="network=imagenet is for darts; nas_bench_201 has one network"):
        build_cells.CellsNetworkArguments(cell="nas_bench_201", network="imagenet", genotype="|none~0|")
    with pytest.raises(
        ValueError, match="nas_bench_201 has operations for .'normal'., got them for .'normal', 'reduce'."
    ):
        build_cells.network_config(build_cells.CellsNetworkArguments(**options, cell="nas_bench_201"))


def test_a_table_is_made_and_continued_where_it_was_stopped(tmp_path, monkeypatch):
    options = [*TOY, "--samples_per_class", "12", "--max_steps", "2", "--per_device_batch_size", "8"]

    def make(folder, *more):
        make_table.main(*parse(*TABLE, argv=["--output_dir", str(tmp_path / folder), *options, *more]))
        return (tmp_path / folder / "table.jsonl").read_text()

    whole = make("whole", "--architectures", "2", "--seeds", "0")
    rows = [json.loads(line) for line in whole.splitlines()]
    assert len({json.dumps(row["arch"]) for row in rows}) == 2 and [row["seed"] for row in rows] == [0, 0]
    assert all(0 <= row["test_accuracy"] <= 1 and row["parameters"] > 0 and row["flops"] > 0 for row in rows)
    train, trained = make_table.train, []

    def stop_at_the_second(*arguments):
        if trained:
            raise KeyboardInterrupt
        trained.append(True)
        return train(*arguments)

    monkeypatch.setattr(make_table, "train", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        make("broken", "--architectures", "2", "--seeds", "0")
    monkeypatch.setattr(make_table, "train", train)
    with (tmp_path / "broken" / "table.jsonl").open("a") as file:
        file.write('{"arch": {"nor')  # half a line of a process that was killed
    assert make("broken", "--architectures", "2", "--seeds", "0", "--resume", "true") == whole


def test_cutout_sets_one_square_to_zero():
    pixels, areas = torch.ones(3, 16, 16), set()
    for seed in range(30):
        torch.manual_seed(seed)
        hole = cut_out(pixels, 6) == 0
        rows, columns = hole[0].any(1), hole[0].any(0)
        assert torch.equal(hole[0], rows[:, None] & columns[None]) and torch.equal(hole[0], hole[2])
        assert 9 <= hole[0].sum() <= 36
        areas.add(int(hole[0].sum()))
    assert 36 in areas and len(areas) > 2 and pixels.all()
