"""Llama, Mistral, Qwen2 and Qwen3: what the laws of all families do not reach, and what of the four differs."""

import os
import random

import oracle
import pytest
import torch
from families import TOKENS, llama, randomised
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import tangle_hf
from tangle_hf import ArchParameters, PerLayer, SearchSpace, extract, flops, num_params, one_hot, sampler
from tangle_hf.models.loading import load_supernet


KINDS = {
    "Llama": (LlamaConfig, LlamaForCausalLM),
    "Mistral": (MistralConfig, MistralForCausalLM),
    "Qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "Qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
EVERY = pytest.mark.parametrize("kind", KINDS)
DIMENSIONS = ("hidden_size", "num_key_value_heads", "num_key_value_groups", "intermediate_size")
FUZZED_SPACES = int(os.environ.get("FUZZED_SPACES", "4"))
ROPES = (
    None,
    {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "rope_theta": 1e4},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
        "rope_theta": 5e5,
    },
)


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def mixed(space, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        n: rows.detach() for n, rows in ArchParameters(space).double().sample(sampler("drnas"), 0.0, generator).items()
    }


def literal_logits(supernet, tokens, mixture):
    stem, choices = supernet.model, supernet.space.choices
    x, total = stem.embed_tokens.weight[tokens], 0
    shares = dict(zip(choices["num_hidden_layers"], mixture["num_hidden_layers"][0], strict=True))
    for layer, block in enumerate(stem.layers):
        rows = [mixture[name][min(layer, len(mixture[name]) - 1)] for name in DIMENSIONS]
        x = oracle.llama_block(block, x, *rows, [choices[name] for name in DIMENSIONS], 10_000.0)
        total = total + shares.get(layer + 1, 0) * x
    norm, embed = stem.norm, mixture["hidden_size"][0]
    return oracle.rms_norm(total, norm.weight, embed, choices["hidden_size"], norm.variance_epsilon) @ (
        supernet.lm_head.weight.T
    )


@EVERY
def test_law_2_a_whole_net_is_the_literal_sum_over_slices(kind):
    supernet = llama(kind=kind, tie_word_embeddings=kind == "Qwen2").double()
    for seed in range(2):
        mixture = mixed(supernet.space, seed)
        with torch.no_grad():
            found, expected = supernet(TOKENS, mixture=mixture).logits, literal_logits(supernet, TOKENS, mixture)
        # Rotary positions and the norms of q and k are in float32 in transformers.
        assert relative(found, expected) < 1e-6


def test_gradients_of_the_logits_reach_every_share():
    supernet, tokens = llama().double().requires_grad_(False), TOKENS[:, :5]
    mixture = mixed(supernet.space)
    rows = [mixture[name].requires_grad_() for name in mixture]
    weights = torch.randn(*tokens.shape, 50, dtype=torch.float64)

    def value(*shares):
        return (supernet(tokens, mixture=dict(zip(mixture, shares, strict=True))).logits * weights).mean()

    assert torch.autograd.gradcheck(value, rows)
    assert all(gradient.abs().min() > 0 for gradient in torch.autograd.grad(value(*rows), rows))


def odd_space(rng, divisible):
    """A space with up to three choices a dimension; with `divisible` the largest net is one that a Llama's config takes."""

    def some(values):
        return sorted(rng.sample(values, rng.randint(1, 3)))

    def maybe_per_layer(values):
        return PerLayer(values) if rng.random() < 0.6 else values

    groups, per_group, widths = some([1, 2, 3, 4]), some([1, 2, 3]), some([2, 5, 12, 24, 30, 36, 48])
    if divisible:
        largest = groups[-1] * per_group[-1] * rng.randint(1, 4)
        widths = sorted({largest} | {width for width in widths if width < largest})
    return SearchSpace(
        hidden_size=widths,
        num_hidden_layers=some([1, 2, 3]),
        intermediate_size=maybe_per_layer(some([1, 3, 7, 16, 20, 31])),
        num_key_value_heads=maybe_per_layer(groups),
        num_key_value_groups=maybe_per_layer(per_group),
    )


@pytest.mark.parametrize("number", range(FUZZED_SPACES))
def test_laws_1_and_8_and_all_forms_in_odd_spaces(number):
    rng, kind = random.Random(number), list(KINDS)[number % 4]
    options = {"tie_word_embeddings": rng.random() < 0.5, "rope_parameters": ROPES[rng.randrange(4)]}
    options |= {"attention_bias": rng.random() < 0.5} if kind in ("Llama", "Qwen3") else {}
    options |= {"mlp_bias": rng.random() < 0.5} if kind == "Llama" else {}
    space = odd_space(rng, divisible=kind == "Llama")
    supernet = llama(space=space, kind=kind, head_dim=rng.choice([2, 4, 6, 8]), **options)
    tokens = torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(number))
    for arch in [space.largest, space.smallest, *(space.sample(rng) for _ in range(3))]:
        subnet, reasons = extract(supernet, arch), supernet.subnet_forms(supernet.config, arch)
        assert reasons["compact"] is None
        with torch.no_grad():
            expected = subnet(tokens).logits
            for how in ({"mixture": one_hot(space, arch)}, {"arch": arch}):
                assert relative(supernet(tokens, **how).logits, expected) < 1e-4, arch
            for form in (form for form, reason in reasons.items() if reason is None):
                assert relative(extract(supernet, arch, form)(tokens).logits, expected) < 1e-5, (form, arch)
        assert num_params(space, arch, supernet.config) == sum(p.numel() for p in subnet.parameters())
        bare = num_params(space, arch, supernet.config, embeddings=False)
        assert bare == subnet.num_parameters(exclude_embeddings=True)
        subnet.set_attn_implementation("eager")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            subnet(tokens)
        assert flops(space, arch, supernet.config, batch_size=2, sequence_length=9) == counter.get_total_flops()


@EVERY
def test_law_3_a_stock_checkpoint_becomes_a_supernet_and_is_one_again(kind, tmp_path):
    config_class, model_class = KINDS[kind]
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    own = {"sliding_window": None} if kind == "Mistral" else {"head_dim": 6} if kind == "Qwen3" else {}
    stock = model_class(config_class(vocab_size=50, intermediate_size=20, max_position_embeddings=16, **sizes, **own))
    stock.eval().save_pretrained(tmp_path / "stock")
    supernet_class = getattr(tangle_hf, f"Elastic{kind}ForCausalLM")
    space = SearchSpace(
        hidden_size=[12, 32],
        num_hidden_layers=[1, 3],
        intermediate_size=PerLayer([8, 20]),
        num_key_value_heads=PerLayer([1, 2]),
        num_key_value_groups=PerLayer([1, 2]),
    )
    supernet = supernet_class.from_pretrained(tmp_path / "stock", space=space).eval()
    expected = stock(TOKENS).logits
    assert torch.equal(supernet(TOKENS).logits, expected)
    assert relative(supernet(TOKENS, mixture=one_hot(space, space.largest)).logits, expected) < 1e-5
    supernet.save_pretrained(tmp_path / "supernet")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "supernet")
    assert type(again) is model_class and torch.equal(again(TOKENS).logits, expected)
    assert load_supernet(tmp_path / "supernet").space == space
    alone = supernet_class.from_pretrained(tmp_path / "stock")
    assert alone.space.size == 1 and torch.equal(alone(TOKENS).logits, expected)
    for name, wrong in {
        "hidden_size": 64,
        "num_key_value_heads": 4,
        "intermediate_size": 24,
        "num_hidden_layers": 4,
    }.items():
        with pytest.raises(ValueError, match=f"{name}={wrong}.*checkpoint .*stock has"):
            supernet_class.from_pretrained(tmp_path / "stock", space=SearchSpace(**{name: [wrong]}))


LAYERS = {"hidden_size": 18, "num_hidden_layers": 2}
EQUAL = {"intermediate_size": 20, "num_key_value_heads": 2}
NO_STOCK = "4 query heads do not divide hidden_size=18, which a Llama's config refuses"


@pytest.mark.parametrize(
    ("kind", "options", "values", "found"),
    [
        # form -> its class, or why there is none
        (
            "Llama",
            {},
            {**EQUAL, "num_key_value_groups": 1},
            {"stock": "LlamaForCausalLM", "padded": "LlamaForCausalLM"},
        ),
        (
            "Llama",
            {},
            {**EQUAL, "num_key_value_groups": 2},
            {"stock": "MistralForCausalLM", "padded": "MistralForCausalLM"},
        ),
        ("Llama", {"mlp_bias": True}, {**EQUAL, "num_key_value_groups": 2}, {"stock": NO_STOCK, "padded": NO_STOCK}),
        ("Llama", {"attention_bias": True}, {**EQUAL, "num_key_value_groups": 1}, {"stock": "LlamaForCausalLM"}),
        (
            "Llama",
            {},
            {"intermediate_size": [8, 20], "num_key_value_heads": [2, 1], "num_key_value_groups": 1},
            {"stock": r"layers differ \(query heads \[2, 1\], num_key_value_heads", "padded": "LlamaForCausalLM"},
        ),
        ("Mistral", {}, {**EQUAL, "num_key_value_groups": 2}, {"stock": "MistralForCausalLM"}),
        ("Qwen2", {}, {**EQUAL, "num_key_value_groups": 2}, {"stock": "Qwen2ForCausalLM"}),
        (
            "Qwen3",
            {},
            {"intermediate_size": 20, "num_key_value_heads": [1, 2], "num_key_value_groups": 2},
            {"stock": "layers differ", "padded": "Qwen3ForCausalLM"},
        ),
    ],
)
def test_forms_and_their_classes(kind, options, values, found, tmp_path):
    supernet = llama(kind=kind, **options)
    arch = supernet.space.architecture(**LAYERS, **values)
    with torch.no_grad():
        expected = supernet(TOKENS, arch=arch).logits
    for form, name in {**found, "compact": "TangleLlamaForCausalLM"}.items():
        if not name.endswith("ForCausalLM"):
            with pytest.raises(ValueError, match=f"no {form} form: .*{name}"):
                extract(supernet, arch, form)
            continue
        extract(supernet, arch, form).save_pretrained(tmp_path / form)
        again = AutoModelForCausalLM.from_pretrained(tmp_path / form)
        assert type(again).__name__ == name and getattr(again.config, "sliding_window", None) is None
        exact = form != "padded"  # its products are longer by zeros
        with torch.no_grad():
            assert relative(again(TOKENS).logits, expected) <= (0 if exact else 1e-5)
        if kind.startswith("Qwen") and form != "compact":
            assert again.config.layer_types == ["full_attention"] * 2 and again.config.max_window_layers == 2


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("Llama", {"superposition": "weights"}, "superposition='weights' is not available for LlamaForCausalLM"),
        (
            "Llama",
            {"num_attention_heads": 5, "num_key_value_heads": 2},
            "num_attention_heads=5 is no multiple of num_key_v",
        ),
        (
            "Llama",
            {"space": SearchSpace(num_key_value_heads=[3])},
            "hidden_size=32 is not divisible by 6 .*ElasticMistral",
        ),
        (
            "Qwen3",
            {"space": SearchSpace(num_key_value_heads=[3]), "head_dim": None},
            "give the width of a head as head_dim",
        ),
        ("Qwen2", {"head_dim": 5}, "head_dim=5 must be even"),
        (
            "Mistral",
            {"space": SearchSpace(intermediate_size=[8.5])},
            r"intermediate_size must be whole numbers, got \(8.5,\)",
        ),
        (
            "Mistral",
            {"space": SearchSpace(mlp_ratio=[2])},
            r"\['mlp_ratio'\] cannot be searched in Mistral; its dimensions",
        ),
        (
            "Llama",
            {"space": SearchSpace(hidden_size=PerLayer([16, 32]), num_hidden_layers=[1, 2])},
            "hidden_size and num_hidden_layers are one choice for the whole net; only intermediate_size and",
        ),
        (
            "Qwen3",
            {"layer_types": ["full_attention", "chunked_attention"]},
            "layer_types .*'chunked_attention'.*full attent",
        ),
        (
            "Llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "rotary positions of the kind 'dynamic' are not supported .*'yarn'",
        ),
    ],
)
def test_a_space_or_config_that_cannot_be_is_refused_in_one_line(kind, options, message):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 20, "num_attention_heads": 4}
    config = getattr(tangle_hf, f"Elastic{kind}Config")
    with pytest.raises(ValueError, match=message) as error:
        config(**{"vocab_size": 50, "max_position_embeddings": 16, "num_key_value_heads": 2, **sizes, **options})
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_class_than_its_config_says_is_refused(tmp_path):
    for kind in ("Qwen2", "Llama"):
        llama(kind=kind).save_pretrained(tmp_path / kind)
    with pytest.raises(ValueError, match="is a qwen2; a ElasticLlamaForCausalLM starts from a llama"):
        tangle_hf.ElasticLlamaForCausalLM.from_pretrained(tmp_path / "Qwen2")
    config = (tmp_path / "Llama" / "config.json").read_text()
    (tmp_path / "Qwen2" / "config.json").write_text(config)
    with pytest.raises(
        ValueError, match=r"Qwen2 holds 6 weights of layers that a LlamaForCausalLM has no place for \(model"
    ):
        tangle_hf.ElasticLlamaForCausalLM.from_pretrained(tmp_path / "Qwen2")
    (tmp_path / "Llama" / "config.json").write_text(
        config.replace('"llama"', '"qwen2"').replace("LlamaFor", "Qwen2For")
    )
    with pytest.raises(ValueError, match="Llama lacks 6 of the weights of a ElasticQwen2ForCausalLM"):
        tangle_hf.ElasticQwen2ForCausalLM.from_pretrained(tmp_path / "Llama")


@pytest.mark.parametrize(
    ("kind", "window"),
    [
        ("Mistral", {"sliding_window": 12}),
        ("Qwen2", {"sliding_window": 12, "use_sliding_window": True, "max_window_layers": 1, "head_dim": 8}),
        ("Qwen3", {"sliding_window": 12, "use_sliding_window": True, "max_window_layers": 1, "head_dim": 8}),
    ],
)
def test_a_sliding_window_that_never_cuts_is_kept_and_one_that_would_is_refused(kind, window, tmp_path):
    (config_class, model_class), longer = KINDS[kind], torch.arange(15)[None]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    stock = model_class(
        config_class(vocab_size=50, intermediate_size=20, max_position_embeddings=64, **sizes, **window)
    )
    randomised(stock).save_pretrained(tmp_path)
    space = SearchSpace(hidden_size=[16, 32], num_hidden_layers=[1, 2], intermediate_size=PerLayer([8, 20]))
    supernet = getattr(tangle_hf, f"Elastic{kind}ForCausalLM").from_pretrained(tmp_path, space=space).eval()
    assert supernet.config.sliding_window == TOKENS.shape[1] == 12
    space, heads = supernet.space, {"num_key_value_heads": 2, "num_key_value_groups": 2}
    equal = space.architecture(hidden_size=16, num_hidden_layers=2, intermediate_size=8, **heads)
    unequal = space.architecture(hidden_size=32, num_hidden_layers=2, intermediate_size=[8, 20], **heads)
    with torch.no_grad():
        assert torch.equal(
            supernet(longer).logits, stock(longer).logits
        )  # without a mixture it is stock, window and all
        for arch, net in ((space.largest, stock), *((a, extract(supernet, a)) for a in (equal, unequal))):
            expected = net(TOKENS).logits
            assert relative(supernet(TOKENS, mixture=one_hot(space, arch)).logits, expected) < 1e-5
            assert relative(supernet(TOKENS, arch=arch).logits, expected) < 1e-5
    assert extract(supernet, equal).config.sliding_window == 12
    assert extract(supernet, unequal).config.max_position_embeddings == 12  # the compact class has no window
    for how in ({"arch": equal}, {"mixture": one_hot(space, equal)}):
        with pytest.raises(
            ValueError, match="^15 tokens are more than sliding_window=12, .*load it with .*=None"
        ) as error:
            supernet(longer, **how)
        assert "\n" not in str(error.value)
    without = {"sliding_window": None} if kind == "Mistral" else {"use_sliding_window": False, "layer_types": None}
    supernet = type(supernet).from_pretrained(tmp_path, space=space, **without)
    supernet(longer, arch=unequal)
