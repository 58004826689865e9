"""Which Hugging Face class an architecture of the ViT space is: stock, padded stock, or compact."""

from transformers import PreTrainedModel, ViTConfig, ViTForImageClassification

from ...axes import AxisTable
from ...space import Architecture
from ..layer_ranks import kept_ranks
from ..spaces import config_of_subnet, layer_sizes, layers_differ
from .axes_vit import NAMES, vit_axes
from .configuration_elastic_vit import ElasticViTConfig
from .configuration_tangle_vit import TangleViTConfig
from .modeling_tangle_vit import TangleViTForImageClassification


FORMS = ("stock", "padded", "compact")


def subnet_forms(config: ElasticViTConfig, arch: Architecture) -> dict[str, str | None]:
    """Form -> None where an architecture has it, else the reason why not. The first possible one is the natural one.

    Stock ViT honours `head_dim`, so equal layers are stock whatever their head count, and padding always has room.
    """
    heads, hidden, head_dims = layer_sizes(arch, NAMES, config.head_dim, config.layer_ranks)
    reasons = dict.fromkeys(("stock", "compact", "padded"))
    if len(set(head_dims)) > 1:
        reasons["padded"] = (
            f"head counts differ ({heads}) at head_dim = hidden_size / num_attention_heads; only the compact form holds "
            "them"
        )
    if len(set(heads)) > 1 or len(set(hidden)) > 1:
        reasons["stock"] = layers_differ(f"num_attention_heads {heads}, hidden units {hidden}", reasons["padded"])
    return reasons


def subnet_skeleton(
    config: ElasticViTConfig, arch: Architecture, form: str
) -> tuple[type[PreTrainedModel], ViTConfig]:
    """Class and config of an architecture in one of `FORMS`; ask `subnet_forms` first."""
    heads, hidden, head_dims = layer_sizes(arch, NAMES, config.head_dim, config.layer_ranks)
    common = config_of_subnet(config, "num_attention_heads", "intermediate_size", "pooler_output_size")
    common |= {"hidden_size": arch.hidden_size, "num_hidden_layers": arch.num_hidden_layers}
    if form != "compact":  # layers are equal in the stock form, and filled up to the largest one in the padded form
        sizes = {"num_attention_heads": max(heads), "intermediate_size": max(hidden)}
        if max(heads) * head_dims[0] != arch.hidden_size:
            sizes["head_dim"] = head_dims[0]
        return ViTForImageClassification, ViTConfig(**common, **sizes)
    layers = {
        layer: {"num_attention_heads": h, "head_dim": d, "intermediate_size": n}
        for layer, (h, d, n) in enumerate(zip(heads, head_dims, hidden, strict=True))
    }
    sizes = {"num_attention_heads": heads[0], "head_dim": head_dims[0], "intermediate_size": hidden[0]}
    return TangleViTForImageClassification, TangleViTConfig(**common, **sizes, per_layer_config=layers)


def padded_axes(config: ElasticViTConfig, arch: Architecture) -> AxisTable:
    """Where the parameters of an architecture sit inside its padded stock form."""
    heads, hidden, head_dims = layer_sizes(arch, NAMES, config.head_dim, config.layer_ranks)
    return vit_axes(
        num_channels=config.num_channels,
        patch_size=config.patch_shape,
        num_patches=config.num_patches,
        num_labels=config.num_labels,
        num_hidden_layers=arch.num_hidden_layers,
        hidden_size=arch.hidden_size,
        intermediate_size=max(hidden),
        qkv_width=max(heads) * head_dims[0],
        head_dim=head_dims[0],
        layer_ranks=kept_ranks(config.layer_ranks, arch.num_hidden_layers),
        qkv_bias=config.qkv_bias,
    )
