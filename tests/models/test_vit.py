"""What is particular to ViT: key renaming, heads of any width, slices by hand, variants, the paper's spaces and optima."""

import random

import oracle
import pytest
import torch
from families import images, vit
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTConfig, ViTForImageClassification

from tangle_hf import (
    ElasticGPT2Config,
    ElasticViTConfig,
    ElasticViTForImageClassification,
    PerLayer,
    SearchSpace,
    extract,
    flops,
    num_params,
)
from tangle_hf.models.vit.spaces_vit import AUTOFORMER_B, AUTOFORMER_HEAD_DIM, AUTOFORMER_S, AUTOFORMER_T


SPACE = SearchSpace(
    hidden_size=[16, 32], num_hidden_layers=[1, 2], num_attention_heads=PerLayer([2, 4]), mlp_ratio=PerLayer([2, 4])
)


def stock(**options):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    return ViTForImageClassification(ViTConfig(**{**sizes, "image_size": 8, "patch_size": 4, **options})).eval()


def logits(model, pixel_values=None, **arguments):
    with torch.no_grad():
        return model.eval()(images() if pixel_values is None else pixel_values, **arguments).logits


@pytest.mark.parametrize("head_dim", [None, 8, 12])
def test_law_3_a_stock_checkpoint_becomes_a_supernet(head_dim, tmp_path):
    model = stock(num_labels=5, **({} if head_dim is None else {"head_dim": head_dim}))
    model.save_pretrained(tmp_path)
    supernet, loading = ElasticViTForImageClassification.from_pretrained(
        tmp_path, space=SPACE, output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"]  # files have ViT's old names
    assert supernet.config.head_dim == head_dim and supernet.space == SPACE
    assert torch.equal(logits(supernet), logits(model))
    assert ElasticViTForImageClassification.from_pretrained(tmp_path).space.size == 1


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ({"hidden_size": [32, 64]}, {}, "hidden_size=64.*checkpoint"),
        ({"num_attention_heads": [4, 8]}, {}, "num_attention_heads=8.*checkpoint"),
        ({"mlp_ratio": [2]}, {}, "intermediate_size=64.*checkpoint"),
        ({}, {"head_dim": 12}, "head_dim=12.*checkpoint"),
    ],
)
def test_a_space_that_is_not_the_checkpoints_is_refused(space, options, message, tmp_path):
    stock().save_pretrained(tmp_path)
    space = SearchSpace(**{"hidden_size": [32], **space})
    with pytest.raises(ValueError, match=message):
        ElasticViTForImageClassification.from_pretrained(tmp_path, space=space, **options)


def test_a_hidden_size_that_is_given_is_that_of_the_widest_net():
    """And not a ratio to the default width, which the space does not have."""
    widths, heads = [48, 96], [2, 4]
    space = SearchSpace(hidden_size=widths, num_attention_heads=heads)
    assert ElasticViTConfig(space=space, intermediate_size=192).intermediate_size == 192
    assert ElasticViTConfig(space=space).intermediate_size == 4 * 96
    assert ElasticViTConfig(intermediate_size=192, hidden_size=48, num_attention_heads=4).intermediate_size == 192
    space = SearchSpace(n_embd=widths, n_head=heads)
    assert ElasticGPT2Config(space=space, n_inner=192).n_inner == 192
    assert ElasticGPT2Config(space=space).n_inner == 4 * 96


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"n_embd": PerLayer([48, 96]), "n_layer": [1, 2]}, "n_embd and n_layer are one choice for the whole net"),
        ({"mlp_ratio": ["wide"]}, "mlp_ratio must be numbers"),
    ],
)
def test_a_dimension_of_the_wrong_kind_is_refused_in_one_line(space, message):
    with pytest.raises(ValueError, match=message):
        ElasticGPT2Config(space=SearchSpace(**space))


def test_a_checkpoint_gets_a_new_classifier(tmp_path):
    stock(num_labels=5).save_pretrained(tmp_path)
    supernet = ElasticViTForImageClassification.from_pretrained(
        tmp_path, space=SPACE, num_labels=3, ignore_mismatched_sizes=True
    )
    assert logits(supernet).shape == (2, 3) and len(supernet.config.id2label) == 3


def test_head_dim_none_stays_none_and_stock_files_do_not_have_it():
    supernet = vit("split")
    assert supernet.config.head_dim is None and "head_dim" not in supernet.config.to_dict()
    assert vit("fixed").config.to_dict()["head_dim"] == 12


@pytest.mark.parametrize("heads", ["split", "fixed"])
def test_law_5_slices_by_hand(heads):
    """Extracted weights against index lists written out here, without the axis table."""
    supernet, rng = vit(heads), random.Random(0)
    full = supernet.state_dict()
    for arch in [supernet.space.sample(rng) for _ in range(6)]:
        subnet = extract(supernet, arch, "compact").state_dict()
        e, expected = arch.hidden_size, {}
        for name, tensor in full.items():
            if name.startswith("vit.layers."):
                layer = int(name.split(".")[2])
                if layer >= arch.num_hidden_layers:
                    continue
                h, inner = arch.num_attention_heads[layer], round(e * arch.mlp_ratio[layer])
                units = torch.arange(h * 12) if heads == "fixed" else oracle.head_rows(e, (2, 4), 32)
                rows = units if name.split(".")[4] in ("q_proj", "k_proj", "v_proj") else torch.arange(e)
                rows = torch.arange(inner) if "fc1" in name else rows
                columns = units if "o_proj" in name else torch.arange(inner) if "fc2" in name else torch.arange(e)
                expected[name] = tensor[rows] if tensor.ndim == 1 else tensor[rows][:, columns]
            elif "patch_embeddings" in name:
                expected[name] = tensor[:e]
            else:
                expected[name] = tensor if name == "classifier.bias" else tensor[..., :e]
        assert expected.keys() == subnet.keys()
        assert all(torch.equal(subnet[name], expected[name]) for name in expected), arch


@pytest.mark.parametrize(
    "options",
    [
        {"qkv_bias": False},
        {"num_labels": 0},
        {"hidden_act": "relu", "layer_norm_eps": 0.1},
        {"head_dim": 5},
        {"image_size": [8, 12], "patch_size": [4, 2], "num_channels": 1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_laws_with_other_settings(options):
    supernet = vit("split", space=SPACE, **options)
    space, config = supernet.space, supernet.config
    height, width = options.get("image_size", (8, 8))
    pixels = torch.randn(2, config.num_channels, height, width)
    for arch in [space.smallest, space.largest, space.sample(random.Random(2))]:
        for form in ("auto", "compact", "padded"):
            if supernet.subnet_forms(config, arch).get(form) is not None:
                continue
            subnet = extract(supernet, arch, form)
            subnet.set_attn_implementation("eager")
            call = subnet.vit if config.num_labels == 0 else subnet
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                call(pixels)
            if form != "padded":
                assert num_params(space, arch, config) == sum(p.numel() for p in subnet.parameters())
                assert flops(space, arch, config, batch_size=2) == counter.get_total_flops()
            torch.testing.assert_close(logits(supernet, pixels, arch=arch), logits(subnet, pixels))


def test_images_of_another_size_as_in_the_extracted_model():
    supernet = vit()
    arch, pixels = supernet.space.smallest, images(size=12)
    options = {"interpolate_pos_encoding": True}
    assert torch.equal(
        logits(supernet, pixels, arch=arch, **options), logits(extract(supernet, arch), pixels, **options)
    )
    assert flops(supernet.space, arch, supernet.config, sequence_length=10) > flops(
        supernet.space, arch, supernet.config
    )


def test_arguments_that_only_stock_takes_are_refused():
    supernet = vit()
    with pytest.raises(ValueError, match="attention_mask"):
        supernet(images(), attention_mask=torch.ones(2, 5), arch=supernet.space.largest)
    with pytest.raises(ValueError, match="not both"):
        supernet(images(), mixture={}, arch=supernet.space.largest)
    with pytest.raises(ValueError, match="this space needs"):
        supernet(images(), mixture={})


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ({"hidden_size": [32, 50], "num_attention_heads": [4]}, {}, "hidden_size=50 is not divisible"),
        ({"hidden_size": [32], "mlp_ratio": [1.3], "num_attention_heads": [2]}, {}, "mlp_ratio=1.3 of hidden_size=32"),
        ({"hidden_size": PerLayer([16, 32])}, {"head_dim": 8}, "one choice for the whole net"),
        ({"hidden_size": [32.5]}, {"head_dim": 8}, "whole numbers"),
        ({"hidden_size": [32], "n_head": [2]}, {"head_dim": 8}, "n_head.*cannot be searched in ViT"),
        ({"hidden_size": [32]}, {"head_dim": 0}, "head_dim=0"),
        ({"hidden_size": [32]}, {"head_dim": 8, "superposition": "outputs"}, "outputs"),
    ],
)
def test_a_space_that_cannot_be_is_refused(space, options, message):
    with pytest.raises(ValueError, match=message):
        ElasticViTConfig(space=SearchSpace(num_hidden_layers=[1, 2], **space), **options)


def test_new_weights_are_those_of_stock_vit():
    supernet = ElasticViTForImageClassification(ElasticViTConfig(space=AUTOFORMER_T, head_dim=64))
    matrices = torch.cat([p.flatten() for p in supernet.parameters() if p.ndim > 1])
    assert matrices.std().item() == pytest.approx(0.02, rel=0.01)
    assert matrices.abs().max() < 2  # where the field's truncated normal, cut at -2 and 2, ends: 100 deviations away


# Appendix F.3 of arXiv:2312.10440, as far as its lists are printed: width, ratios, classes; 14 layers of 4 heads.
OPTIMA = {
    "CIFAR100, 50%-50%": (216, [4] * 8 + [3.5] + [4] * 5, 100, 8_547_280, 1_940_970_784),
    "CIFAR100, 80%-20%": (240, [3.5] + [4] * 13, 100, 10_135_132, 2_251_678_912),
    "ImageNet": (240, [4] * 14, 1000, 10_409_752, 2_263_242_112),
}


@pytest.mark.parametrize("name", OPTIMA)
def test_the_papers_optima(name):
    width, ratios, classes, parameters, multiply_adds = OPTIMA[name]
    arch = AUTOFORMER_T.architecture(hidden_size=width, num_hidden_layers=14, num_attention_heads=4, mlp_ratio=ratios)
    config = ElasticViTConfig(space=AUTOFORMER_T, head_dim=AUTOFORMER_HEAD_DIM, num_labels=classes)
    assert num_params(AUTOFORMER_T, arch, config) == parameters
    assert flops(AUTOFORMER_T, arch, config) == 2 * multiply_adds


@pytest.mark.parametrize("space", [AUTOFORMER_T, AUTOFORMER_S, AUTOFORMER_B], ids=["T", "S", "B"])
def test_the_papers_spaces_cost_what_the_extracted_models_cost(space):
    with torch.device("meta"):
        supernet = ElasticViTForImageClassification(ElasticViTConfig(space=space, head_dim=AUTOFORMER_HEAD_DIM))
    for arch in (space.smallest, space.largest, space.sample(random.Random(0))):
        form = next(name for name, reason in supernet.subnet_forms(supernet.config, arch).items() if reason is None)
        subnet_class, config = supernet.subnet_skeleton(supernet.config, arch, form)
        with torch.device("meta"):
            subnet = subnet_class(config)
            subnet.set_attn_implementation("eager")
            with FlopCounterMode(display=False) as counter:
                subnet(torch.empty(1, 3, 224, 224))
        assert num_params(space, arch, supernet.config) == sum(p.numel() for p in subnet.parameters())
        assert flops(space, arch, supernet.config) == counter.get_total_flops()


def test_single_paths_have_the_loss_of_the_supernet():
    """A recipe may exchange it, e.g. for one that takes distributions over the classes as labels."""
    supernet = vit()
    space = supernet.space
    pixels, soft = torch.randn(2, 3, 8, 8), torch.rand(2, supernet.config.num_labels).softmax(-1)
    supernet.loss_function = lambda labels, logits, config, **unused: -(labels * logits.log_softmax(-1)).sum()
    for arch in (space.smallest, space.largest):
        out = supernet(pixels, labels=soft, arch=arch)
        torch.testing.assert_close(out.loss, -(soft * out.logits.log_softmax(-1)).sum())
