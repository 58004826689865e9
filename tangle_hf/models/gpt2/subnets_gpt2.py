"""Which Hugging Face class an architecture of the GPT-2 space is: stock, padded stock, or compact."""

from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from ...axes import AxisTable
from ...space import Architecture
from ..layer_ranks import kept_ranks
from ..spaces import config_of_subnet, default_range, layer_sizes, layers_differ
from .axes_gpt2 import NAMES, gpt2_axes
from .configuration_elastic_gpt2 import ElasticGPT2Config
from .configuration_tangle_gpt2 import TangleGPT2Config
from .modeling_tangle_gpt2 import TangleGPT2ForCausalLM


FORMS = ("stock", "padded", "compact")


def subnet_forms(config: ElasticGPT2Config, arch: Architecture) -> dict[str, str | None]:
    """Form -> None where an architecture has it, else the reason why not. The first possible one is the natural one."""
    heads, hidden, head_dims = layer_sizes(arch, NAMES, config.head_dim, config.layer_ranks)
    width = arch.n_embd
    widest = max(h * d for h, d in zip(heads, head_dims, strict=True))
    reasons = dict.fromkeys(("stock", "compact", "padded"))
    if len(set(head_dims)) > 1:
        reasons["padded"] = (
            f"head counts differ ({heads}) at head_dim = n_embd / n_head; only the compact form holds them"
        )
    elif width % head_dims[0] or widest > width:
        reasons["padded"] = (
            f"{max(heads)} heads of {head_dims[0]} units do not fit n_embd = {width}; use the compact form"
        )
    if len(set(heads)) > 1 or len(set(hidden)) > 1:
        reasons["stock"] = layers_differ(f"n_head {heads}, hidden units {hidden}", reasons["padded"])
    elif heads[0] * head_dims[0] != width:
        reasons["stock"] = (
            f"n_head * head_dim = {heads[0]} * {head_dims[0]} is not n_embd = {width}; use the compact form"
        )
    return reasons


def subnet_skeleton(
    config: ElasticGPT2Config, arch: Architecture, form: str
) -> tuple[type[PreTrainedModel], GPT2Config]:
    """Class and config of an architecture in one of `FORMS`; ask `subnet_forms` first."""
    heads, hidden, head_dims = layer_sizes(arch, NAMES, config.head_dim, config.layer_ranks)
    common = config_of_subnet(config, "n_inner", "n_head") | {"n_embd": arch.n_embd, "n_layer": arch.n_layer}
    if common["initializer_range"] == default_range(config.n_embd):  # nobody gave another
        common["initializer_range"] = default_range(arch.n_embd)
    if form == "stock":
        return GPT2LMHeadModel, GPT2Config(**common, n_head=heads[0], n_inner=hidden[0])
    if form == "padded":
        return GPT2LMHeadModel, GPT2Config(**common, n_head=arch.n_embd // head_dims[0], n_inner=max(hidden))
    layers = {
        layer: {"n_head": h, "head_dim": d, "n_inner": n}
        for layer, (h, d, n) in enumerate(zip(heads, head_dims, hidden, strict=True))
    }
    sizes = {"n_head": heads[0], "head_dim": head_dims[0], "n_inner": hidden[0], "per_layer_config": layers}
    return TangleGPT2ForCausalLM, TangleGPT2Config(**common, **sizes)


def padded_axes(config: ElasticGPT2Config, arch: Architecture) -> AxisTable:
    """Where the parameters of an architecture sit inside its padded stock form."""
    _, hidden, head_dims = layer_sizes(arch, NAMES, config.head_dim, config.layer_ranks)
    return gpt2_axes(
        vocab_size=config.vocab_size,
        n_positions=config.n_positions,
        n_layer=arch.n_layer,
        n_embd=arch.n_embd,
        n_inner=max(hidden),
        qkv_width=arch.n_embd,
        head_dim=head_dims[0],
        layer_ranks=kept_ranks(config.layer_ranks, arch.n_layer),
        tied=config.tie_word_embeddings,
    )
