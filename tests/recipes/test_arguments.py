"""Arguments: the command line wins over the file, unknown keys are refused, every ready config is readable."""

from pathlib import Path

import pytest
from arguments import SpaceArguments, parse, read_config
from search_gpt import supernet_config
from text_data import DataArguments

from tangle_hf.search import SearchArguments


KINDS = (SpaceArguments, DataArguments, SearchArguments)
CONFIGS = sorted((Path(__file__).parents[2] / "recipes" / "configs").glob("*.yaml"))


def test_the_command_line_wins_over_the_file_and_the_file_over_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("n_embd: [32, 64]\nlearning_rate: 5e-4\nmax_steps: 7\n")
    space, data, settings = parse(*KINDS, argv=["--config", str(path), "--max_steps", "9"])
    assert (space.n_embd, settings.learning_rate, settings.max_steps) == ([32, 64], 5e-4, 9)
    assert settings.sampler == "drnas" and data.block_size == 128


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_step: 3", "max_step.*did you mean max_steps"),
        ("max_steps: many", "whole number"),
        ("n_embd: 64", "list"),
        ("- 3", "key: value"),
        ("sampler: adam", "adam"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        parse(*KINDS, argv=["--config", str(path)])


def test_unknown_flags_and_missing_files_are_refused():
    with pytest.raises(ValueError, match="max_stepz"):
        parse(*KINDS, argv=["--max_stepz", "3"])
    with pytest.raises(ValueError, match="no such file"):
        parse(*KINDS, argv=["--config", "missing.yaml"])


def test_help_lists_every_field(capsys):
    with pytest.raises(SystemExit):
        parse(*KINDS, argv=["--help"], description="The recipe.")
    text = capsys.readouterr().out
    assert "The recipe." in text and "--arch_learning_rate" in text and "--n_embd" in text


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_ready_configs_are_complete_settings_of_a_space_that_can_be(path):
    assert read_config(path, *KINDS)
    space, data, settings = parse(*KINDS, argv=["--config", str(path)])
    assert supernet_config(space, data.block_size, data.vocab_size).space.size > 1
    assert settings.max_steps > 0


def test_small_config_is_the_default():
    small = parse(*KINDS, argv=["--config", str(next(p for p in CONFIGS if p.name == "small.yaml"))])
    assert small == parse(*KINDS, argv=[])
