"""Law 7: three forms, chosen by the table of the design, loaded in a process that cannot import the library."""

import subprocess
import sys

import pytest
import torch
from models.families import gpt2

from tangle_hf import SearchSpace, extract
from tangle_hf.subnets.exports import export


LOADER = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tangle_hf":
            raise ImportError("tangle_hf is not installed here")
sys.meta_path.insert(0, Refuse())
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=sys.argv[2] == "compact").eval()
tokens = torch.load(sys.argv[3])
with torch.no_grad():
    torch.save((type(model).__name__, model(tokens).logits, model.generate(tokens, max_new_tokens=3, do_sample=False,
                pad_token_id=0)), sys.argv[4])
"""

CASES = [
    # heads, architecture, forms that exist, the natural one first
    ("split", {"n_embd": 24, "n_layer": 2, "n_head": 2, "mlp_ratio": 1.5}, ["stock", "compact", "padded"]),
    ("split", {"n_embd": 24, "n_layer": 2, "n_head": 2, "mlp_ratio": [1, 2]}, ["compact", "padded"]),
    ("split", {"n_embd": 24, "n_layer": 2, "n_head": [2, 4], "mlp_ratio": 1}, ["compact"]),
    ("fixed", {"n_embd": 32, "n_layer": 2, "n_head": [1, 2], "mlp_ratio": [1, 2]}, ["compact", "padded"]),
    ("fixed", {"n_embd": 16, "n_layer": 1, "n_head": 1, "mlp_ratio": 2}, ["stock", "compact", "padded"]),
    ("fixed", {"n_embd": 16, "n_layer": 1, "n_head": 2, "mlp_ratio": 2}, ["compact"]),
]


@pytest.mark.parametrize(("heads", "values", "forms"), CASES)
def test_every_form_is_exact_and_the_others_are_refused(heads, values, forms, tmp_path):
    supernet = gpt2(heads)
    arch = supernet.space.architecture(**values)
    inputs = {"input_ids": torch.arange(10)[None]}
    assert export(supernet, arch, tmp_path / "auto", inputs).form == forms[0]
    for form in ("stock", "compact", "padded"):
        if form not in forms:
            with pytest.raises(ValueError, match=f"no {form} form"):
                extract(supernet, arch, form)
            continue
        written = export(supernet, arch, tmp_path / form, inputs, form)
        assert written.difference < 1e-5 * written.scale
        assert (written.folder / "modeling_tangle_gpt2.py").exists() == (form == "compact")
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize(("case", "form"), [(0, "stock"), (1, "compact"), (1, "padded"), (2, "compact")])
def test_files_load_and_generate_where_the_library_cannot_be_imported(case, form, tmp_path):
    heads, values, _ = CASES[case]
    supernet = gpt2(heads)
    arch, tokens = supernet.space.architecture(**values), torch.arange(8)[None]
    export(supernet, arch, tmp_path / "subnet", {"input_ids": tokens}, form)
    torch.save(tokens, tmp_path / "tokens.pt")
    arguments = [str(tmp_path / "subnet"), form, str(tmp_path / "tokens.pt"), str(tmp_path / "out.pt")]
    done = subprocess.run([sys.executable, "-c", LOADER, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, logits, generated = torch.load(tmp_path / "out.pt")
    assert name == ("TangleGPT2ForCausalLM" if form == "compact" else "GPT2LMHeadModel")
    subnet = extract(supernet, arch, form)
    with torch.no_grad():
        torch.testing.assert_close(logits, subnet(tokens).logits, rtol=1e-4, atol=1e-4)
    expected = subnet.generate(tokens, max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert torch.equal(generated, expected)


def test_a_failed_export_leaves_nothing_under_the_name(tmp_path, monkeypatch):
    supernet = gpt2()
    monkeypatch.setattr("tangle_hf.subnets.exports.compare", lambda *a, **k: (float("nan"), 1.0))
    with pytest.raises(ValueError, match="differ"):
        export(supernet, supernet.space.smallest, tmp_path / "subnet", {"input_ids": torch.arange(4)[None]})
    assert not (tmp_path / "subnet").exists()


def test_unknown_forms_and_foreign_architectures_are_refused():
    supernet = gpt2()
    with pytest.raises(ValueError, match="gguf"):
        extract(supernet, supernet.space.smallest, "gguf")
    with pytest.raises(ValueError, match="n_embd=64"):
        extract(supernet, supernet.space.smallest.replace(n_embd=64))
    assert SearchSpace(n_embd=[16, 64]).size == 2
