"""Law 7 with the library installed: every form reloads by its plain or Auto class, and extracted weights are copies."""

import pytest
import torch
from models.families import FAMILIES, gpt2
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GPT2LMHeadModel

from tangle_hf import TangleGPT2Config, TangleGPT2ForCausalLM, TangleGPT2Model, extract, num_params
from tangle_hf.subnets.extraction import new_subnet


TOKENS = torch.arange(20).view(2, 10)
UNEQUAL_MLP = {"n_embd": 24, "n_layer": 2, "n_head": 2, "mlp_ratio": [1, 2]}
UNEQUAL_HEADS = {"n_embd": 24, "n_layer": 2, "n_head": [2, 4], "mlp_ratio": [1.5, 2]}
EQUAL = {"n_embd": 24, "n_layer": 1, "n_head": 4, "mlp_ratio": 1.5}


def logits(model, **arguments):
    with torch.no_grad():
        return model.eval()(TOKENS, **arguments).logits


@pytest.mark.parametrize("size", [37, 64])
def test_a_vocabulary_of_another_size_is_extracted(size):
    supernet = gpt2()
    arch = supernet.space.architecture(**EQUAL)
    logits(supernet, arch=arch)  # a path through the old vocabulary must not stay
    supernet.resize_token_embeddings(size, mean_resizing=False)
    subnet = extract(supernet, arch)
    assert subnet.config.vocab_size == size and torch.equal(
        subnet.transformer.wte.weight, supernet.transformer.wte.weight[:, :24]
    )
    assert torch.allclose(logits(subnet), logits(supernet, arch=arch), rtol=1e-5, atol=1e-5)
    assert logits(subnet).shape[-1] == size
    assert num_params(supernet.space, arch, supernet.config) == subnet.num_parameters()


@pytest.mark.parametrize(
    ("heads", "values", "form"),
    [
        ("split", EQUAL, "stock"),
        ("split", UNEQUAL_MLP, "padded"),
        ("split", UNEQUAL_MLP, "compact"),
        ("split", UNEQUAL_HEADS, "compact"),
        ("fixed", {"n_embd": 32, "n_layer": 2, "n_head": [1, 2], "mlp_ratio": [1, 2]}, "padded"),
        ("fixed", {"n_embd": 16, "n_layer": 2, "n_head": [2, 1], "mlp_ratio": [1, 2]}, "compact"),
    ],
)
def test_a_saved_form_reloads_to_the_same_logits(heads, values, form, tmp_path):
    supernet = gpt2(heads)
    arch = supernet.space.architecture(**values)
    subnet = extract(supernet, arch, form)
    expected = logits(supernet, arch=arch)
    torch.testing.assert_close(logits(subnet), expected, rtol=1e-5, atol=1e-5)
    subnet.save_pretrained(tmp_path)
    own = TangleGPT2ForCausalLM if form == "compact" else GPT2LMHeadModel
    for loader in (own, AutoModelForCausalLM):  # no remote code: importing tangle_hf registers the compact class
        again = loader.from_pretrained(tmp_path)
        assert type(again) is own
        assert torch.equal(logits(again), logits(subnet))


def test_importing_the_library_registers_the_compact_classes(tmp_path):
    supernet = gpt2()
    subnet = extract(supernet, supernet.space.architecture(**UNEQUAL_HEADS))
    subnet.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is TangleGPT2Config
    stem = AutoModel.from_pretrained(tmp_path).eval()
    assert type(stem) is TangleGPT2Model
    with torch.no_grad():
        assert torch.equal(stem(TOKENS).last_hidden_state, subnet.transformer(TOKENS).last_hidden_state)


@pytest.mark.parametrize(("values", "form"), [(EQUAL, "stock"), (UNEQUAL_MLP, "compact"), (UNEQUAL_MLP, "padded")])
def test_the_weights_are_copies(values, form):
    supernet = gpt2()
    arch = supernet.space.architecture(**values)
    before = logits(supernet)
    subnet = extract(supernet, arch, form)
    with torch.no_grad():
        for parameter in subnet.parameters():
            parameter.zero_()
    assert torch.equal(logits(supernet), before)


@pytest.mark.parametrize("values", [EQUAL, UNEQUAL_MLP])
def test_type_and_training_mode_are_as_documented(values):
    supernet = gpt2().double().train()
    subnet = extract(supernet, supernet.space.architecture(**values))
    assert not subnet.training and supernet.training and subnet.dtype == torch.float64
    assert all(p.requires_grad for p in subnet.parameters())


@pytest.mark.parametrize("values", [EQUAL, UNEQUAL_MLP])
def test_a_subnet_generates_with_a_cache_as_without(values):
    supernet = gpt2()
    subnet = extract(supernet, supernet.space.architecture(**values))
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    cached = subnet.generate(TOKENS, use_cache=True, **options)
    assert torch.equal(cached, subnet.generate(TOKENS, use_cache=False, **options))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_new_weights_are_drawn_alike_whether_or_not_the_code_travels(family, monkeypatch):
    """transformers leaves modules of custom code out of the initialisation if they have no parameters of their own."""
    supernet = family.supernet()
    arch = supernet.space.largest
    torch.manual_seed(0)
    custom = new_subnet(supernet, arch, "compact")
    assert custom.is_remote_code()
    monkeypatch.setattr(type(custom), "_auto_class", None)
    for module in custom.children():
        monkeypatch.setattr(type(module), "_auto_class", None, raising=False)
    library = new_subnet(supernet, arch, "compact")
    nets = {"custom": custom, "library": library}
    if family.stock.__module__.startswith("transformers"):
        nets["stock"] = new_subnet(supernet, arch, "stock")
        assert type(nets["stock"]) is family.stock
    for name, tensor in custom.named_parameters():
        deviation = {kind: net.get_parameter(name).std().item() for kind, net in nets.items() if tensor.numel() > 1}
        for value in deviation.values():
            tolerance = 4 * (2 * tensor.numel()) ** -0.5  # of the deviation of so many draws
            assert value == pytest.approx(deviation["custom"], rel=2 * tolerance, abs=1e-9), (name, deviation)
