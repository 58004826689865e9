"""`tangle-hf`: what its commands write and say, and its exit codes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from models.families import gpt2, vit
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageClassification

from tangle_hf import Architecture, ArchParameters, extract, num_params
from tangle_hf.cli.main import _beside
from tangle_hf.cost import timing as latency
from tangle_hf.cost.latency_profiles import profile
from tangle_hf.cost.latency_tables import save_latency_table
from tangle_hf.runs.resolving import resolve
from tangle_hf.version import __version__
from tangle_hf_cli import main


LAYERS_DIFFER = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": [1, 2], "mlp_ratio": [1, 2]},
    "vit": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": [1, 2], "mlp_ratio": [1, 2]},
}


@pytest.fixture(params=["gpt2", "vit"])
def run(request, tmp_path, monkeypatch):
    """(folder, supernet, architecture) of a finished run with heads of a fixed width, in the current directory."""
    monkeypatch.chdir(tmp_path)
    supernet = {"gpt2": gpt2, "vit": vit}[request.param]("fixed")
    folder, arch = Path("run"), supernet.space.architecture(**LAYERS_DIFFER[request.param])
    supernet.save_pretrained(folder / "supernet")
    arch_parameters = ArchParameters(supernet.space)
    with torch.no_grad():
        for rows in arch_parameters.logits.values():
            rows.copy_(torch.randn(rows.shape))
    header = {"method": "darts"} | ({"block_size": "16"} if request.param == "gpt2" else {})
    arch_parameters.save(folder / "arch_parameters.safetensors", header)
    (folder / "architecture.json").write_text(arch.to_json())
    (folder / "config.yaml").write_text(yaml.safe_dump({"method": "darts"}))
    return folder, supernet, arch


def auto(supernet):
    return AutoModelForCausalLM if supernet.main_input_name == "input_ids" else AutoModelForImageClassification


def parameters_of(model) -> int:
    return sum(p.numel() for p in model.parameters())


def error_of(*argv) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in argv])
    return stopped.value.code


def test_the_found_net_in_every_form(run, capsys):
    folder, supernet, arch = run
    for form, written in (("auto", "compact"), ("compact", "compact"), ("padded", "padded")):
        main(["export", "run", "--form", form])
        line = re.search(r"loads with +(.*)", capsys.readouterr().out)[1]
        assert line.startswith(f'{auto(supernet).__name__}.from_pretrained("run/subnet-{written}"')
        assert ("trust_remote_code" in line) == (written == "compact")
        model = auto(supernet).from_pretrained(folder / f"subnet-{written}")
        assert parameters_of(model) == parameters_of(extract(supernet, arch, written))
    assert "no stock form: layers differ" in error_of("export", "run", "--form", "stock")
    assert not (folder / "subnet-stock").exists()
    main(["info", "run"])
    said = capsys.readouterr().out
    assert "subnet-compact/" in said and "subnet-padded/" in said and f"{supernet.space.size:,}" in said
    main(["info", "run/subnet-compact"])
    said = capsys.readouterr().out
    assert f"{num_params(supernet.space, arch, supernet.config):,}" in said and str(arch) in said and line[:9] in said


def test_a_point_of_a_front(run):
    folder, supernet, _ = run
    assert "has no front" in error_of("export", "run", "--point", "1")
    points = [{"arch": arch.to_dict()} for arch in (supernet.space.smallest, supernet.space.largest)]
    (folder / "pareto.json").write_text(json.dumps({"points": points}))
    main(["export", "run", "--point", "1", "--form", "compact"])
    model = auto(supernet).from_pretrained(folder / "subnet-1-compact")
    assert parameters_of(model) == num_params(supernet.space, supernet.space.largest, supernet.config)
    assert "no point 2; choose from 0 to 1" in error_of("export", "run", "--point", "2")


def test_any_architecture_from_a_supernet_alone(run, capsys):
    folder, supernet, _ = run
    shutil.copytree(folder / "supernet", "supernet")
    smallest = supernet.space.smallest
    Path("small.json").write_text(smallest.to_json())
    main(["export", "supernet", "--arch", "small.json"])
    assert re.search(r"wrote +supernet-small-(\w+) ", capsys.readouterr().out)
    (written,) = Path().glob("supernet-small-*")
    assert parameters_of(auto(supernet).from_pretrained(written)) == num_params(
        supernet.space, smallest, supernet.config
    )
    assert Architecture.from_json((written / "architecture.json").read_text()) == smallest
    width = next(iter(smallest.to_dict()))
    for text, message in [
        (json.dumps(smallest.to_dict() | {width: 17}), f"{width}=17 is not a choice"),
        (json.dumps([1, 2]), "no architecture"),
        (json.dumps({width: {"16": 16}}), "no architecture"),
        (json.dumps(smallest.to_dict() | {width: "wide"}), f"{width}=wide is not a choice"),
        ('{"', "is not JSON"),
    ]:
        Path("wrong.json").write_text(text)
        assert message in error_of("export", "supernet", "--arch", "wrong.json", "--output", "out")
    assert "no architecture file missing.json" in error_of("export", "supernet", "--arch", "missing.json")
    assert "no architecture file supernet/architecture.json" in error_of("export", "supernet")
    assert not Path("out").exists() and not list(Path().glob(".partial*"))


def test_by_budget_from_a_run_and_from_what_it_publishes(run, capsys, monkeypatch):
    folder, supernet, _ = run
    main(["resolve", "run", "--max_params", "70%", "--max_flops", "80%"])
    assert "subnet-max_params-70percent-max_flops-80percent" in capsys.readouterr().out
    published = shutil.copytree(folder / "supernet", Path("published"))
    shutil.copy(folder / "arch_parameters.safetensors", published)
    main(["resolve", "published", "--max_params", "70%", "--max_flops", "80%", "--output", "small"])
    said = capsys.readouterr().out
    expected = resolve("run", {"max_params": "70%", "max_flops": "80%"}, "other").candidate
    for found in (folder / "subnet-max_params-70percent-max_flops-80percent", Path("small")):
        assert Architecture.from_json((found / "architecture.json").read_text()) == expected.arch
    for cost, value in expected.costs.items():
        assert re.search(rf"^{cost} +{value:,} of ", said, flags=re.MULTILINE)
    main(["resolve", "published", "--max_params", "70%", "--standard_only", "--output", "equal"])
    assert "(stock)" in capsys.readouterr().out
    length = 16 if supernet.main_input_name == "input_ids" else None
    monkeypatch.setattr(latency, "forward_seconds", lambda net, inputs: 1e-7 * net.num_parameters())
    save_latency_table(profile(supernet, sequence_length=length, rounds=1, progress=False), "table.json")
    main(["resolve", "run", "--max_latency_ms", "70%", "--latency_table", "table.json", "--output", "fast"])
    said = capsys.readouterr().out
    assert re.search(r"^latency_ms +[\d.]+ of [\d.]+$", said, flags=re.MULTILINE)
    assert re.search(r"^latency +predicted [\d.]+ ms, measured [\d.]+ ms \([+-]0.0%\)$", said, flags=re.MULTILINE)
    assert "no latency table" in error_of("resolve", "run", "--max_latency_ms", "70%", "--output", "out")
    assert "no effect" in error_of("resolve", "run", "--max_params", "70%", "--latency_table", "table.json")
    assert "resolve needs a budget" in error_of("resolve", "run")
    assert "below the smallest possible" in error_of("resolve", "run", "--max_params", "5", "--output", "out")
    logits = load_file(published / "arch_parameters.safetensors")
    for header, message in [
        ({"method": "spos+rs"}, "used spos+rs, which"),
        ({}, "does not say which method"),
    ]:
        save_file(logits, published / "arch_parameters.safetensors", header)
        assert message in error_of("resolve", "published", "--max_params", "70%")
    (published / "arch_parameters.safetensors").unlink()
    assert "arch_parameters.safetensors missing" in error_of("resolve", "published", "--max_params", "70%")
    main(["info", "published"])
    said = capsys.readouterr().out
    assert type(supernet).__name__ in said and "no: arch_parameters" in said


def test_what_a_folder_is(run, capsys):
    folder, _, _ = run
    Path("empty").mkdir()
    assert "neither config.yaml nor config.json" in error_of("info", "empty")
    assert "no folder, and no repository" in error_of("info", "nobody/nothing")
    assert "is a folder; --revision=v1" in error_of("info", "run", "--revision", "v1")
    main(["export", "run", "--output", "model"])
    assert "is a model already" in error_of("export", "model")
    Path("empty/text.txt").write_text("mine")
    assert "choose another folder" in error_of("export", "run", "--output", "empty")
    assert Path("empty/text.txt").read_text() == "mine"
    shutil.rmtree(folder / "supernet")
    (folder / "checkpoints" / "step-00000007").mkdir(parents=True)
    capsys.readouterr()
    main(["info", "run"])
    assert "not finished; checkpoints: step-00000007" in capsys.readouterr().out


@pytest.mark.parametrize(
    "settings", ["checkpoint: gpt2\ncalibration_examples: 64\n", "checkpoint: gpt2\nmode: [finetune]\n"]
)
def test_an_export_of_a_run_that_leaves_nets_names_them(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run/rows").mkdir(parents=True)
    Path("run/config.yaml").write_text(settings)
    assert "finish it with --resume" in error_of("export", "run", "--form", "onnx")
    for name in ("60pct", "40pct", "teacher"):
        Path("run", name).mkdir()
        Path("run", name, "config.json").write_text("{}")
    for name in ("60pct", "40pct", "inherit"):
        Path("run/rows", f"{name}.json").write_text("{}")
    for form in ("onnx", "auto"):
        said = error_of("export", "run", "--form", form)
        assert said.endswith("export one of its nets, run/40pct, run/60pct, by --form onnx or gguf")


def test_usage_is_two_and_an_error_is_one_line(tmp_path):
    for argv in (
        [],
        ["export"],
        ["export", "run", "--form", "tflite"],
        ["push", "run", "me/x", "--private", "--public"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(argv)
        assert stopped.value.code == 2
    command = [sys.executable, "-m", "tangle_hf_cli", "info", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {tmp_path} is no run, supernet or model")


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("resolve runs/half --max_parms 35%", "--max_params"),
        ("info run --revison=main", "--revision"),
        ("exprot run", "export"),
        ("export run --form padding", "padded"),
    ],
)
def test_the_nearest_word_is_suggested(words, near, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words.split())
    assert stopped.value.code == 2 and capsys.readouterr().err.endswith(f"; did you mean {near}?\n")


HELP = """
import sys, tangle_hf_cli
for argv in ([], ["--version"], ["export"], *([name, "--help"] for name in ("info", "export", "resolve", "card", "push"))):
    try:
        tangle_hf_cli.main([*argv] or ["--help"])
    except SystemExit as stopped:
        print("code", stopped.code)
slow = {"tangle_hf", "torch", "transformers", "huggingface_hub", "numpy"} & set(sys.modules)
assert not slow, slow
"""
GONE = """
import os, sys, tangle_hf_cli
read, write = os.pipe()
os.dup2(write, 1)
os.close(read)
run, tangle_hf_cli._run = tangle_hf_cli._run, lambda argv: print("line " * 100_000)
tangle_hf_cli.main([])
tangle_hf_cli.main([])
os.dup2(write, 1)
tangle_hf_cli._run = run
tangle_hf_cli.main(["--help"])
"""


def test_help_and_wrong_usage_wait_for_nothing():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    codes = re.findall(r"^code (.*)$", done.stdout, flags=re.MULTILINE)
    assert codes == ["0", "0", "2", "0", "0", "0", "0", "0"]
    assert "COMMAND" in done.stdout and "--standard_only" in done.stdout and f"\n{__version__}\n" in done.stdout


def test_a_reader_that_has_enough_is_no_error():
    done = subprocess.run([sys.executable, "-c", GONE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_folders_without_a_name_of_their_own(tmp_path, monkeypatch):
    (tmp_path / "net" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "net")
    assert _beside(".", Path("."), "run", "stock") == Path("subnet-stock")
    for given, inside in ((".", "net"), ("..", "net/inside"), ("inside/..", "net")):
        monkeypatch.chdir(tmp_path / inside)
        for kind in ("supernet", "model"):
            assert _beside(given, Path(given), kind, "onnx") == tmp_path / "net-onnx"


def test_weights_that_are_cut_off_are_one_line(run):
    folder, _, _ = run
    weights = folder / "supernet" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    said = error_of("export", "run")
    assert said.startswith("error: run holds weights that are damaged or cut off") and "\n" not in said


def test_errors_that_nobody_has_thought_of_keep_their_traceback(run, monkeypatch):
    def broken(*_, **__):
        return json.loads("{")

    monkeypatch.setattr("tangle_hf.cli.main.describe", broken)
    with pytest.raises(json.JSONDecodeError):
        main(["info", "run"])


def test_the_script_is_installed_under_its_name():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert re.search(r'^\[project.scripts\]\ntangle-hf = "tangle_hf_cli:main"$', text, flags=re.MULTILINE)
