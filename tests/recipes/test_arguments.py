"""Arguments: the command line wins over the file, unknown keys are refused, every ready config is readable."""

import re
from dataclasses import MISSING, dataclass, field, fields
from importlib import import_module
from pathlib import Path

import pytest
import search_cnn
import search_gpt
import search_llama
import search_vit
import torch

from tangle_hf import ElasticGPT2LMHeadModel
from tangle_hf.compare.settings import CompareArguments
from tangle_hf.data.images.augmentation_settings import AugmentationArguments
from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.text_settings import DataArguments
from tangle_hf.hub.settings import HubArguments
from tangle_hf.models.space_settings import (
    ConvSpaceArguments,
    LlamaSpaceArguments,
    SpaceArguments,
    ViTSpaceArguments,
)
from tangle_hf.models.vit.spaces_vit import AUTOFORMER_B, AUTOFORMER_HEAD_DIM, AUTOFORMER_S, AUTOFORMER_T
from tangle_hf.runs.image_search import SmallAugmentationArguments
from tangle_hf.runs.text_supernets import from_checkpoint
from tangle_hf.search import SearchArguments
from tangle_hf.search.loop import weight_scheduler
from tangle_hf.settings import parse, read_config
from tangle_hf.training.finetuning import FinetuneArguments


KINDS = (SpaceArguments, DataArguments, SearchArguments)
LLAMA_KINDS = (LlamaSpaceArguments, DataArguments, search_llama.LlamaSearchArguments)
IMAGE_KINDS = (
    ViTSpaceArguments,
    ImageArguments,
    SmallAugmentationArguments,
    search_vit.ImageSearchArguments,
)
CONV_KINDS = (
    ConvSpaceArguments,
    search_cnn.ConvImageArguments,
    SmallAugmentationArguments,
    search_cnn.ConvSearchArguments,
)
FINETUNE_KINDS = (FinetuneArguments, HubArguments)
ALL_KINDS = [
    KINDS,
    IMAGE_KINDS,
    CONV_KINDS,
    LLAMA_KINDS,
    (*FINETUNE_KINDS, DataArguments),
    (*FINETUNE_KINDS, ImageArguments, AugmentationArguments),
    (CompareArguments,),
]
CONFIGS = sorted((Path(__file__).parents[2] / "recipes" / "configs").glob("*.yaml"))


def test_the_command_line_wins_over_the_file_and_the_file_over_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("n_embd: [32, 64]\nlearning_rate: 5e-4\nmax_steps: 7\n")
    space, data, settings = parse(*KINDS, argv=["--config", str(path), "--max_steps", "9"])
    assert (space.n_embd, settings.learning_rate, settings.max_steps) == ([32, 64], 5e-4, 9)
    assert settings.method == "drnas" and data.block_size == 128


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_step: 3", "max_step.*did you mean max_steps"),
        ("max_steps: many", "whole number"),
        ("n_embd: 64", "list"),
        ("- 3", "key: value"),
        ("method: adam", "adam"),
        ("max_steps: 3\nseed: 1\nmax_steps: 30", "max_steps is there twice"),
        ("learning_rate: .nan", "learning_rate=nan must be a finite number"),
        ("\x80\x04", "no text in UTF-8"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=message):
        parse(*KINDS, argv=["--config", str(path)])


def test_unknown_flags_and_missing_files_are_refused():
    with pytest.raises(
        ValueError, match="there is no option --max_stepz .did you mean --max_steps .*--help_all lists"
    ):
        parse(*KINDS, argv=["--max_stepz", "3"])
    with pytest.raises(ValueError, match="no such file"):
        parse(*KINDS, argv=["--config", "missing.yaml"])


@pytest.mark.parametrize(
    "argv",
    [
        *(["--" + name, value] for name in ("learning_rate", "arch_learning_rate") for value in ("nan", "inf")),
        *(["--" + name, "nan"] for name in ("weight_decay", "max_grad_norm", "arch_max_grad_norm", "arch_kl_scale")),
        *(
            ["--" + name, "nan"]
            for name in ("adam_beta1", "adam_beta2", "arch_adam_beta1", "arch_adam_beta2", "dropout")
        ),
        *(["--" + name, "1"] for name in ("adam_beta1", "adam_beta2", "arch_adam_beta1", "arch_adam_beta2")),
        *(
            ["--" + name, "-1"]
            for name in ("max_grad_norm", "arch_max_grad_norm", "arch_learning_rate", "warmup_steps")
        ),
        *(["--seed", seed] for seed in ("-1", "4294967296")),
        ["--min_learning_rate", "0.1"],
        ["--warmup_steps", "400"],
        ["--report_to", "tensorbord"],
    ],
    ids="=".join,
)
def test_values_that_nobody_can_mean_are_refused_by_name(argv):
    with pytest.raises(ValueError, match=argv[0].removeprefix("--")):
        parse(*KINDS, argv=argv)


def test_infinite_norms_still_mean_no_clipping_and_the_largest_seed_is_one():
    *_, settings = parse(*KINDS, argv=["--max_grad_norm", "inf", "--seed", str(2**32 - 1)])
    assert (settings.max_grad_norm, settings.seed) == (float("inf"), 2**32 - 1)


@pytest.mark.parametrize(
    ("peak", "steps", "least", "warmup"), [(3e-3, 400, 3e-4, 20), (1e-4, 60, 1e-5, 6), (1e-4, 3, 1e-5, 0)]
)
def test_the_ends_of_a_schedule_are_shares_of_it(peak, steps, least, warmup):
    """A peak below some fixed minimum would make it rise, and a fixed warm-up longer than a short search never ends."""
    settings = SearchArguments(learning_rate=peak, max_steps=steps)
    assert (settings.min_learning_rate, settings.warmup_steps) == (least, warmup)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler, rates = weight_scheduler(optimizer, settings), []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert max(rates) == rates[warmup] == pytest.approx(peak) and rates[-1] >= least
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


@pytest.mark.parametrize("kinds", ALL_KINDS, ids=lambda kinds: kinds[-1].__name__)
def test_help_explains_ten_options_and_names_the_others(kinds, capsys):
    text = helps(capsys, kinds, "--help")
    explained = re.findall(r"^  --(\w+)", text, flags=re.M)
    assert "The recipe." in text and explained[:2] == ["help_all", "config"] and 3 < len(explained[2:]) <= 10
    of_fields = [item.name for kind in kinds for item in fields(kind)]
    lines = text.split("more options", 1)[1].splitlines()[1:]
    named = " ".join(re.split(r"\s{2,}", line)[-1] for line in lines).split()
    for name in of_fields:
        assert (name in explained) != (name in named), name
    assert text.count("\n") < 80


@pytest.mark.parametrize("kinds", ALL_KINDS, ids=lambda kinds: kinds[-1].__name__)
def test_help_all_explains_every_option_with_its_default(kinds, capsys):
    text = helps(capsys, kinds, "--help_all")
    pieces = dict(re.findall(r"^  --(\w+)\b(.*?)(?=^  -|^\S|\Z)", text, flags=re.M | re.S))
    for kind in kinds:
        for item in fields(kind):
            said = " ".join(pieces[item.name].split())
            required = item.default is MISSING and item.default_factory is MISSING
            assert required or "default: " in said.lower(), said
    assert "default: None" not in text and not re.search(r"--\w+-\w+", text)


def test_help_without_other_options_ends_with_those_it_explains(capsys):
    @dataclass
    class Few:
        folder: str = field(default="runs", metadata={"main": True, "help": "a folder"})

    assert "more options" not in helps(capsys, (Few,), "--help")


def test_a_new_option_belongs_to_the_group_above_it(capsys):
    @dataclass
    class Mine:
        _argument_group_name = "first"

        one: int = field(default=1, metadata={"help": "one"})
        two: bool = field(default=True, metadata={"group": "second", "help": "two"})
        three: list[str] = field(default_factory=lambda: ["a", "b%"], metadata={"help": "three", "main": True})

    text = helps(capsys, (Mine,), "--help_all")
    groups = re.split(r"^(\w.*):\n", text, flags=re.M)
    assert re.findall(r"--\w+", groups[groups.index("first") + 1]) == ["--one"]
    assert re.findall(r"--\w+", groups[groups.index("second") + 1]) == ["--two", "--no_two", "--three"]
    assert "three (default: a b%)" in helps(capsys, (Mine,), "--help")


def helps(capsys, kinds: tuple[type, ...], option: str) -> str:
    """What a recipe with these dataclasses prints."""
    with pytest.raises(SystemExit):
        parse(*kinds, argv=[option], description="The recipe.")
    return capsys.readouterr().out


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_ready_configs_are_complete_settings_of_a_space_that_can_be(path):
    (recipe,) = set(re.findall(r"recipes/(search_\w+)\.py --config recipes/configs/" + path.name, path.read_text()))
    kinds = {"search_gpt": KINDS, "search_llama": LLAMA_KINDS, "search_vit": IMAGE_KINDS, "search_cnn": CONV_KINDS}[
        recipe
    ]
    assert read_config(path, *kinds)
    space, data, *_, settings = parse(*kinds, argv=["--config", str(path)])
    if recipe in ("search_gpt", "search_llama"):
        config = import_module(recipe).supernet_config(space, data.block_size, data.vocab_size)
    elif recipe == "search_vit":
        config = search_vit.supernet_config(space, data.num_channels, data.image_size or 8, ["a", "b"])
    else:
        settings.start_from = None  # what another run has to write first
        with torch.device("meta"):
            config = search_cnn.supernet_for(space, data.num_channels, data.image_size, ["a", "b"]).config
    assert config.space.size > 1 and settings.max_steps > 0


@pytest.mark.parametrize(("name", "kinds"), [("small.yaml", KINDS), ("small_vit.yaml", IMAGE_KINDS)])
def test_small_configs_are_the_defaults(name, kinds):
    small = parse(*kinds, argv=["--config", str(next(path for path in CONFIGS if path.name == name))])
    assert small == parse(*kinds, argv=[])


@pytest.mark.parametrize(("name", "space"), [("tiny", AUTOFORMER_T), ("small", AUTOFORMER_S), ("base", AUTOFORMER_B)])
def test_autoformer_configs_are_the_librarys_spaces_on_all_classes(name, space):
    path = next(path for path in CONFIGS if path.name == f"autoformer_{name}_imagenet.yaml")
    arguments, data, augmentation, settings = parse(*IMAGE_KINDS, argv=["--config", str(path)])
    config = search_vit.supernet_config(arguments, 3, data.image_size, [str(n) for n in range(data.classes)])
    assert config.space == space and config.head_dim == AUTOFORMER_HEAD_DIM
    assert (config.num_patches, config.num_labels, config.patch_size) == (196, 1000, 16)


def test_one_file_or_several_are_given_alike(tmp_path):
    config = tmp_path / "config.yaml"
    for text, argv, expected in (
        ("train_file: a.txt", [], "a.txt"),
        ("train_file: [a.txt, b.txt]", [], ["a.txt", "b.txt"]),
        ("train_file: null", [], None),
        ("train_file: a.txt", ["--train_file", "c.txt", "d.txt"], ["c.txt", "d.txt"]),
        ("train_file: a.txt", ["--train_file", "none"], None),
    ):
        config.write_text(text)
        (data,) = parse(DataArguments, argv=["--config", str(config), *argv])
        assert data.train_file == expected


def test_none_takes_back_a_list_of_a_config_and_stands_alone(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("pareto: params\npareto_anchors: [30%, 90%]\n")
    given = ["--config", str(config), "--pareto_anchors", "none"]
    assert parse(*KINDS, argv=given)[-1].pareto_anchors is None
    with pytest.raises(ValueError, match="pareto_anchors: none, which takes back .* stands alone"):
        parse(*KINDS, argv=[*given, "50%"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning_rate", "1e300"], r"learning_rate=1e\+300 must be at most 1e\+30"),
        (["--dataset", ""], "dataset is an empty text"),
        (["--output_dir", " "], "output_dir is an empty text"),
        (["--train_file", "a.txt", ""], "train_file is an empty text"),
        (["--preprocessing_workers", "-3"], "preprocessing_workers=-3 must not be negative"),
    ],
)
def test_values_that_no_float_holds_and_empty_texts_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        parse(*KINDS, argv=words)


def test_the_home_folder_may_be_behind_an_equals_sign_and_in_a_config(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text("output_dir: ~/runs\ntrain_file: [~/a.txt, ~b.txt]\ntext_column: a~/b\n")
    data, search = parse(DataArguments, SearchArguments, argv=["--config=~/c.yaml", "--tokenizer=~/tokenizer"])
    assert search.output_dir == f"{tmp_path}/runs" and data.tokenizer == f"{tmp_path}/tokenizer"
    assert data.train_file == [f"{tmp_path}/a.txt", "~b.txt"] and data.text_column == "a~/b"


def test_ranks_of_layers_reach_the_supernet(tmp_path):
    space = SpaceArguments(n_layer=[2, 3], layer_ranks=[0, 2, 1])
    assert search_gpt.supernet_config(space, 32, 100).layer_ranks == [0, 2, 1]
    assert search_gpt.supernet_config(SpaceArguments(), 32, 100).layer_ranks is None
    ElasticGPT2LMHeadModel(search_gpt.supernet_config(SpaceArguments(n_layer=[3]), 128, 50)).save_pretrained(tmp_path)
    space.n_embd, space.n_head, space.mlp_ratio = [128], [4], [4]
    config = search_gpt.supernet_config(space, 128, 50)
    assert from_checkpoint(ElasticGPT2LMHeadModel, config, str(tmp_path), 128).config.layer_ranks == [0, 2, 1]
    assert from_checkpoint(ElasticGPT2LMHeadModel, config, str(tmp_path), 128).config.attn_pdrop == 0.0
    given = dict.fromkeys(search_gpt.DROPOUTS, 0.3)
    assert from_checkpoint(ElasticGPT2LMHeadModel, config, str(tmp_path), 128, given).config.attn_pdrop == 0.3
    images = ViTSpaceArguments(num_hidden_layers=[2, 3], layer_ranks=[2, 0, 1])
    assert search_vit.supernet_config(images, 3, 8, ["a", "b"]).layer_ranks == [2, 0, 1]
    with pytest.raises(ValueError, match=r"layer_ranks=\[2, 0, 1\] must have every number from 0 to 3 once"):
        search_vit.supernet_config(ViTSpaceArguments(layer_ranks=[2, 0, 1]), 3, 8, ["a", "b"])


def test_every_search_recipe_has_a_folder_of_its_own():
    """So that one after the other runs without options."""
    kinds = (SearchArguments, LLAMA_KINDS[-1], IMAGE_KINDS[-1], CONV_KINDS[-1])
    recipes = (search_gpt, search_llama, search_vit, search_cnn)
    assert [kind().output_dir for kind in kinds] == [f"runs/{recipe.__name__}" for recipe in recipes]
