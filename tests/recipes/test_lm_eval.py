"""The task for lm-evaluation-harness scores a text file as the model's own probabilities do."""

import math
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from models.families import gpt2

from tangle_hf import extract
from tangle_hf.data.text_settings import DataArguments
from tangle_hf.data.tokens import load_tokenizer


TASKS = Path(__file__).parents[2] / "recipes" / "lm_eval"
TEXT = "Anne was näive.\n"


def test_bits_per_byte_of_a_compact_net(tmp_path):
    supernet = gpt2(vocab_size=300)
    arch = supernet.space.architecture(n_embd=24, n_layer=2, n_head=[2, 4], mlp_ratio=[1, 2])
    net = extract(supernet, arch).eval()
    net.save_pretrained(tmp_path / "net")
    tokenizer = load_tokenizer(DataArguments(vocab_size=300), {"train": Dataset.from_dict({"text": [TEXT] * 9})})
    tokenizer.save_pretrained(tmp_path / "net")
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    metadata = {"file": str(tmp_path / "text.txt")}
    found = simple_evaluate(
        HFLM(pretrained=str(tmp_path / "net"), device="cpu", trust_remote_code=True),
        tasks=["local_text"],
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata),
        bootstrap_iters=0,
    )["results"]["local_text"]
    tokens = torch.tensor([[tokenizer.eos_token_id, *tokenizer(TEXT)["input_ids"]]])
    assert 1 < tokens.shape[1] <= net.config.n_positions
    with torch.no_grad():
        nats = net(input_ids=tokens, labels=tokens).loss.item() * (tokens.shape[1] - 1)
    bits = nats / math.log(2) / len(TEXT.encode())
    assert found["bits_per_byte,none"] == pytest.approx(bits, rel=1e-4)
    assert found["byte_perplexity,none"] == pytest.approx(2**bits, rel=1e-4)


def test_a_file_must_be_named(monkeypatch):
    monkeypatch.syspath_prepend(TASKS)
    from local_text import documents

    for file in (None, "nothing.txt"):
        with pytest.raises(ValueError, match="name a text file, as in --metadata file="):
            documents(file, pretrained="net")
