"""Law 2 for whole GPT-2 blocks, padding masks, bad mixtures, precision and checkpointing."""

import oracle
import pytest
import torch
from families import gpt2

from tangle_hf import ArchParameters, ElasticGPT2Config, PerLayer, SearchSpace, extract, one_hot, sampler
from tangle_hf.models.gpt2.superposed_gpt2 import superposed_block
from tangle_hf.models.superposed import block_masks


@pytest.mark.parametrize("superposition", ["inputs", "weights"])
def test_law_2_a_block_is_the_literal_sum_over_slices(superposition):
    space = SearchSpace(n_embd=[16, 24, 32], n_layer=[1, 2], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2]))
    supernet = gpt2("split", superposition, space).double()
    mixture = ArchParameters(space).double().sample(sampler("drnas"), generator=torch.Generator().manual_seed(3))
    embed, heads, ratio = mixture["n_embd"][0], mixture["n_head"][1], mixture["mlp_ratio"][1]
    x = torch.randn(2, 6, 32, dtype=torch.float64)
    masks = block_masks(
        supernet._membership(), embed, mixture["n_head"], mixture["mlp_ratio"], 2, superposition == "weights"
    )
    block = supernet.transformer.h[1]
    found = superposed_block(block, x, None, masks[1], supernet.config)
    literal = oracle.block_inputs_form if superposition == "inputs" else oracle.block_weights_form
    expected = literal(block, x, embed, heads, ratio, [16, 24, 32], [2, 4], [1, 2])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("heads", ["split", "fixed"])
def test_padding_is_ignored_as_in_the_extracted_model(heads):
    supernet = gpt2(heads)
    arch, tokens = supernet.space.smallest, torch.arange(10)[None] % 50
    mask = torch.tensor([[1] * 7 + [0] * 3])
    with torch.no_grad():
        expected = extract(supernet, arch)(input_ids=tokens, attention_mask=mask).logits[:, :7]
        mixture = one_hot(supernet.space, arch)
        found = supernet(input_ids=tokens, attention_mask=mask, mixture=mixture).logits[:, :7]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("superposition", ["inputs", "weights"])
def test_activation_checkpointing_and_bf16_give_the_same_gradients(superposition):
    supernet = gpt2("split", superposition).train()
    for module in supernet.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    tokens = torch.arange(12)[None]
    logits = ArchParameters(supernet.space)

    def gradients():
        supernet.zero_grad()
        supernet(input_ids=tokens, labels=tokens, mixture=logits.sample(sampler("darts"))).loss.backward()
        return torch.cat([p.grad.flatten() for p in supernet.parameters()])

    plain = gradients()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.nn.functional.cosine_similarity(gradients(), plain, 0) > 0.99
    supernet.activation_checkpointing_enable()
    torch.testing.assert_close(gradients(), plain)


def test_a_mixture_of_another_space_is_refused():
    supernet = gpt2()
    mixture = one_hot(supernet.space, supernet.space.largest)
    with pytest.raises(ValueError, match="this space needs"):
        supernet(input_ids=torch.arange(4)[None], mixture={**mixture, "n_embd": mixture["n_embd"][:, :1]})
    with pytest.raises(ValueError, match="inputs_embeds"):
        supernet(inputs_embeds=torch.zeros(1, 4, 32), mixture=mixture)
    with pytest.raises(ValueError, match="not both"):
        supernet(input_ids=torch.arange(4)[None], mixture=mixture, arch=supernet.space.largest)


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ({"n_embd": [32, 50], "n_head": [4]}, {}, "n_embd=50 is not divisible by n_head=4"),
        ({"n_embd": [32], "n_head": [2], "mlp_ratio": [1.3]}, {}, "mlp_ratio=1.3 of n_embd=32"),
        ({"n_embd": [32], "n_head": [2]}, {"head_dim": 8}, "must be the largest n_embd"),
        ({"n_embd": [32], "n_head": [2], "width": [3]}, {}, "width"),
        ({"n_embd": [32], "n_head": [2]}, {"superposition": "outputs"}, "outputs"),
    ],
)
def test_a_space_that_cannot_be_is_refused(space, options, message):
    with pytest.raises(ValueError, match=message):
        ElasticGPT2Config(space=SearchSpace(n_layer=[1, 2], **space), **options)
