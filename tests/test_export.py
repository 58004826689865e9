"""Law 7: three forms, chosen by the table of the design, loaded in a process that cannot import the library."""

import json
import logging
import subprocess
import sys
import warnings
from functools import partial

import pytest
import torch
from models.families import FAMILIES, conv_macro, gpt2, llama, mobilenetv3
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import GenerationConfig, PreTrainedTokenizerFast, pipeline

from tangle_hf import SearchSpace, extract
from tangle_hf.models.generation import BEAMS, SAMPLING
from tangle_hf.models.loading import load_model, load_supernet
from tangle_hf.subnets.exports import export


LOADER = """
import sys, traceback
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tangle_hf":
            raise ImportError("tangle_hf is not installed here")
sys.meta_path.insert(0, Refuse())
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
def load(folder, form):
    assert len(AutoTokenizer.from_pretrained(folder, trust_remote_code=False)) == 10  # asks nothing, runs nothing
    remote = {"trust_remote_code": form == "compact"}
    model = AutoModelForCausalLM.from_pretrained(folder, **remote).eval()
    base = AutoModel.from_pretrained(folder, **remote).eval()
    with torch.no_grad():
        generated = model.generate(tokens, max_new_tokens=3, do_sample=False, pad_token_id=0)
        names = type(model).__name__, type(base).__name__
        return (*names, base(tokens).last_hidden_state, model(tokens).logits, generated)
tokens, found = torch.load("tokens.pt"), {}
for folder in sys.argv[1:]:
    try:
        found[folder] = load(folder, folder.split("-")[1])
    except Exception:
        found[folder] = traceback.format_exc()
torch.save(found, "found.pt")
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
SIZES = {"hidden_size": 18, "num_hidden_layers": 2, "intermediate_size": [20, 8]}
LLAMAS = [  # kind, architecture, forms
    ("Llama", SIZES | {"intermediate_size": 8, "num_key_value_heads": 2, "num_key_value_groups": 2}, ("stock",)),
    ("Qwen3", SIZES | {"num_key_value_heads": [1, 2], "num_key_value_groups": 2}, ("compact", "padded")),
]
TOKENS = torch.arange(8)[None]


def letters() -> PreTrainedTokenizerFast:
    """A tokenizer of ten tokens."""
    numbers = {letter: number for number, letter in enumerate(["<end>", *"abcdefgh "])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(numbers, "<end>")), eos_token="<end>", unk_token="<end>"
    )


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


ALONE = [(0, "stock"), (1, "compact"), (1, "padded"), (2, "compact")]
ALONE += [(kind, form) for kind, _, forms in LLAMAS for form in forms]
CLASSES = {  # of the model and of its body
    **{("gpt2", form): ("GPT2LMHeadModel", "GPT2Model") for form in ("stock", "padded")},
    ("gpt2", "compact"): ("TangleGPT2ForCausalLM", "TangleGPT2Model"),
    ("Llama", "stock"): ("MistralForCausalLM", "MistralModel"),  # 4 heads do not divide 18
    ("Qwen3", "padded"): ("Qwen3ForCausalLM", "Qwen3Model"),
    ("Qwen3", "compact"): ("TangleLlamaForCausalLM", "TangleLlamaModel"),
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """(case, form) -> the net as it was exported, and what one process for all of them has loaded, or how it failed."""
    torch.manual_seed(0)
    folder, subnets = tmp_path_factory.mktemp("alone"), {}
    of_kind = {kind: values for kind, values, _ in LLAMAS}
    for case, form in ALONE:
        if case in of_kind:
            supernet, values = llama(kind=case), of_kind[case]
        else:
            heads, values, _ = CASES[case]
            supernet = gpt2(heads)
        arch = supernet.space.architecture(**values)
        export(supernet, arch, folder / f"{case}-{form}", {"input_ids": TOKENS}, form, letters())
        subnets[case, form] = extract(supernet, arch, form)
    torch.save(TOKENS, folder / "tokens.pt")
    command = [sys.executable, "-c", LOADER, *(f"{case}-{form}" for case, form in ALONE)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = torch.load(folder / "found.pt")
    return {(case, form): (subnet, found[f"{case}-{form}"]) for (case, form), subnet in subnets.items()}


@pytest.mark.parametrize(("case", "form"), ALONE)
def test_files_load_and_generate_where_the_library_cannot_be_imported(case, form, loaded):
    subnet, found = loaded[case, form]
    assert not isinstance(found, str), found
    *names, hidden, logits, generated = found
    assert tuple(names) == CLASSES[case if isinstance(case, str) else "gpt2", form]
    with torch.no_grad():
        torch.testing.assert_close(hidden, subnet.base_model(TOKENS).last_hidden_state, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits, subnet(TOKENS).logits, rtol=1e-4, atol=1e-4)
    expected = subnet.generate(TOKENS, max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert torch.equal(generated, expected)


@pytest.mark.parametrize("values", [{"mlp_ratio": 1, "n_head": 2}, {"mlp_ratio": [1, 2], "n_head": 2}])
def test_an_export_generates_batches_without_a_warning(values, tmp_path, caplog, monkeypatch):
    supernet, tokenizer = gpt2(), letters()
    supernet.config.eos_token_id = supernet.generation_config.eos_token_id = 0
    supernet.generation_config.max_length = 16  # as supernets of older searches have it
    arch = supernet.space.architecture(n_embd=24, n_layer=2, **values)
    export(supernet, arch, tmp_path / "subnet", processor=tokenizer)
    assert tokenizer.pad_token is None  # the caller's own is left alone
    generate = pipeline("text-generation", str(tmp_path / "subnet"), device="cpu")
    assert generate.tokenizer.pad_token == "<end>" and generate.model.generation_config.pad_token_id == 0
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = generate(["a", "a b"], batch_size=2, max_new_tokens=3, do_sample=False)
        generate("a")  # the default length ends before the last position
    assert len(found) == 2 and not caplog.records


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        ({"temperature": 0.9, "top_p": 0.6, "max_length": 4096}, {}),
        ({"top_k": 20, "min_p": 0.1, "typical_p": 0.9, "epsilon_cutoff": 0.1, "eta_cutoff": 0.1, "top_h": 0.4}, {}),
        ({"length_penalty": 0.8, "early_stopping": True, "pad_token_id": -1, "output_scores": True}, {}),
        (
            {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "length_penalty": 0.8},
            {"temperature": 0.6, "top_p": 0.9},
        ),
        ({"num_beams": 2, "early_stopping": True, "top_k": 20}, {"num_beams": 2, "early_stopping": True}),
    ],
)
def test_a_net_of_a_checkpoint_that_says_how_to_sample_and_does_not_can_be_saved(stored, kept, tmp_path):
    """As repositories from before transformers checked it have them."""
    (tmp_path / "generation_config.json").write_text(json.dumps(stored))
    supernet = gpt2()
    supernet.generation_config = GenerationConfig.from_pretrained(tmp_path)
    supernet.generation_config.eos_token_id = 0
    extract(supernet, supernet.space.smallest).save_pretrained(tmp_path / "subnet")
    found = json.loads((tmp_path / "subnet" / "generation_config.json").read_text())
    assert found["pad_token_id"] == 0
    assert {name: found[name] for name in (SAMPLING + BEAMS + ("num_beams", "output_scores")) if name in found} == kept


def test_what_a_compact_net_cannot_do_is_refused_by_name():
    supernet = gpt2()
    subnet = extract(supernet, supernet.space.largest, "compact")
    with pytest.raises(ValueError, match="TangleGPT2ForCausalLM does not support .* flex_attention"):
        subnet.set_attn_implementation("flex_attention")
    for make in (conv_macro, mobilenetv3):
        supernet = make()
        net = extract(supernet, supernet.space.smallest)
        with pytest.raises(ValueError, match=f"{type(net).__name__} does not support activation checkpointing"):
            net.activation_checkpointing_enable()


def test_a_failed_export_leaves_nothing_under_the_name(tmp_path, monkeypatch):
    supernet = gpt2()
    monkeypatch.setattr("tangle_hf.subnets.exports.compare", lambda *a, **k: (float("nan"), 1.0))
    with pytest.raises(ValueError, match="differ"):
        export(supernet, supernet.space.smallest, tmp_path / "subnet", {"input_ids": torch.arange(4)[None]})
    assert not (tmp_path / "subnet").exists()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_checkpoint_in_half_precision_is_loaded_in_float32(family, dtype, tmp_path):
    """Searched in half precision, steps are lost to rounding; transformers loads a checkpoint in its own type."""
    supernet = family.supernet().to(dtype)
    supernet.save_pretrained(tmp_path)
    for loaded in (type(supernet).from_pretrained(tmp_path, space=supernet.space), load_supernet(tmp_path)):
        assert {value.dtype for value in loaded.state_dict().values() if value.is_floating_point()} == {torch.float32}
        assert loaded.config.dtype == torch.float32
    assert type(supernet).from_pretrained(tmp_path, dtype=dtype).dtype == dtype  # who asks for it gets it


@pytest.mark.parametrize("make", [gpt2, partial(llama, head_dim=8)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_supernet_in_half_precision_is_exported_as_it_is_and_compared_in_float32(dtype, make, tmp_path):
    supernet = make().to(dtype)
    written = export(supernet, supernet.space.smallest, tmp_path / "subnet", {"input_ids": torch.arange(10)[None]})
    assert written.difference < 1e-5 * written.scale and supernet.dtype == dtype
    subnet = extract(supernet, supernet.space.smallest)
    with torch.no_grad():
        assert torch.equal(subnet(TOKENS).logits, supernet(TOKENS, arch=supernet.space.smallest).logits)
    stored = load_file(tmp_path / "subnet" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {dtype}
    assert load_model(tmp_path / "subnet").dtype == torch.float32  # as ONNX and `recalibrate` need it


def test_unknown_forms_and_foreign_architectures_are_refused():
    supernet = gpt2()
    with pytest.raises(ValueError, match="gguf"):
        extract(supernet, supernet.space.smallest, "gguf")
    with pytest.raises(ValueError, match="n_embd=64"):
        extract(supernet, supernet.space.smallest.replace(n_embd=64))
    assert SearchSpace(n_embd=[16, 64]).size == 2
