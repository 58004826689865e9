"""A run that an earlier version left is read by this one.

`data/earlier_run` is what commit e1a0754 left, from before the recipes moved into the package; only its pictures are gone.
"""

import filecmp
import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from tangle_hf import Architecture, ElasticGPT2LMHeadModel, TangleGPT2ForCausalLM, extract, num_params
from tangle_hf.compare.runs import load_data, read_runs
from tangle_hf.data.text_settings import DataArguments
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.example_inputs import example_inputs
from tangle_hf.models.space_settings import SpaceArguments
from tangle_hf.run_files import read_results, read_settings
from tangle_hf.runs.folder import check_run_folder, defaults_of, from_settings, settings_of
from tangle_hf.runs.resolving import resolve
from tangle_hf.search import SearchArguments
from tangle_hf_cli import main


LEFT = Path(__file__).parent / "data" / "earlier_run"
RECIPE = Path(__file__).parents[1] / "recipes" / "search_gpt.py"
KINDS = (SpaceArguments, DataArguments, SearchArguments, SearchHubArguments)
RESULTS = ("architecture.json", "arch_parameters.safetensors", "results.json", "subnet", "supernet")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A copy of the run beside the texts that it read, in the current directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("train", "validation", "test"):
        Path(f"{name}.txt").write_text("".join(f"{name} line {i} of a small text.\n" for i in range(60)))
    return shutil.copytree(LEFT, Path("earlier_run"))


def logits(model, inputs):
    with torch.no_grad():
        return model.eval()(**inputs).logits


def test_its_settings_are_still_settings(run):
    """All of them, with the values they had; what came since has its default."""
    stored = read_settings(run)
    parts = [from_settings(kind, stored) for kind in KINDS]
    assert not stored.keys() - {item.name for kind in KINDS for item in fields(kind)}
    assert settings_of(*parts) == defaults_of(*parts) | stored
    check_run_folder(run, settings_of(*parts), True, set(), defaults_of(*parts))
    with pytest.raises(ValueError, match=r"was started with seed=2 \(now 3\)"):
        check_run_folder(run, settings_of(*parts) | {"seed": 3}, True, set(), defaults_of(*parts))


def test_info_says_what_it_is(run, capsys):
    main(["info", "earlier_run"])
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert said["kind"] == "a run of a search with drnas" and said["state"] == "finished"
    assert said["architectures"] == "40" and said["parameters"].endswith(" to 3,408")
    load = 'AutoModelForCausalLM.from_pretrained("earlier_run/subnet", trust_remote_code=True)'
    assert said["subnet/"] == f"1,412 parameters; {load}"


def test_its_nets_load_and_score_what_it_reported(run):
    """The largest as a plain class; what was found with the class of today, and with the code that lies beside its weights."""
    (found,) = read_runs(["earlier_run"])
    supernet = ElasticGPT2LMHeadModel.from_pretrained(run / "supernet")
    largest = AutoModelForCausalLM.from_pretrained(run / "supernet")
    subnet = AutoModelForCausalLM.from_pretrained(run / "subnet", trust_remote_code=True)
    remote = get_class_from_dynamic_module("modeling_tangle_gpt2.TangleGPT2ForCausalLM", str(run / "subnet"))
    assert type(largest) is GPT2LMHeadModel and type(subnet) is TangleGPT2ForCausalLM is not remote
    assert AutoTokenizer.from_pretrained(run / "subnet")("line 1").input_ids
    inputs = example_inputs(supernet)
    assert torch.allclose(logits(largest, inputs), logits(supernet, inputs), atol=1e-6)
    for net in (subnet, remote.from_pretrained(run / "subnet")):
        assert torch.allclose(logits(extract(supernet, found.arch), inputs), logits(net, inputs), atol=1e-6)
    data = load_data(found)
    table = {row["net"]: row for row in found.results["table"]}
    for name, net in {"found, exported (compact)": subnet, "largest, in the supernet": largest}.items():
        score = data.columns(data.score(net.eval(), data.test, found.settings["per_device_batch_size"]))
        assert score["test loss"] == pytest.approx(table[name]["test loss"], rel=1e-5)
        assert net.num_parameters() == table[name]["parameters"]


@pytest.mark.parametrize("source", ["earlier_run", "earlier_run/supernet"])
def test_another_budget_takes_the_best_net_within_it(run, source):
    shutil.copy(run / "arch_parameters.safetensors", run / "supernet")  # as it is published
    done = resolve(source, {"max_params": "60%"}, "small")
    assert done.limits["params"] == 3408 * 6 // 10 >= done.candidate.costs["params"]
    written = AutoModelForCausalLM.from_pretrained("small", trust_remote_code=True)
    assert written.num_parameters() == done.candidate.costs["params"]
    assert done.candidate.arch == Architecture.from_json(
        (run / "architecture.json").read_text()
    )  # fits in, and is best


def test_export_writes_what_it_wrote(run):
    main(["export", "earlier_run", "--output", "again"])
    before, now = (
        AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True) for folder in (run / "subnet", "again")
    )
    assert before.state_dict().keys() == now.state_dict().keys()
    assert all(torch.equal(tensor, now.state_dict()[name]) for name, tensor in before.state_dict().items())
    assert filecmp.cmp("again/architecture.json", run / "subnet" / "architecture.json", shallow=False)
    supernet = ElasticGPT2LMHeadModel.from_pretrained(run / "supernet")
    Path("smallest.json").write_text(json.dumps(supernet.space.smallest.to_dict()))
    main(["export", "earlier_run", "--arch", "smallest.json", "--form", "stock", "--output", "smallest"])
    smallest = GPT2LMHeadModel.from_pretrained("smallest")
    assert smallest.num_parameters() == num_params(supernet.space, supernet.space.smallest, supernet.config)


def test_its_card_is_written_again_with_the_same_facts(run):
    command, table = (read_results(run / "results.json")[name] for name in ("command", "table"))
    for options in ([], ["--supernet"]):
        folder = run / ("supernet" if options else "subnet")
        (folder / "README.md").unlink()
        main(["card", "earlier_run", *options])
        card = (folder / "README.md").read_text()
        assert command.replace(" ", "") in card.replace("\\\n", "").replace(" ", "")
        assert all(f"{row['parameters']:,}" in card for row in table)


def test_its_checkpoint_is_refused_in_one_line_and_left_alone(run, capsys):
    """Its weight decay pulled the table of positions to zero, too."""
    for name in RESULTS:  # as if it had been stopped before its end
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    main(["info", "earlier_run"])
    assert "not finished; checkpoints: step-00000004" in capsys.readouterr().out
    command = [sys.executable, str(RECIPE), "--config", "earlier_run/config.yaml", "--resume"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1 and done.stderr == (
        "error: the optimizer in earlier_run/checkpoints/step-00000004 has other parameter groups: another version chose what "
        "weight decay is applied to. Finish this run with the version that began it, or begin again in another folder\n"
    )
    left = {path.relative_to(run) for path in run.rglob("*") if path.is_file()}
    assert left == {
        path.relative_to(LEFT)
        for path in LEFT.rglob("*")
        if path.is_file() and not {*path.relative_to(LEFT).parts} & {*RESULTS}
    }
    for name in left:
        assert filecmp.cmp(run / name, LEFT / name, shallow=False), name


def test_the_folder_names_no_machine_and_is_not_shipped():
    for path in (path for path in LEFT.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not any(word in content for word in (b"/work", b"/tmp", b"/root", b"/home")), path
    packaging = (LEFT.parents[2] / "pyproject.toml").read_text().split("[tool.ruff]")[0]
    assert 'include = ["tangle_hf", "tangle_hf_cli.py", "recipes"]' in packaging and '"tests' not in packaging
    assert sum(path.stat().st_size for path in LEFT.rglob("*") if path.is_file()) < 300_000
