"""Model cards: what they say is what the run measured, and the Hub's client reads them."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from tangle_hf import Architecture, PerLayer, SearchSpace
from tangle_hf.analysis import plot_architecture
from tangle_hf.hub.card_facts import layer_rows, public, space_facts
from tangle_hf.hub.cards import LOCAL_NAME, card_folder, write_card
from tangle_hf.hub.front_matter import hub_name
from tangle_hf.models.example_inputs import example_inputs
from tangle_hf.models.layer_ranks import by_position
from tangle_hf.models.loading import load_supernet
from tangle_hf.subnets.exports import export
from tangle_hf_cli import main


ROOT = Path(__file__).parents[2]
REFERENCE = sorted((ROOT / "model_cards").glob("*/*/README.md"))
PNG = b"\x89PNG\r\n\x1a\n"


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every markdown table, without the line below its head."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    return [[[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in t.splitlines()] for t in found]


def edit(path, **changes):
    """Changes keys of a JSON or YAML file."""
    load, dump = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    path.write_text(dump({**load(path.read_text()), **changes}))


@pytest.mark.parametrize("kind", ["subnet", "supernet"])
def test_a_run_leaves_cards_that_parse_and_say_what_was_measured(run, kind):
    card = ModelCard.load(run / kind / "README.md")
    results = json.loads((run / "results.json").read_text())
    settings = yaml.safe_load((run / "config.yaml").read_text())
    data, text = card.data, card.text
    assert data.library_name == "transformers" and data.pipeline_tag == results["pipeline"]
    assert {"tangle_hf", kind} <= set(data.tags) and data.license == settings["license"]
    assert ("No licence was stated" in text) == (data.license is None)
    assert ModelCardData(**data.to_dict()).to_dict() == data.to_dict()
    (tested,) = (
        row for row in results["table"] if row["net"].startswith("found, e" if kind == "subnet" else "largest")
    )
    measured = {e.metric_type: e.metric_value for e in data.eval_results}
    scores = {"perplexity": tested.get("perplexity"), "accuracy": tested.get("accuracy in %", 0) / 100}
    expected = {"loss": tested["test loss"], **{k: v for k, v in scores.items() if k in measured}}
    assert len(measured) == 2 and measured == pytest.approx(expected, abs=1e-6)
    assert data.eval_results[0].task_type == results["pipeline"] and data.eval_results[0].dataset_split == "test"
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert pictures == ["architecture.png", "losses.png", "shares.png"]
    assert all((run / kind / name).read_bytes().startswith(PNG) for name in pictures)
    rows = [row for table in tables(text) for row in table]
    for name, choices in load_supernet(run / "supernet").space.choices.items():
        assert [name, ", ".join(map(str, choices))] in [row[:2] for row in rows]
    for row in results["table"]:
        assert [row["net"], f"{row['parameters']:,}"] in [cells[:2] for cells in rows]
    arch = Architecture.from_json((run / "architecture.json").read_text())
    (layers,) = (table for table in tables(text) if table[0][0] == "layer")
    for number in range(arch.depth):
        (row,) = (cells for cells in layers if cells[0] == str(number + 1))
        given = dict(zip(layers[0], row, strict=True))
        assert all(given[name] == str(v[number]) for name, v in arch.to_dict().items() if isinstance(v, list))
    assert "arXiv:2312.10440" in text and "recipes/search" not in text.split("## Search\n")[0]
    assert str(run.parent) not in text and "/tmp" not in text, "folders of this machine"
    assert "\n`mlp_ratio` is the hidden width of the MLP divided by the width of the net.\n" in text
    assert f"seed {settings['seed']}" in text and f"max_steps: {settings['max_steps']}" in text
    assert "population_size" not in text and "arch_adam_beta1" in text, "settings of other methods"
    assert ("max_params" in text) == (run.name == "vit") == bool([t for t in tables(text) if t[0][0] == "budget"])


FORMS = [("gpt2", "stock"), ("gpt2", "compact"), ("gpt2", "padded"), ("vit", "padded")]


@pytest.mark.parametrize(("run", "form"), FORMS, indirect=["run"])
def test_cards_of_other_exports_say_their_form_and_claim_no_test(run, form):
    supernet = load_supernet(run / "supernet").eval()
    arch = supernet.space.smallest
    if form != "stock":
        arch = arch.replace(mlp_ratio=(1, 2))
    folder = run / form
    export(supernet, arch, folder, example_inputs(supernet), form)
    card = ModelCard.load(write_card(run, folder, license="mit"))
    assert f"the {form} form" in card.text and ("trust_remote_code=True" in card.text) == (form == "compact")
    assert [form, "this one"] in [row for table in tables(card.text) for row in table]
    assert json.dumps(arch.to_dict()) in card.text and card.data.license == "mit"
    assert "It was not tested" in card.text and card.data.eval_results is None
    # What the run found is the same net in every form, so that its results hold.
    edit(run / "results.json", found=arch.to_dict())
    again = ModelCard.load(write_card(run, folder))
    assert "It was not tested" not in again.text and len(again.data.eval_results) == 2


def test_baselines_that_were_run_are_told_from_those_that_were_not(gpt2_run):
    def sentences():
        text = write_card(gpt2_run).read_text()
        return [re.search(f"{start}(.*)", text)[1] for start in ("Baselines that were run: ", "compares with them: ")]

    run, not_run = sentences()
    assert "largest" in run and "random" in not_run and "from scratch" in not_run
    table = json.loads((gpt2_run / "results.json").read_text())["table"]
    edit(gpt2_run / "results.json", table=[*table, {**table[-1], "net": "random, in the supernet"}])
    run, not_run = sentences()
    assert "random" in run and "random" not in not_run


def test_latency_is_shown_where_there_is_one(gpt2_run):
    assert "Latency" not in write_card(gpt2_run).read_text()
    times = {"predicted_ms": 1.25, "measured_ms": 1.5, "error": -1 / 6}
    conditions = {"device_name": "a CPU", "threads": 1, "batch_size": 4}
    latency = {"limit_ms": None, "nets": {"found, exported": times}, "conditions": conditions}
    edit(gpt2_run / "results.json", latency=latency)
    text = write_card(gpt2_run).read_text()
    assert ["found, exported", "1.25", "1.5", "-16.7%"] in [row for table in tables(text) for row in table]
    assert "device_name a CPU, threads 1, batch_size 4" in text


def test_only_names_on_the_hub_become_links(gpt2_run, tmp_path):
    assert hub_name(None) is hub_name(str(tmp_path)) is hub_name("../gpt2") is hub_name("a/b/c") is None
    assert hub_name("openai-community/gpt2") == "openai-community/gpt2" and hub_name("gpt2") == "gpt2"
    edit(gpt2_run / "config.yaml", dataset="roneneldan/TinyStories", start_from="openai-community/gpt2")
    data = ModelCard.load(write_card(gpt2_run)).data
    assert data.datasets == ["roneneldan/TinyStories"] and data.base_model == "openai-community/gpt2"
    assert data.eval_results[0].dataset_type == "roneneldan/TinyStories"
    edit(gpt2_run / "config.yaml", dataset=str(tmp_path), start_from=str(tmp_path))
    data = ModelCard.load(write_card(gpt2_run)).data
    assert data.datasets is None and data.base_model is None


def test_stages_and_named_choices_have_tables_and_pictures(tmp_path):
    space = SearchSpace(width=[8, 16], depths=PerLayer([1, 2], rows=2), kernel=PerLayer([3, 5]))
    arch = space.architecture(width=8, depths=[2, 1], kernel=[3, 5, 5, None])
    rows = layer_rows(arch, space)
    assert [list(row.values()) for row in rows] == [
        ["whole net", "8", "2, 1", ""], ["1.1", "", "", "3"], ["1.2", "", "", "5"], ["2.1", "", "", "5"]]  # fmt: skip
    plot_architecture(arch, space, tmp_path / "stages.png")
    cell = SearchSpace(operation=PerLayer(["skip", "conv"], rows=3))
    arch = cell.architecture(operation=["conv", "skip", "conv"])
    assert [row["operation"] for row in layer_rows(arch, cell)] == ["", "conv", "skip", "conv"]
    plot_architecture(arch, cell, tmp_path / "cell.png")
    assert all((tmp_path / name).read_bytes().startswith(PNG) for name in ("stages.png", "cell.png"))


def test_layers_that_are_ranked_are_shown_by_position():
    space = SearchSpace(hidden_size=[8], num_hidden_layers=[2, 3, 4], mlp_ratio=PerLayer([1, 2, 3, 4]))
    ranks = [2, 0, 3, 1]  # at the first position is the layer that is the third to be kept
    for depth, expected in {4: ["3", "1", "4", "2"], 3: ["3", "1", "2"], 2: ["1", "2"]}.items():
        arch = space.architecture(hidden_size=8, num_hidden_layers=depth, mlp_ratio=[1, 2, 3, 4][:depth])
        rows = layer_rows(by_position(arch, space, ranks), space)[1:]
        assert [(row["layer"], row["mlp_ratio"]) for row in rows] == list(zip("1234", expected, strict=False))
        assert by_position(arch, space, None) == arch


def test_a_dimension_is_explained_where_its_name_does_not_say_what_it_is():
    heads = {"num_key_value_heads": [1, 2], "num_key_value_groups": [2]}
    assert space_facts(SearchSpace(hidden_size=[8], **heads), None)["meanings"].keys() == {"num_key_value_groups"}
    assert space_facts(SearchSpace(hidden_size=[8], mlp_ratio=[1, 2]), None)["meanings"].keys() == {"mlp_ratio"}


def test_folders_of_this_machine_are_left_out():
    text = "--output_dir /home/me/runs/x --train_file='/data/a.txt' ~/b/c.txt url: https://x.org/a/b org/name runs/y"
    assert public(text) == "--output_dir x --train_file='a.txt' c.txt url: https://x.org/a/b org/name runs/y"


CUT = "checkpoint: gpt2\ncalibration_examples: 64\n"  # settings of a compression


@pytest.fixture
def tuned(tmp_path):
    """A run of fine-tuning with one net, as `recipes/finetune.py` leaves it."""
    run = tmp_path / "tuned"
    (run / "rows").mkdir(parents=True)
    settings = {
        "checkpoint": str(tmp_path / "subnet"),
        "mode": ["inherit", "finetune"],
        "seeds": [0],
        "dataset": "me/texts",
    }
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    facts = {"pipeline": "text-generation", "data": "a few words", "command": "accelerate launch recipes/finetune.py"}
    (run / "results.json").write_text(json.dumps(facts))
    for name in ("inherit", "finetune-0"):
        row = {"mode": name.split("-")[0], "seed": 0, "parameters": 1234, "test": {"loss": 2.0, "perplexity": 7.5}}
        (run / "rows" / f"{name}.json").write_text(json.dumps(row))
    (run / "finetune-0").mkdir()
    (run / "finetune-0" / "config.json").write_text("{}")
    return run


def test_a_fine_tuned_net_has_a_card(tuned, capsys, monkeypatch):
    monkeypatch.chdir(tuned)
    main(["card", ".", "--license", "mit"])
    assert capsys.readouterr().out == "finetune-0/README.md\n"
    card = ModelCard.load(tuned / "finetune-0" / "README.md")
    assert {"tangle_hf", "finetuned"} <= {*card.data.tags} and card.data.license == "mit"
    assert card.data.datasets == ["me/texts"] and card.data.eval_results[0].metric_value == 2.0
    assert "1,234 parameters, fine-tuned from\nsubnet on a few words" in card.text
    assert card_folder(tuned) == tuned / "finetune-0"
    checkpoint = tuned.parent / "subnet"
    for search, origin in (
        ("method: drnas\n", "was found by\n[weight-entangled neural"),
        (CUT, "was cut from a larger"),
    ):
        assert (
            "architecture" not in write_card(tuned).read_text().partition("## Load it")[0].partition("# finetune-0")[2]
        )
        checkpoint.mkdir()
        (checkpoint / "architecture.json").write_text("{}")
        (tuned.parent / "config.yaml").write_text(search)
        assert f"The architecture {origin}" in write_card(tuned).read_text()
        shutil.rmtree(checkpoint)
    (tuned / "finetune-0" / "config.json").write_text('{"model_type": "tangle_gpt2"}')
    assert "The architecture was found with tangle_hf." in write_card(tuned).read_text()
    shutil.copytree("finetune-0", "retrain-0")
    shutil.copy("rows/finetune-0.json", "rows/retrain-0.json")
    with pytest.raises(ValueError, match="has 2 nets; choose one with --folder: .*finetune-0, .*retrain-0"):
        write_card(tuned)
    assert write_card(tuned, "retrain-0").parent.name == "retrain-0"


def test_what_has_no_card_is_told_what_it_is(tuned, tmp_path):
    with pytest.raises(ValueError, match="is a model; give the folder of the run, and this or another net of it as"):
        write_card(tuned / "finetune-0")
    with pytest.raises(ValueError, match="is no net that the fine-tuning"):
        write_card(tuned, tuned / "supernet")
    with pytest.raises(ValueError, match="there is no folder"):
        write_card(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is no run: it has no config.yaml"):
        write_card(tmp_path)
    (tuned / "rows" / "finetune-0.json").unlink()
    with pytest.raises(ValueError, match="no net that fine-tuning has finished"):
        write_card(tuned)
    (tmp_path / "config.yaml").write_text("max_steps: 3\n")
    with pytest.raises(ValueError, match="is no search, fine-tuning or compression"):
        write_card(tmp_path)


def test_a_fine_tuning_of_before_is_told_how_to_get_a_card(tuned):
    (tuned / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="run the same command with --resume"):
        write_card(tuned)


def test_a_run_is_called_by_its_name_in_its_own_folder(gpt2_run, monkeypatch):
    monkeypatch.chdir(gpt2_run)
    assert "# gpt2: found net" in write_card(".").read_text()


def test_unfinished_runs_and_foreign_folders_are_refused(gpt2_run, tmp_path):
    with pytest.raises(ValueError, match="is no export of .*: config.json, architecture.json missing"):
        write_card(gpt2_run, tmp_path / "nothing")
    (gpt2_run / "subnet" / "architecture.json").write_text('{"n_embd": 7}')
    with pytest.raises(ValueError, match="the architecture lacks"):
        write_card(gpt2_run)
    (gpt2_run / "results.json").unlink()
    before = (gpt2_run / "subnet" / "README.md").read_text()
    with pytest.raises(ValueError, match="not a finished run: results.json missing"):
        write_card(gpt2_run)
    assert (gpt2_run / "subnet" / "README.md").read_text() == before and LOCAL_NAME in before
    shutil.rmtree(gpt2_run / "supernet")
    with pytest.raises(ValueError, match="supernet/config.json missing"):
        write_card(gpt2_run)


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_reference_cards_parse_and_have_their_pictures(path):
    card = ModelCard.load(path)
    kind, recipe = path.parent.name, path.parent.parent.name
    assert {"tangle_hf", kind} <= set(card.data.tags) and len(card.data.eval_results) == 2
    assert f"accelerate launch recipes/{recipe}.py" in card.text and (ROOT / "recipes" / f"{recipe}.py").is_file()
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", card.text)
    assert len(pictures) == 3 and all((path.parent / name).read_bytes().startswith(PNG) for name in pictures)
    index = (ROOT / "model_cards" / "README.md").read_text()
    loss = next(e.metric_value for e in card.data.eval_results if e.metric_type == "loss")
    assert f"({recipe}/{kind}/README.md)" in index and f"{loss:.3f}" in index
