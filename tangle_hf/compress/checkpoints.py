"""The checkpoint as a supernet: of which family it is, and which smaller nets of it there are.

The residual stream keeps its width. It is what all layers write to, and its units cannot be ordered layer by layer: a net that
is cut narrower loses most and recovers worst (`docs/results.md`). Everything else may shrink, in every layer by its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from ..data.images.soft_targets import use_soft_targets
from ..models.checkpoint_errors import reading_checkpoint
from ..models.loading import transformer_families
from ..models.spaces import mlp_ratio
from ..space import Choice, PerLayer, SearchSpace
from .scores import residual_axis


# Sizes of what a layer can have less of, evenly spaced up to all of it.
FEW = 8  # where each of them is tried or timed
MANY = 32  # where the uniform cut alone is taken: it leaves less of a budget unused
# A supernet that a search has left is a checkpoint, too: of its largest net.
OF_A_SUPERNET = ("architectures", "auto_map", "space", "layer_ranks")
SHALLOWEST = 3  # a net has at least a third of the layers


def family_of(checkpoint: str | Path) -> type[PreTrainedModel]:
    """The supernet class of a checkpoint.

    Raises:
        ValueError: It cannot be read, is quantised, or no family has its class.
    """
    with reading_checkpoint("checkpoint", str(checkpoint)):
        data = PreTrainedConfig.get_config_dict(checkpoint)[0]
    if data.get("quantization_config"):
        raise ValueError(
            f"{checkpoint} is quantised, so that its weights cannot be cut and trained; give the checkpoint that it was made of"
        )
    families = transformer_families()
    found = [families[name] for name in data.get("architectures") or () if name in families]
    if not found:
        kind, instead = str(data.get("model_type")), ""
        if kind.startswith("tangle_"):
            instead = "; `tangle-hf resolve RUN --max_params 50%` takes a smaller net from the search that left it"
        raise ValueError(
            f"{checkpoint} is a {', '.join(data.get('architectures') or [kind])}, which cannot be compressed; there are "
            f"families for {', '.join(sorted(families))}{instead}"
        )
    return found[0]


def load_teacher(checkpoint: str | Path, sizes: int = FEW) -> PreTrainedModel:
    """A checkpoint as a supernet in float32, with the space of all smaller nets that a compression may choose.

    Args:
        checkpoint: Folder or Hub name.
        sizes: How many sizes, at most, a layer's hidden units and heads can have.

    Raises:
        ValueError: It cannot be read, is quantised, or no family has its class.
    """
    family = family_of(checkpoint)
    with reading_checkpoint("checkpoint", str(checkpoint)):
        stored = family.stock_config.from_pretrained(checkpoint)
        given = _head_dim(stored)
        fields = {name: value for name, value in stored.to_dict().items() if name not in OF_A_SUPERNET}
        plain = family.config_class(**{**fields, **given})
        supernet = family.from_pretrained(checkpoint, space=smaller_nets(plain, sizes), **given)
    if family.main_input_name == "pixel_values":
        use_soft_targets(supernet)
    return supernet


def smaller_nets(config: PreTrainedConfig, sizes: int) -> SearchSpace:
    """The space of a compression: fewer layers, and in each its own fewer heads and hidden units.

    Args:
        config: A supernet's config with one choice per dimension.
        sizes: How many sizes, at most, hidden units and heads can have.
    """
    space, residual = config.space, set(residual_axis(config.axes).dimensions)
    choices: dict[str, Any] = {}
    for name in space.choices:
        (largest,) = space.choices[name]
        if name in residual:
            choices[name] = [largest]
        elif name == space.depth_name:
            scaled = getattr(config, "scale_attn_by_inverse_layer_idx", False)  # a layer computes by its position
            choices[name] = [largest] if scaled else list(range(-(-largest // SHALLOWEST), largest + 1))
        elif name == "mlp_ratio":
            (width,) = (space.choices[other][0] for other in residual)
            choices[name] = PerLayer([mlp_ratio(units, width) for units in _parts(round(largest * width), sizes)])
        else:
            choices[name] = PerLayer(_parts(largest, sizes))
    return SearchSpace(**choices)


def _parts(largest: int, count: int) -> list[Choice]:
    """At most `count` sizes up to the largest, evenly spaced."""
    return sorted({-(-largest * number // count) for number in range(1, count + 1)})


def _head_dim(stored: PreTrainedConfig) -> dict[str, int]:
    """The width of a head, which stays: fewer heads are fewer units, not wider ones."""
    width = stored.hidden_size // stored.num_attention_heads  # transformers maps these names where a family has others
    return {"head_dim": getattr(stored, "head_dim", None) or width}


def size_on_disk(folder: Path) -> float | None:
    """MiB of the weights in a folder; None where there is none, as of a name on the Hub."""
    # Older repositories have their weights in both formats, of which the first is loaded.
    files: Sequence[Path] = [*folder.glob("*.safetensors")] or [*folder.glob("*.bin")]
    return sum(path.stat().st_size for path in files) / 2**20 if files else None
