"""Searches and weights on two processes: exact resume after SIGKILL, the steps of one process, and sharded weights."""

import json
from types import SimpleNamespace

import pytest
import torch
import two_stage_worker
import worker
from several_runs import launch
from test_bilevel import outcome
from test_two_stage import SMALL, check_equal


BILEVEL = {"pareto": "params"}
STEPS = {method: {"dropout": 0.0, "max_steps": 5, "method": method} for method in ("drnas", "gdas")}
TWO_STAGE = {"method": "spos+nsga2", "max_params": "80%", **SMALL}
INTERRUPTIONS = [{"at_step": 6}, {"at_candidate": 6}]
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
    done = launch(folder, 2, [*runs, ("fsdp_worker", "fsdp", {})])
    return SimpleNamespace(folder=folder, killed=killed, ended=ended, partial=partial, done=done)


def end(two, name):
    """What a run has left; another run's failure is not this one's, unless it came before."""
    assert (two.folder / name / "end.json").is_file(), f"{name} has no end\n{two.done.stderr}"
    return outcome(two.folder / name)


def assert_same_weights(found: dict, expected: dict) -> None:
    """Up to rounding."""
    for name, values in expected.items():
        pair = torch.tensor(found[name]), torch.tensor(values)
        if name.endswith("c_attn.bias"):  # the keys' bias has no gradient but rounding, which Adam scales up
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


def test_weights_sharded_as_one_unit_change_nothing(two):
    """FSDP2 on gloo gives the losses and gradients of the whole model."""
    assert (two.folder / "fsdp" / "differences.json").is_file(), two.done.stderr
    for form, differences in json.loads((two.folder / "fsdp" / "differences.json").read_text()).items():
        assert max(differences.values()) < 1e-6, (form, differences)


def test_both_processes_end_without_an_error(two):
    assert two.done.returncode == 0, two.done.stderr
