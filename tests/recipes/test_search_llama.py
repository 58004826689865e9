"""The Llama recipe from end to end: new weights of a class with a budget, and a search from a checkpoint of another."""

import json

import pytest
import torch
from search_llama import SUPERNETS, LlamaSearchArguments, main
from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig, MistralForCausalLM

from tangle_hf.data.text_settings import DataArguments
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.space_settings import LlamaSpaceArguments
from tangle_hf.settings import parse


KINDS = (LlamaSpaceArguments, DataArguments, LlamaSearchArguments, SearchHubArguments)
TINY = ["--hidden_size", "16", "32", "--num_hidden_layers", "1", "2", "--intermediate_size", "16", "48", "--block_size", "32",
        "--vocab_size", "300", "--max_steps", "4", "--per_device_batch_size", "4", "--save_steps", "2", "--eval_steps", "4",
        "--eval_batches", "2", "--warmup_steps", "1", "--logging_steps", "1", "--finalists", "0"]  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for name in ("train", "validation", "test"):
        (folder / f"{name}.txt").write_text("".join(f"{name} line {i} of a small text.\n" for i in range(200)))
    return [x for name in ("train", "validation", "test") for x in (f"--{name}_file", str(folder / f"{name}.txt"))]


def run(folder, text, *options):
    main(*parse(*KINDS, argv=["--output_dir", str(folder), *TINY, *text, *options]))


@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_a_run_within_a_budget_leaves_a_model_that_loads_and_goes_on(model_type, tmp_path, text):
    run(tmp_path / "run", text, "--model_type", model_type, "--max_params", "70%")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "subnet", trust_remote_code=True)
    largest = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "supernet")
    assert type(largest).__name__ == SUPERNETS[model_type].config_class.plain
    reported = {row["net"]: row["parameters"] for row in results["table"]}[f"found, exported ({results['form']})"]
    assert found.num_parameters() == reported <= 0.7 * largest.num_parameters()
    tokens = AutoTokenizer.from_pretrained(tmp_path / "run" / "subnet")("line 1 of", return_tensors="pt")
    assert found.generate(**tokens, max_new_tokens=4, do_sample=False).shape[1] > tokens["input_ids"].shape[1]


def test_a_checkpoint_is_the_largest_net_at_the_start_and_must_be_of_the_class(tmp_path, text):
    run(tmp_path / "first", text, "--model_type", "qwen3")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "first" / "supernet")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "num_key_value_heads": 2}
    torch.manual_seed(1)
    config = MistralConfig(
        **sizes, num_attention_heads=4, vocab_size=len(tokenizer), max_position_embeddings=64, sliding_window=32
    )
    for part in (MistralForCausalLM(config), tokenizer):
        part.save_pretrained(tmp_path / "mistral")
    start = ["--start_from", str(tmp_path / "mistral"), "--learning_rate", "1e-9", "--min_learning_rate", "1e-9"]
    own = ["--tokenizer", str(tmp_path / "mistral"), "--vocab_size", "0"]
    with pytest.raises(ValueError, match="mistral"):
        run(tmp_path / "wrong", text, "--model_type", "qwen3", *start, *own)
    (tmp_path / "no.txt").write_text("x")  # the window is named before any text is read
    no_text = [x for name in ("train", "validation", "test") for x in (f"--{name}_file", str(tmp_path / "no.txt"))]
    with pytest.raises(ValueError, match="^48 tokens are more than sliding_window=32, .* blocks of at most 32"):
        run(tmp_path / "wrong", no_text, "--model_type", "mistral", *start, *own, "--block_size", "48")
    assert not (tmp_path / "wrong" / "supernet").exists()
    run(tmp_path / "run", text, "--model_type", "mistral", *start, *own, "--attention_dropout", "0.01")
    kept, given = (
        MistralForCausalLM.from_pretrained(folder) for folder in (tmp_path / "run" / "supernet", tmp_path / "mistral")
    )
    assert kept.config.attention_dropout == 0.01 and given.config.attention_dropout == 0.0
    for (name, weight), stored in zip(kept.named_parameters(), given.parameters(), strict=True):
        assert torch.allclose(weight, stored, atol=1e-6), name
