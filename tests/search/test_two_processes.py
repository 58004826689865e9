"""Searches and weights on two processes: exact resume after SIGKILL, the steps of one process, and sharded weights."""

import json
import re
from types import SimpleNamespace

import compress_worker
import pytest
import torch
import two_stage_worker
import worker
from compressible import checkpoint, text_options
from safetensors.torch import load_file
from several_runs import launch
from test_bilevel import outcome
from test_two_stage import SMALL, check_equal


BILEVEL = {"pareto": "params"}
STEPS = {method: {"dropout": 0.0, "max_steps": 5, "method": method} for method in ("drnas", "gdas")}
TWO_STAGE = {"method": "spos+nsga2", "max_params": "80%", **SMALL}
INTERRUPTIONS = [{"at_step": 6}, {"at_candidate": 6}]
FAMILIES = ("gpt2", "vit", "llama")
# Kinds of state dicts: one file, or a folder of torch.distributed.checkpoint.
WAYS = {
    "ddp": dict.fromkeys(FAMILIES),
    "fsdp": {"gpt2": "SHARDED_STATE_DICT", "vit": "FULL_STATE_DICT", "llama": "SHARDED_STATE_DICT"},
}
# With whole weights nothing but the batch differs between processes; what a family does has its tests on one.
FURTHER = {"ddp": FAMILIES[:1], "fsdp": FAMILIES}
CASES = [(way, family) for way, families in FURTHER.items() for family in families]
SHORT = {"dropout": 0.0, "max_steps": 4, "pareto": "params"}
FEW = {"method": "sandwich+es", "dropout": 0.0, "max_steps": 3, "population_size": 4, "num_mutations": 1, "num_crossovers": 1,
       "generations": 2}  # fmt: skip
DATA = {"vit": ["--samples_per_class", "8"]}  # of the others a small text
# Each of the two has its own half of every batch of these, and what is drawn at random for it.
IN_BF16 = ["--hidden_size", "16", "32", "--num_hidden_layers", "1", "2", "--patch_size", "4", "--samples_per_class", "20",
           "--max_steps", "2", "--per_device_batch_size", "8", "--eval_batches", "2", "--mixup", "0.8", "--cutmix", "1",
           "--label_smoothing", "0.1", "--randaugment_magnitude", "27", "--random_erasing", "0.25", "--drop_path_rate", "0.3",
           "--dropout", "0.1", "--mixed_precision", "bf16", "--superposition", "weights"]  # fmt: skip
TUNED = ["--samples_per_class", "8", "--max_steps", "6", "--per_device_batch_size", "8", "--save_steps", "2"]
EXACT = {"method": "sandwich+es", "dropout": 0.0, "max_steps": 5, **SMALL}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """All runs on two processes: one that is killed, then, in new processes, its resumption before everything else."""
    folder = tmp_path_factory.mktemp("two")
    killed = launch(folder, 2, [("worker", "bilevel/broken", {**BILEVEL, "batch_size": 2, "kill_at": 6})])
    ended = (folder / "bilevel" / "broken" / "end.json").exists()
    partial = list((folder / "bilevel" / "broken" / "checkpoints").glob(".partial-*"))
    runs = [("bilevel/broken", BILEVEL | {"resume": True}), ("bilevel/whole", BILEVEL), *STEPS.items()]
    runs = [("worker", name, options | {"batch_size": 2}) for name, options in runs]
    for name, interruptions, options in (
        ("two_stage/whole", [], TWO_STAGE),
        ("two_stage/broken", INTERRUPTIONS, TWO_STAGE),
        ("exact", [], EXACT),
    ):
        runs.append(("two_stage_worker", name, {**options, "interruptions": interruptions, "batch_size": 2}))
    checkpoints = {family: checkpoint(folder / "checkpoints" / family, family, dropout=0.0) for family in FAMILIES}
    # So much text that no training comes to its end: a last batch may be smaller for one process and filled up for two.
    argv = {family: ["--checkpoint", source, *DATA.get(family, text_options(folder, 300))]
            for family, source in checkpoints.items()}  # fmt: skip
    for family in FAMILIES:
        own = {"argv": argv[family], "batch_size": 2, "late": 1.0 if family == "gpt2" else 0.0}
        runs += [("compress_worker", f"compress/{family}", own)]
    runs += [("compress_worker", "compress/broken", own | {"stop": True}), ("compress_worker", "compress/broken", own)]
    tuned = ["vision", "--checkpoint", checkpoints["vit"], *TUNED, "--mode", "inherit", "finetune"]
    runs.append(("recipe_worker", "recipes/finetune", {"recipe": "finetune.py", "argv": tuned}))
    runs.append(("recipe_worker", "recipes/bf16", {"recipe": "search_vit.py", "argv": IN_BF16}))
    for way, kinds in WAYS.items():  # FSDP last: what accelerate has set up for it stays
        for family, kind in kinds.items():
            own = {"family": family, "fsdp": kind, "batch_size": 2}
            runs += [("worker", f"{way}/{family}/whole", SHORT | own)]
            if family not in FURTHER[way]:
                continue
            runs += [
                ("worker", f"{way}/{family}/broken", SHORT | own | last) for last in ({"stop_at": 4}, {"resume": True})
            ]
            runs += [("two_stage_worker", f"{way}/{family}/finalists", FEW | own | {"interruptions": []})]
    done = launch(folder, 2, [*runs, ("fsdp_worker", "unit", {})])
    return SimpleNamespace(argv=argv, folder=folder, killed=killed, ended=ended, partial=partial, done=done)


def end(two, name):
    """What a run has left; another run's failure is not this one's, unless it came before."""
    assert (two.folder / name / "end.json").is_file(), f"{name} has no end\n{two.done.stderr}"
    return outcome(two.folder / name)


def assert_same_weights(found: dict, expected: dict) -> None:
    """Up to rounding."""
    for name, values in expected.items():
        pair = torch.tensor(found[name]), torch.tensor(values)
        if name.endswith(
            ("k_proj.bias", "key.bias")
        ):  # the keys' bias has no gradient but rounding, which Adam scales up
            continue
        if name.endswith("c_attn.bias"):
            pair = (torch.cat([t.chunk(3)[0], t.chunk(3)[2]]) for t in pair)
        torch.testing.assert_close(*pair, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_a_killed_and_resumed_search_is_the_same_to_the_last_digit(two):
    assert two.killed.returncode != 0 and not two.ended
    assert two.partial, "the kill did not leave a half-written checkpoint"
    assert end(two, "bilevel/broken") == (whole := end(two, "bilevel/whole"))
    assert f"{two.folder / 'bilevel' / 'broken'}" in two.done.stderr.split("was not written to its end")[0]
    assert len(whole[1]) == 8


@pytest.mark.parametrize("method", STEPS)
def test_two_processes_make_the_steps_of_one_with_the_same_global_batch(tmp_path, two, method):
    """Soft mixtures give every parameter a gradient; single paths (weight steps of gdas) do not."""
    worker.run(tmp_path / "one", **STEPS[method])
    first, second = outcome(tmp_path / "one")[0], end(two, method)[0]
    for kind in ("logits", "weights"):
        assert_same_weights(second[kind], first[kind])


def test_an_interrupted_two_stage_search_is_the_same_to_the_last_digit(two):
    """Interrupted while a checkpoint is written, then while a candidate is evaluated."""
    end(two, "two_stage/whole"), end(two, "two_stage/broken")
    check_equal(two.folder / "two_stage")


def test_two_processes_find_what_one_finds(tmp_path, two):
    """The same global batch: the same weights up to rounding, and each candidate evaluated once."""
    two_stage_worker.run(tmp_path / "exact", [], **EXACT)
    first, second = outcome(tmp_path / "exact")[0], end(two, "exact")[0]
    assert first["evaluated"] == len(first["candidates"]) > 20
    assert second["evaluated"] == -(-first["evaluated"] // 2)
    assert first["cost"] == pytest.approx(second["cost"])
    for one, other in zip(first["candidates"], second["candidates"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
    for (one, losses), (other, others) in zip(first["finalists"], second["finalists"], strict=True):
        assert one == other and losses == pytest.approx(others, abs=1e-5)
    assert_same_weights(second["weights"], first["weights"])


@pytest.fixture(scope="module", params=FAMILIES)
def one(tmp_path_factory, request):
    """A family, and what one process leaves of it."""
    folder = tmp_path_factory.mktemp("one")
    worker.run(folder / "whole", family=request.param, **SHORT)
    two_stage_worker.run(folder / "finalists", [], family=request.param, **FEW)
    return request.param, folder


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_search_every_family_as_one_does(two, one, way):
    """Whole weights (DDP) and sharded ones (FSDP2), which are whole again at the end."""
    family, folder = one
    first, second = outcome(folder / "whole"), end(two, f"{way}/{family}/whole")
    for kind in ("logits", "weights"):
        assert second[0][kind].keys() == first[0][kind].keys()
        assert_same_weights(second[0][kind], first[0][kind])
    for mine, other in zip(first[1], second[1], strict=True):
        for name in ("train_loss", "arch_loss"):
            assert mine.get(name) == pytest.approx(other.get(name), abs=1e-5)


@pytest.mark.parametrize(("way", "family"), CASES)
def test_an_interrupted_search_of_every_family_is_the_same_to_the_last_digit(two, family, way):
    assert end(two, f"{way}/{family}/broken") == end(two, f"{way}/{family}/whole")
    partial = list((two.folder / way / family / "broken" / "checkpoints").glob(".partial-*"))
    assert not partial, "the resumed search has not come to the step at which it was interrupted"
    stored = {path.name for path in (two.folder / way / family / "whole").glob("checkpoints/step-00000004/*")}
    assert ("pytorch_model_fsdp_0" in stored) == (WAYS[way][family] == "SHARDED_STATE_DICT")


@pytest.mark.parametrize(("way", "one"), CASES, indirect=["one"])
def test_two_processes_train_the_finalists_of_one(two, one, way):
    family, folder = one
    first, second = outcome(folder / "finalists")[0], end(two, f"{way}/{family}/finalists")[0]
    for (mine, losses), (other, others) in zip(first["finalists"], second["finalists"], strict=True):
        assert mine == other and losses == pytest.approx(others, abs=1e-5)
    assert_same_weights(second["weights"], first["weights"])


def left(folder) -> tuple[dict, dict, list, dict]:
    """What a compression leaves: architecture, weights, losses while it chose and learned, costs."""
    net = json.loads((folder / "results.json").read_text())["nets"]["60pct"]
    rounds = [{name: cell for name, cell in row.items() if name[0].isdigit()} for row in net["finalists"]["rows"]]
    weights = {
        name: tensor.flatten().tolist() for name, tensor in load_file(folder / "60pct" / "model.safetensors").items()
    }
    return net["found"], weights, rounds, net["costs"]


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_compress_as_one_does(tmp_path, two, family):
    """Half the batch on each."""
    assert (two.folder / "compress" / family / "results.json").is_file(), two.done.stderr
    compress_worker.run(tmp_path / "one", two.argv[family])
    first, second = left(tmp_path / "one"), left(two.folder / "compress" / family)
    assert first[0] == second[0] and first[3] == pytest.approx(second[3])
    assert len(first[2]) == len(second[2]) == 1 + (family == "llama")  # rivals
    for mine, other in zip(first[2], second[2], strict=True):
        assert mine == pytest.approx(other, abs=1e-5)
    assert_same_weights(second[1], first[1])


def test_an_interrupted_compression_is_the_same_to_the_last_digit(two):
    """Interrupted while a checkpoint is written, after the nets were compared."""
    assert left(two.folder / "compress" / "broken") == left(two.folder / "compress" / FAMILIES[-1])


def test_two_processes_fine_tune_in_one_run(two):
    """Rows, prints and progress are those of the main process alone."""
    folder = two.folder / "recipes" / "finetune"
    assert (folder / "results.json").is_file(), two.done.stderr
    found = [(row["mode"], row["seed"]) for row in json.loads((folder / "results.json").read_text())["rows"]]
    assert sorted(found) == [("finetune", 0), ("inherit", None)]
    out, err = (
        [(folder.parent / f"finetune-{rank}.{kind}").read_text() for rank in (0, 1)] for kind in ("out", "err")
    )
    for line in ("finetune-0:", "grey", "parameters", "test accuracy"):
        assert out[0].count(line) == 1, out
    assert not out[1] and "warn" not in "".join(out + err).lower(), err
    progress = re.findall(r"^training: (\d+) of (\d+) \(100%\), .* left(?:, loss \d.*)?$", err[0], flags=re.M)
    assert len(progress) == 1 and "\r" not in err[0] and "{'" not in out[0] and "training" not in err[1], err


def test_two_processes_in_bf16_export_exactly(two):
    folder = two.folder / "recipes" / "bf16"
    assert (folder / "results.json").is_file(), two.done.stderr
    results = json.loads((folder / "results.json").read_text())
    assert results["search"]["num_processes"] == 2
    assert results["logit_difference"] < 1e-5 * results["logit_scale"]


def test_weights_sharded_as_one_unit_change_nothing(two):
    """FSDP2 on gloo gives the losses and gradients of the whole model."""
    assert (two.folder / "unit" / "differences.json").is_file(), two.done.stderr
    found = json.loads((two.folder / "unit" / "differences.json").read_text())
    assert "which needs whole weights" in found.pop("refused")
    for form, differences in found.items():
        assert max(differences.values()) < 1e-6, (form, differences)


def test_both_processes_end_without_an_error(two):
    assert two.done.returncode == 0, two.done.stderr
