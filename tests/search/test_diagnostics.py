"""Diagnostics: what a search says about itself is true, changes nothing, and ends it where it should."""

import re
import shutil

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from worker import SPACE, Blocks

from tangle_hf import (
    ArchParameters,
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    PerLayer,
    SearchSpace,
    one_hot,
    sampler,
)
from tangle_hf.analysis import plot_diagnostics, plot_losses, read_metrics
from tangle_hf.search import SearchArguments, search
from tangle_hf.search.gradient.diagnostics import Found, tracked_curves, undecided_message, undecided_rows
from tangle_hf.space import Architecture


BATCH = torch.stack([Blocks()[i]["input_ids"] for i in range(6)])


def run(folder, scored=True, steps=12, **settings):
    """(logits, lines of metrics.jsonl, supernet) of a tiny search with dropout, which draws random numbers."""
    set_seed(0)
    supernet = ElasticGPT2LMHeadModel(ElasticGPT2Config(space=SPACE, vocab_size=40, n_positions=8))
    defaults = {"max_steps": steps, "save_steps": 100, "logging_steps": 1, "eval_steps": 2, "per_device_batch_size": 4}
    arguments = SearchArguments(output_dir=str(folder), **{**defaults, **settings})

    def loss(**chosen):
        torch.rand(3)  # as a data loader does
        supernet.eval()
        with torch.no_grad():
            return supernet(input_ids=BATCH, labels=BATCH, **chosen).loss.item()

    scores = {"evaluate": lambda arch: loss(arch=arch), "evaluate_mixture": lambda mixture: loss(mixture=mixture)}
    found = search(supernet, Blocks(), Blocks(30), arguments, Accelerator(cpu=True), **(scores if scored else {}))
    return {n: rows.detach() for n, rows in found.logits.items()}, read_metrics(folder / "metrics.jsonl"), supernet


DECIDES = {"method": "darts", "arch_learning_rate": 1.0, "arch_warmup_ratio": 0.25, "learning_rate": 5e-4}


def test_evaluations_change_nothing(tmp_path):
    with_scores, lines, _ = run(tmp_path / "a", max_params="60%")
    without, other, _ = run(tmp_path / "b", scored=False, max_params="60%")
    assert all(torch.equal(rows, without[name]) for name, rows in with_scores.items())
    for kind in ("train_loss", "arch_loss"):
        assert [line.get(kind) for line in lines] == [line.get(kind) for line in other]
    assert "validation_loss" in lines[-1] and "validation_loss" not in other[-1]


def test_the_gap_is_the_mixture_minus_the_subnet(tmp_path):
    _, lines, supernet = run(tmp_path)
    assert [line["step"] for line in lines if "discretisation_gap" in line] == [2, 4, 6, 8, 10, 12]
    last = lines[-1]
    mixture = {name: torch.tensor(rows) for name, rows in last["shares"].items()}
    supernet.eval()
    with torch.no_grad():
        mixed = supernet(input_ids=BATCH, labels=BATCH, mixture=mixture).loss.item()
        hard = one_hot(SPACE, SPACE.architecture(**last["arch"]))
        subnet = supernet(input_ids=BATCH, labels=BATCH, mixture=hard).loss.item()
    assert last["discretisation_gap"] == pytest.approx(mixed - subnet, abs=1e-5) and abs(mixed - subnet) > 1e-3


def test_entropies_and_stability_are_those_of_the_trajectory(tmp_path):
    _, lines, _ = run(tmp_path, **DECIDES)
    changed, evaluated = 1, []
    for before, line in zip([lines[0], *lines], lines, strict=False):
        for name, rows in line["entropies"].items():
            uniform = torch.tensor(len(line["shares"][name][0]) * 1.0).log()
            assert rows == pytest.approx([(torch.special.entr(torch.tensor(r)).sum() / uniform).item()
                                          for r in line["shares"][name]], abs=1e-5)  # fmt: skip
        changed = line["step"] if line["arch"] != before["arch"] else changed
        assert line["arch_unchanged_steps"] == line["step"] - changed
        evaluated += [line["arch"]] if line["step"] > 3 and line["step"] % 2 == 0 else []
        if evaluated:
            assert line["arch_stability"] == evaluated[-5:].count(line["arch"]) / len(evaluated[-5:])
    assert 1 < changed < 12 and 0 < lines[-1]["arch_stability"] <= 1
    assert lines[-1]["entropies"]["n_head"] != lines[0]["entropies"]["n_head"]


def stop_by_hand(lines, enough, threshold):
    """The first evaluation at which `enough` equal ones have been, with every row of the net decided."""
    found = []
    for line in lines:
        if line["step"] % 2 or line["step"] <= 0.25 * lines[-1]["step"]:
            continue
        found.append(line["arch"])
        depth = line["arch"]["n_layer"]
        rows = [e for name, es in line["entropies"].items() for e in (es[:depth] if name in SPACE.per_layer else es)]
        if len(found) >= enough and all(a == found[-1] for a in found[-enough:]) and max(rows) <= threshold:
            return line["step"]
    return None


def test_an_early_stop_is_at_the_right_evaluation_and_can_be_continued(tmp_path, caplog):
    whole, lines, _ = run(tmp_path / "whole", steps=24, **DECIDES)
    expected = {(n, t): stop_by_hand(lines, n, t) for n, t in [(2, 0.95), (3, 0.95), (3, 0.7)]}
    assert len(set(expected.values())) >= 2 and expected[2, 0.95] < 24, expected
    for number, ((enough, threshold), step) in enumerate(expected.items()):
        folder = tmp_path / str(number)
        caplog.clear()
        options = {**DECIDES, "steps": 24, "early_stop_evals": enough, "undecided_entropy": threshold}
        stopped, short, _ = run(folder, **options)
        assert short == lines[: step or 24]
        assert (f"stopped after step {step} of 24" in caplog.text) == ((step or 24) < 24)
        if number:
            continue
        again, same, _ = run(folder, resume=True, **options)  # it stays where it stopped
        assert same == short and all(torch.equal(rows, stopped[name]) for name, rows in again.items())
        on, rest, _ = run(folder, resume=True, **{**options, "early_stop_evals": None})
        assert rest == lines and all(torch.equal(rows, whole[name]) for name, rows in on.items())


def test_a_search_that_was_stopped_between_evaluations_stops_early_at_the_same_one(tmp_path):
    options = {**DECIDES, "steps": 24, "early_stop_evals": 3, "save_steps": 1}
    logits, lines, _ = run(tmp_path / "whole", **options)
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / f"step-{lines[-1]['step']:08d}")
    resumed, same, _ = run(tmp_path / "broken", resume=True, **options)
    assert same == lines and all(torch.equal(rows, logits[name]) for name, rows in resumed.items())


def test_what_is_undecided_is_named_with_what_to_do(tmp_path, caplog):
    _, lines, _ = run(tmp_path, arch_learning_rate=1e-6)
    (message,) = (record.message for record in caplog.records if "has not decided" in record.message)
    layers = ", ".join(str(layer) for layer in range(1, lines[-1]["arch"]["n_layer"] + 1))
    assert "n_embd of" not in message and re.search(rf"n_head of layers? {layers}[,;]", message), message
    assert "--max_steps" in message and "--arch_learning_rate (1e-06" in message


def test_ranked_layers_are_named_by_their_position():
    arch = Architecture({"n_layer": 3, "mlp_ratio": [1, 1, 1]})
    found = Found(limit=None, arch=arch, numbers={}, details={}, undecided={"mlp_ratio": [0, 1], "n_layer": [0]})
    settings = SearchArguments(max_steps=100)
    space = SearchSpace(n_layer=[2, 3], mlp_ratio=PerLayer([1, 2]))
    assert "mlp_ratio of layers 1, 2, n_layer;" in undecided_message([found], settings, space)
    assert "mlp_ratio of layers 1, 3, n_layer;" in undecided_message([found], settings, space, [1, 2, 0])


def test_rows_are_called_what_they_are():
    stages = SearchSpace(depths=PerLayer([1, 2], rows=3), kernel=PerLayer([3, 5]))
    cells = SearchSpace(normal=PerLayer(["none", "skip_connect"], rows=2))
    settings, told = SearchArguments(), []
    for space, undecided in ((stages, {"depths": [0, 2], "kernel": [3]}), (cells, {"normal": [0, 1]})):
        found = Found(limit=None, arch=space.largest, numbers={}, details={}, undecided=undecided)
        told.append(undecided_message([found], settings, space))
    assert "not decided depths of stages 1, 3, kernel of layer 4;" in told[0]
    assert "not decided normal of edges 1, 2;" in told[1]


@pytest.mark.parametrize("settings", [{**DECIDES, "steps": 24}, {"undecided_entropy": 1.0}])
def test_nothing_is_said_where_nothing_is_undecided(tmp_path, caplog, settings):
    run(tmp_path, **settings)
    assert "has not decided" not in caplog.text


def test_rows_of_layers_that_the_net_lacks_do_not_count():
    arch_parameters = ArchParameters(SPACE)
    deep, shallow = SPACE.largest, SPACE.smallest
    assert undecided_rows(arch_parameters, sampler("darts"), deep, 0.95)["n_head"] == [0, 1]
    assert undecided_rows(arch_parameters, sampler("darts"), shallow, 0.95)["n_head"] == [0]
    with torch.no_grad():
        arch_parameters.logits["n_head"][1] += torch.tensor([0.0, 3.0])
    assert undecided_rows(arch_parameters, sampler("darts"), deep, 0.95)["n_head"] == [0]
    stages = SearchSpace(depths=PerLayer([1, 2], rows=2), kernel=PerLayer([3, 5]))
    shallow = stages.architecture(depths=[1, 2], kernel=3)
    assert undecided_rows(ArchParameters(stages), sampler("darts"), shallow, 0.95)["kernel"] == [0, 2, 3]


def test_plots_are_drawn_of_plain_searches_budgets_and_fronts(tmp_path):
    for number, settings in enumerate([{}, {"max_params": "60%", "max_flops": "80%"}]):
        line = {
            "step": 1,
            "train_loss": 1.0,
            "entropy": 0.5,
            "entropies": {"n": [0.5, 0.4]},
            "arch_unchanged_steps": 0,
        }
        limits = {"max_a": 10, "expected_a": 9.0, "arch_a": 8} if settings else {}
        plot_diagnostics([line | limits, line | limits | {"step": 2}], tmp_path / f"{number}.png")
    front = {f"{k}@{b}": 1 for k in ("max_a", "expected_a", "arch_a", "entropy", "validation_loss") for b in (5, 6)}
    plot_diagnostics([{"step": 1, **front}, {"step": 2, **front}], tmp_path / "2.png")
    plot_losses([{"step": 1, **front}], tmp_path / "3.png")
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in tmp_path.glob("*.png"))
    assert len(list(tmp_path.glob("*.png"))) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"early_stop_evals": 0}, "early_stop_evals=0 must be at least 1"),
        ({"undecided_entropy": 0.0}, "undecided_entropy=0.0"),
        ({"method": "spos+rs", "early_stop_evals": 3}, "early_stop_evals would have no effect"),
        ({"budget_parts": ["pull"]}, "budget_parts="),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        SearchArguments(**settings)


def test_trackers_get_the_curves_of_the_report():
    space = SearchSpace(n_embd=[8, 16], n_layer=[1, 2], n_head=PerLayer([1]), mlp_ratio=PerLayer([1, 1.5]))
    shares = {"n_embd": [[0.25, 0.75]], "mlp_ratio": [[0.5, 0.5], [0.0, 1.0]]}
    details = {"shares": shares, "entropies": {"n_embd": [0.8], "mlp_ratio": [1.0, 0.0]}}
    curves = tracked_curves(Found(900, space.smallest, {}, details, {}), space)
    assert curves == {
        "entropy/n_embd/1@900": 0.8, "entropy/mlp_ratio/1@900": 1.0, "entropy/mlp_ratio/2@900": 0.0,
        "share/n_embd/8@900": 0.25, "share/n_embd/16@900": 0.75,
        "share/mlp_ratio/1@900": 0.25, "share/mlp_ratio/1.5@900": 0.75,
    }  # fmt: skip
