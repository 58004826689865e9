"""What the configs of all supernets do with their space: complete it, and refuse what cannot be built."""

from collections.abc import Mapping, Sequence
from math import lcm
from typing import Any, NamedTuple

from transformers import PreTrainedConfig

from ..axes import Axis
from ..space import Architecture, Choice, Number, SearchSpace
from .layer_ranks import kept_ranks


SUPERPOSITIONS = ("inputs", "weights")


class Names(NamedTuple):
    """What GPT-2 and ViT call their dimensions; the fourth is `mlp_ratio` in both."""

    width: str
    depth: str
    heads: str


class LayerSizes(NamedTuple):
    """Head counts, hidden units of the MLP and head widths of every layer of an architecture."""

    heads: list[int]
    hidden: list[int]
    head_dims: list[int]


def complete_space(
    space: SearchSpace | Mapping | None, sizes: Mapping[str, Choice | Mapping], family: str
) -> SearchSpace:
    """The space with every dimension of a family, in the family's order.

    Args:
        space: A space, what its `to_dict` gave (so it is read from JSON), or None.
        sizes: Dimension -> the config's own size, which is the only choice of a dimension that the space does not name. A
            dimension with a choice per layer has the form that it has in a space's `to_dict`.
        family: Name for the error.

    Raises:
        ValueError: The space names a dimension that the family does not have.
    """
    dimensions = space.to_dict() if isinstance(space, SearchSpace) else dict(space or {})
    if unknown := dimensions.keys() - sizes.keys():
        raise ValueError(f"{sorted(unknown)} cannot be searched in {family}; its dimensions are {list(sizes)}")
    own = {name: size if isinstance(size, Mapping) else [size] for name, size in sizes.items()}
    return SearchSpace.from_dict({name: dimensions.get(name, own[name]) for name in sizes})


def mlp_ratio(hidden: int, width: int) -> Number:
    """Hidden units per unit of width, a whole number where it is one."""
    ratio = hidden / width
    return int(ratio) if ratio.is_integer() else ratio


def widest(space: SearchSpace | Mapping | None, name: str, own: int) -> int:
    """The largest width of a space; the config's own where the space does not name widths, or no numbers."""
    dimensions = space.to_dict() if isinstance(space, SearchSpace) else space or {}
    choices = dimensions.get(name, own)
    largest = choices[-1] if isinstance(choices, list | tuple) and choices else choices
    return largest if isinstance(largest, int) else own


def check_space(space: SearchSpace, names: Names, head_dim: int | None, superposition: str) -> None:
    """Checks that every architecture of a complete space can be built.

    Args:
        space: The space, with every dimension of the family.
        names: The family's names of them.
        head_dim: Fixed width of a head; width / heads if None.
        superposition: One of `SUPERPOSITIONS`.

    Raises:
        ValueError: The superposition is unknown, width or depth is chosen per layer, a size is no whole number, a width
            is not divisible by a head count (without `head_dim`), or a ratio is no number or gives a fraction of a unit.
    """
    choices = space.choices
    if superposition not in SUPERPOSITIONS:
        raise ValueError(f"superposition={superposition!r} is unknown; choose one of {SUPERPOSITIONS}")
    check_dimensions(space, names.width, names.depth, (names.heads,), (names.heads, "mlp_ratio"))
    if not all(isinstance(ratio, Number) for ratio in choices["mlp_ratio"]):
        raise ValueError(f"mlp_ratio must be numbers, got {choices['mlp_ratio']}")
    if head_dim is not None and head_dim < 1:
        raise ValueError(f"head_dim={head_dim} must be at least 1, or None for {names.width} / {names.heads}")
    for width in choices[names.width]:
        for heads in choices[names.heads]:
            if head_dim is None and width % heads:
                raise ValueError(
                    f"{names.width}={width} is not divisible by {names.heads}={heads}; choose widths that every head "
                    "count divides, or fix the width of a head with head_dim"
                )
        for ratio in choices["mlp_ratio"]:
            if abs(width * ratio - round(width * ratio)) > 1e-9:
                raise ValueError(
                    f"mlp_ratio={ratio} of {names.width}={width} is {width * ratio} hidden units; "
                    "choose ratios that give whole numbers for every width"
                )


def check_dimensions(
    space: SearchSpace, width: str, depth: str, whole_numbers: tuple[str, ...], layered: tuple[str, ...]
) -> None:
    """Checks what the dimensions of a transformer are, whatever it calls them.

    Args:
        space: The space, with every dimension of the family.
        width: Name of the width of the residual stream.
        depth: Name of the number of layers.
        whole_numbers: Dimensions of whole numbers, beside these two.
        layered: Dimensions that may be chosen per layer.

    Raises:
        ValueError: Width or depth is chosen per layer, or a size is no whole number.
    """
    if space.per_layer & {width, depth}:
        raise ValueError(
            f"{width} and {depth} are one choice for the whole net; only {' and '.join(layered)} can be PerLayer"
        )
    for name in (width, depth, *whole_numbers):
        if not all(isinstance(value, int) for value in space.choices[name]):
            raise ValueError(f"{name} must be whole numbers, got {space.choices[name]}")


def default_range(width: int) -> float:
    """Standard deviation of new weights where the user gives none."""
    return 0.02 * (768 / width) ** 0.5


def drop_foreign_tokens(config: PreTrainedConfig) -> None:
    """Sets ids of special tokens that a config's vocabulary does not have to None, as defaults of other vocabularies are."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if isinstance(getattr(config, name), int) and getattr(config, name) >= config.vocab_size:
            setattr(config, name, None)


def check_checkpoint(path: Any, wanted: Mapping[str, int], stored: Mapping[str, int]) -> None:
    """Checks that the largest choices of a space are the sizes of a checkpoint.

    Raises:
        ValueError: They are not; names the size.
    """
    for name, have in stored.items():
        if wanted[name] != have:
            raise ValueError(
                f"the largest choice of the space gives {name}={wanted[name]}, the checkpoint {path} has {have}; make the "
                "checkpoint's size the largest choice"
            )


def attention_axis(names: Names, size: int, head_dim: int | None, head_counts: tuple[int, ...]) -> Axis:
    """The units that an architecture owns in each of q, k and v, and at the input of the projection behind them.

    With `head_dim=None` a head is width / heads wide. The units are cut into L = lcm(head counts) cells, and width e owns
    the first e/L units of every cell. A head of any count is a run of whole cells, so narrower nets nest, and which
    units a width owns does not depend on the head count. With a fixed `head_dim` the first h heads are a prefix.

    Args:
        names: The family's names.
        size: Full width of each of q, k and v.
        head_dim: Fixed width of a head, or None.
        head_counts: Choices of the head count.
    """
    if head_dim is not None:
        return Axis((names.heads,), lambda h: ((size // head_dim, slice(h)), (head_dim, slice(head_dim))))
    cells = lcm(*head_counts)
    return Axis((names.width,), lambda e: ((cells, slice(cells)), (size // cells, slice(e // cells))))


def hidden_axis(names: Names, size: int) -> Axis:
    """The units that an architecture owns of the MLP's hidden layer, the first width * ratio of `size`."""
    return Axis((names.width, "mlp_ratio"), lambda e, r: ((size, slice(round(e * r))),))


def layer_sizes(
    arch: Architecture, names: Names, head_dim: int | None, layer_ranks: Sequence[int] | None = None
) -> LayerSizes:
    """The sizes of an architecture's layers in order of position, with a fixed `head_dim` or width / heads."""
    width = getattr(arch, names.width)
    heads, ratios = (per_layer(arch, name, layer_ranks) for name in (names.heads, "mlp_ratio"))
    return LayerSizes(heads, [round(width * ratio) for ratio in ratios], [head_dim or width // h for h in heads])


def layers_differ(sizes: str, padded: str | None) -> str:
    """Why a net has no stock form, and which forms it has.

    Args:
        sizes: Those of its layers, as text.
        padded: Why it has no padded form; None if it has one.
    """
    return f"layers differ ({sizes}); use the compact {'form' if padded else 'or padded form'}"


def config_of_subnet(config: PreTrainedConfig, *without: str) -> dict[str, Any]:
    """The fields of the supernet's config that a subnet's config keeps, without those named in `without`."""
    supernet = {"space", "superposition", "sampled_heads", "drop_path_rate", "head_dim", "layer_ranks"}
    never = {*supernet, "architectures", "model_type", "dtype", *without}
    return {name: value for name, value in config.to_dict().items() if name not in never}


def supernet_dict(data: dict[str, Any], plain: str) -> dict[str, Any]:
    """A supernet's config as JSON, from its fields: the space in plain types, and the class that it is without a space.

    Args:
        data: What the `to_dict` of transformers gave.
        plain: Name of the class of the largest net.
    """
    if isinstance(data.get("space"), SearchSpace):
        data["space"] = data["space"].to_dict()
    return data | {"architectures": [plain]}  # the class that loads the checkpoint without this library


def per_layer(arch: Architecture, name: str, layer_ranks: Sequence[int] | None = None) -> list[Number]:
    """The values of a dimension in every layer, in order of position, also where the whole net has one."""
    value = getattr(arch, name)
    if not isinstance(value, tuple):
        return [value] * arch.depth
    return [value[rank] for rank in kept_ranks(layer_ranks, arch.depth)]
