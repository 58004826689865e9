"""Arguments of the recipes that describe a search space and its supernet, one dataclass per family."""

from dataclasses import dataclass, field

from ..space import PerLayer, SearchSpace


SUPERPOSITIONS = ("inputs", "weights")
LLAMA_TYPES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass
class SpaceArguments:
    """The search space of a GPT-2 and the supernet that holds it.

    Raises:
        ValueError: If a dimension has no choices, or `shared`, `superposition` or `dropout` is out of its range.
    """

    _argument_group_name = "search space"

    n_embd: list[int] = field(
        default_factory=lambda: [64, 96, 128], metadata={"main": True, "help": "choices of the embedding width"}
    )
    n_layer: list[int] = field(
        default_factory=lambda: [2, 3, 4], metadata={"main": True, "help": "choices of the number of layers"}
    )
    n_head: list[int] = field(
        default_factory=lambda: [2, 4], metadata={"main": True, "help": "choices of the number of heads"}
    )
    mlp_ratio: list[float] = field(
        default_factory=lambda: [1, 2, 4],
        metadata={"main": True, "help": "choices of the MLP's hidden width / n_embd"},
    )
    shared: list[str] = field(
        default_factory=list,
        metadata={"help": "dimensions (n_head, mlp_ratio) with one value for all layers instead of one per layer"},
    )
    head_dim: int | None = field(default=None, metadata={"help": "fixed width of a head; default: n_embd / n_head"})
    layer_ranks: list[int] = field(
        default_factory=list,
        metadata={"help": "rank of every layer in order of position: n layers are those of the lowest ranks, in their order; "
                          "default: 0 1 2 ..., so that they are the first n"},
    )  # fmt: skip
    superposition: str = field(
        default="inputs", metadata={"help": "where the shares enter: inputs (of each layer) or weights (Algorithm 2)"}
    )
    dropout: float | None = field(
        default=None,
        metadata={
            "help": "dropout of embeddings, attention and residuals, in [0, 1); default: 0, of a checkpoint its own"
        },
    )

    def __post_init__(self):
        self.mlp_ratio = _ratios(self.mlp_ratio)
        _check(self, ("n_embd", "n_layer"), ("n_head", "mlp_ratio"))


@dataclass
class ViTSpaceArguments:
    """The search space of a ViT and the supernet that holds it.

    Raises:
        ValueError: If a dimension has no choices, or `shared`, `superposition` or a probability is out of its range.
    """

    _argument_group_name = "search space"

    hidden_size: list[int] = field(
        default_factory=lambda: [48, 64, 96], metadata={"main": True, "help": "choices of the embedding width"}
    )
    num_hidden_layers: list[int] = field(
        default_factory=lambda: [2, 3, 4], metadata={"main": True, "help": "choices of the number of layers"}
    )
    num_attention_heads: list[int] = field(
        default_factory=lambda: [2, 4], metadata={"main": True, "help": "choices of the number of heads"}
    )
    mlp_ratio: list[float] = field(
        default_factory=lambda: [1, 2, 4],
        metadata={"main": True, "help": "choices of the MLP's hidden width / hidden_size"},
    )
    shared: list[str] = field(
        default_factory=list,
        metadata={"help": "dimensions (num_attention_heads, mlp_ratio) with one value for all layers instead of one per "
                          "layer"},
    )  # fmt: skip
    head_dim: int | None = field(
        default=None, metadata={"help": "fixed width of a head; default: hidden_size / num_attention_heads"}
    )
    patch_size: int = field(default=2, metadata={"help": "height and width of a patch, in pixels"})
    layer_ranks: list[int] = field(
        default_factory=list,
        metadata={"help": "rank of every layer in order of position: n layers are those of the lowest ranks, in their order; "
                          "default: 0 1 2 ..., so that they are the first n"},
    )  # fmt: skip
    superposition: str = field(
        default="inputs", metadata={"help": "where the shares enter: inputs (of each layer) or weights (Algorithm 2)"}
    )
    dropout: float = field(default=0.0, metadata={"help": "dropout of embeddings, attention and residuals, in [0, 1)"})
    drop_path_rate: float = field(
        default=0.0,
        metadata={"help": "stochastic depth of the search: probability of the last layer, growing from 0 at the first; "
                          "DeiT 0.1"},
    )  # fmt: skip
    initializer_range: float = field(
        default=0.05,
        metadata={"help": "standard deviation of new weights; narrow nets learn faster with more than the usual 0.02"},
    )

    def __post_init__(self):
        self.mlp_ratio = _ratios(self.mlp_ratio)
        _check(self, ("hidden_size", "num_hidden_layers"), ("num_attention_heads", "mlp_ratio"))
        _check_probability("drop_path_rate", self.drop_path_rate)
        if self.initializer_range <= 0:
            raise ValueError(f"initializer_range={self.initializer_range} must be above 0")


@dataclass
class LlamaSpaceArguments:
    """The search space of a Llama, Mistral, Qwen2 or Qwen3 and the supernet that holds it.

    Raises:
        ValueError: `model_type` is unknown, a dimension has no choices, or `shared` or a number is out of its range.
    """

    _argument_group_name = "search space"

    model_type: str = field(default="llama", metadata={"main": True, "help": f"one of {', '.join(LLAMA_TYPES)}"})
    hidden_size: list[int] = field(
        default_factory=lambda: [64, 96, 128], metadata={"main": True, "help": "choices of the embedding width"}
    )
    num_hidden_layers: list[int] = field(
        default_factory=lambda: [2, 3, 4], metadata={"main": True, "help": "choices of the number of layers"}
    )
    intermediate_size: list[int] = field(
        default_factory=lambda: [128, 256, 384],
        metadata={"main": True, "help": "choices of the MLP's hidden width, in units"},
    )
    num_key_value_heads: list[int] = field(
        default_factory=lambda: [1, 2],
        metadata={
            "help": "choices of the number of groups of query heads; a group has one key and value head",
        },
    )
    num_key_value_groups: list[int] = field(
        default_factory=lambda: [1, 2],
        metadata={"help": "choices of the number of query heads in a group"},
    )
    shared: list[str] = field(
        default_factory=list,
        metadata={"help": "dimensions (intermediate_size, num_key_value_heads, num_key_value_groups) with one value for all "
                          "layers instead of one per layer"},
    )  # fmt: skip
    head_dim: int | None = field(
        default=None,
        metadata={
            "help": "width of a head, the same in all nets; default: hidden_size / query heads of the largest net"
        },
    )
    layer_ranks: list[int] = field(
        default_factory=list,
        metadata={"help": "rank of every layer in order of position: n layers are those of the lowest ranks, in their order; "
                          "default: 0 1 2 ..., so that they are the first n"},
    )  # fmt: skip
    tie_word_embeddings: bool = field(default=True, metadata={"help": "whether the head has the embedding's weights"})
    attention_dropout: float | None = field(
        default=None,
        metadata={"help": "dropout of the attention's weights, in [0, 1); default: 0, of a checkpoint its own"},
    )
    initializer_range: float | None = field(
        default=None,
        metadata={
            "help": "standard deviation of new weights; default: 0.02 at a width of 768, more for narrower nets"
        },
    )

    def __post_init__(self):
        if self.model_type not in LLAMA_TYPES:
            raise ValueError(f"model_type={self.model_type!r} is unknown; choose one of {LLAMA_TYPES}")
        whole = ("hidden_size", "num_hidden_layers")
        _check_choices(self, whole, ("intermediate_size", "num_key_value_heads", "num_key_value_groups"))
        _check_probability("attention_dropout", self.attention_dropout)
        if self.initializer_range is not None and self.initializer_range <= 0:
            raise ValueError(f"initializer_range={self.initializer_range} must be above 0")


@dataclass
class ConvSpaceArguments:
    """The convolutional space and the supernet that holds it. Choices that are left out are the paper's.

    Raises:
        ValueError: A number is out of its range.
    """

    _argument_group_name = "search space"

    space: str = field(
        default="conv_macro",
        metadata={"main": True,
                  "help": "conv_macro (four convolutions), mobilenetv3 (once-for-all's space), or cells: toy_cell, "
                          "nas_bench_201, darts"},
    )  # fmt: skip
    kernel_size: list[int] = field(default_factory=list, metadata={"help": "choices of the kernel size, odd numbers"})
    expand_ratio: list[float] = field(
        default_factory=list, metadata={"help": "mobilenetv3: choices of inner channels / input channels of a block"}
    )
    depths: list[int] = field(default_factory=list, metadata={"help": "mobilenetv3: choices of the blocks of a stage"})
    width_multiplier: float = field(default=1.0, metadata={"help": "mobilenetv3: multiplies all numbers of channels"})
    strides: list[int] = field(
        default_factory=list,
        metadata={"help": "mobilenetv3: strides of stem, first block and the five stages; default: 2 1 2 2 2 1 2, for "
                          "images of 224 pixels; 1 1 1 2 2 1 2 suits 32"},
    )  # fmt: skip
    kernel_transform: bool = field(
        default=False,
        metadata={
            "help": "mobilenetv3: make smaller kernels from larger ones by trained matrices, as once-for-all does"
        },
    )
    entangled: bool = field(
        default=True,
        metadata={
            "help": "cells: convolutions that differ in the kernel only share their weights; false: each has its own"
        },
    )
    operations: list[str] = field(
        default_factory=list, metadata={"help": "cells: operations that an edge can be; default: all of the space"}
    )
    hidden_size: int | None = field(
        default=None, metadata={"help": "cells: channels of the first cell; default: 32 toy_cell, else 16"}
    )
    num_cells: int | None = field(
        default=None,
        metadata={
            "help": "cells: number of cells, in nas_bench_201 per stage; default: 3 toy_cell, 5 nas_bench_201, 8 darts"
        },
    )
    partial_channels: int = field(
        default=1, metadata={"help": "cells: 1 / partial_channels of the channels take operations (PC-DARTS)"}
    )
    kept_inputs: int | None = field(
        default=None,
        metadata={"help": "cells: edges into each node that the result keeps, 0 for all; default: 2 darts, else all"},
    )
    dropout: float | None = field(
        default=None,
        metadata={"help": "dropout of the classifier, in toy_cell also behind each cell; default: 0.5 conv_macro, 0.1 "
                          "mobilenetv3, 0.2 toy_cell"},
    )  # fmt: skip
    table: str | None = field(
        default=None,
        metadata={"help": "table of architectures that are trained already (.jsonl, .json, .csv): during the search its "
                          "metrics of the best architecture go to metrics.jsonl; tangle-hf make_table makes one"},
    )  # fmt: skip
    recalibration_batches: int = field(
        default=200,
        metadata={"help": "training batches from which a found net with batch norms gets statistics of its own"},
    )

    def __post_init__(self):
        self.expand_ratio = _ratios(self.expand_ratio)
        _check_probability("dropout", self.dropout)
        if self.width_multiplier <= 0:
            raise ValueError(f"width_multiplier={self.width_multiplier} must be above 0")
        if self.recalibration_batches < 1:
            raise ValueError(f"recalibration_batches={self.recalibration_batches} must be at least 1")


Transformer = SpaceArguments | ViTSpaceArguments | LlamaSpaceArguments


def search_space(arguments: Transformer, whole: list[str], per_layer: list[str]) -> SearchSpace:
    """The space of these arguments.

    Args:
        arguments: Its choices, and which of the dimensions per layer have one value for all layers.
        whole: Dimensions with one value for the net.
        per_layer: Dimensions with one value per layer.
    """
    choices = {name: getattr(arguments, name) for name in (*whole, *per_layer)}
    own = set(per_layer) - set(arguments.shared)
    return SearchSpace(**{name: PerLayer(values) if name in own else values for name, values in choices.items()})


def _ratios(values: list[float]) -> list[float]:
    """The ratios, whole ones as whole numbers: the command line reads `4` as 4.0, and the space's JSON should have 4."""
    return [int(value) if float(value).is_integer() else float(value) for value in values]


def _check(arguments: SpaceArguments | ViTSpaceArguments, whole: tuple[str, ...], per_layer: tuple[str, ...]) -> None:
    _check_choices(arguments, whole, per_layer)
    if arguments.superposition not in SUPERPOSITIONS:
        raise ValueError(f"superposition={arguments.superposition!r} is unknown; choose one of {SUPERPOSITIONS}")
    _check_probability("dropout", arguments.dropout)


def _check_probability(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value < 1:
        raise ValueError(f"{name}={value} must be at least 0 and below 1")


def _check_choices(arguments: Transformer, whole: tuple[str, ...], per_layer: tuple[str, ...]) -> None:
    for name in (*whole, *per_layer):
        if not getattr(arguments, name):
            raise ValueError(f"{name}=[] has no choice; give at least one number, as in --{name} 2 4")
    for name in arguments.shared:
        if name not in per_layer:
            raise ValueError(
                f"shared={arguments.shared}: {name!r} is not a per-layer dimension; allowed are {per_layer}"
            )
    if arguments.head_dim is not None and arguments.head_dim < 1:
        raise ValueError(f"head_dim={arguments.head_dim} must be at least 1; leave it out for the default")
