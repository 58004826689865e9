"""What every supernet adds to its stock class, whatever the family: its space, single paths, checked mixtures."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.stateless import _reparametrize_module
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from ..arch_parameters import argmax
from ..axes import AxisTable, membership, named_tensors, slice_parameters
from ..space import Architecture, SearchSpace
from .checkpoint_errors import load_whole
from .layer_ranks import by_position, kept_positions, renumbered
from .spaces import check_checkpoint


MAX_SKELETONS = 64  # empty module trees kept for single paths; building one takes milliseconds

_HUB = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


class SupernetMixin:
    """Comes before the stock class in the bases of an `Elastic*` model, whose parameters it leaves as they are.

    A family states the attributes below and, in its `forward`, calls `check_arguments`, `_single_path` and `_shares`.
    """

    stock_config: type[PreTrainedConfig]  # reads the checkpoints to start from
    auto_model: type  # Auto class that loads an exported subnet
    tables: dict[str, tuple[str, int]]  # name for `block_masks` -> parameter of the first layer, and its axis
    layer_list: str | None = None  # name of the list of layers, of which a net has the ranks below its depth
    sizes: Callable[[PreTrainedConfig], dict[str, int]]  # what a checkpoint and the largest choices must agree on
    subnet_forms: Callable[[PreTrainedConfig, Architecture], dict[str, str | None]]
    subnet_skeleton: Callable[[PreTrainedConfig, Architecture, str], tuple[type[PreTrainedModel], PreTrainedConfig]]
    padded_axes: Callable[[PreTrainedConfig, Architecture], AxisTable]
    superposed_block: Callable[..., Tensor] | None = None  # a block under a mixture, where all blocks are alike

    def _read_axes(self) -> None:
        """Reads the axis table of the config, the last line of a family's `__init__`, and forgets what an older one made."""
        self._axes = self.config.axes
        self._skeletons: dict[Architecture, PreTrainedModel] = {}
        self._tables = {}
        for name, (parameter, axis) in self.tables.items():
            size = self.get_parameter(parameter).shape[axis]
            entry = self.axes[parameter].axes[axis]
            self._tables[name] = membership(self.space, entry, size, torch.float32, torch.device("cpu"))

    def __getstate__(self) -> dict[str, Any]:
        # Axes are functions, many of them local ones, which do not pickle; the config states them again.
        made_again = ("_axes", "_tables", "_skeletons", "superposed_block")  # a compiled block does not pickle either
        return {name: value for name, value in super().__getstate__().items() if name not in made_again}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._read_axes()

    def resize_token_embeddings(self, *args, **kwargs) -> nn.Module:
        """Resizes the token embeddings as transformers does, and reads the axis table again for the new size."""
        embeddings = super().resize_token_embeddings(*args, **kwargs)
        self._read_axes()
        return embeddings

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.config.space

    @property
    def axes(self) -> AxisTable:
        """Which units of which parameter an architecture owns."""
        return self._axes

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike, *args, space: SearchSpace | None = None, **kwargs):
        """Starts from any stock checkpoint of the family, or loads a supernet, in float32 unless `dtype` says otherwise.

        transformers would load a checkpoint in the type that it was saved in. A supernet is trained, and in half precision an
        optimizer's steps are lost to rounding.

        Args:
            path: Folder or Hub name.
            *args: As in transformers.
            space: The space to search; its largest choices must be the checkpoint's sizes. If None: the space stored
                in the checkpoint, or one choice per dimension.
            **kwargs: As in transformers; fields of the supernet's config among them.

        Raises:
            ValueError: It is a model of another kind, the largest choices of the space are not its sizes, or its weights are
                not whole and finite; a head that is missing begins with new ones.
        """
        if "config" not in kwargs:
            hub = {k: kwargs[k] for k in _HUB if k in kwargs}
            kind = PreTrainedConfig.get_config_dict(path, **hub)[0].get("model_type")
            if kind not in (None, cls.stock_config.model_type):  # transformers would take what it finds of its fields
                raise ValueError(f"{path} is a {kind}; a {cls.__name__} starts from a {cls.stock_config.model_type}")
            stored = cls.stock_config.from_pretrained(path, **hub)
            own = {name: kwargs.pop(name) for name in _own_fields(cls.config_class) & kwargs.keys()}
            replaced = {"architectures", "auto_map"} | ({"id2label", "label2id"} if "num_labels" in own else set())
            data = {name: value for name, value in stored.to_dict().items() if name not in replaced} | own
            config = cls.config_class(**{**data, "space": space or data.get("space")})
            check_checkpoint(path, cls.sizes(config), cls.sizes(stored))
            kwargs["config"] = config
        if "torch_dtype" not in kwargs:  # its older name
            kwargs.setdefault("dtype", torch.float32)
        return load_whole(super().from_pretrained, path, *args, new_head=True, **kwargs)

    def compile_blocks(self, backend: str = "inductor") -> None:
        """From now on blocks under a mixture run as one compiled program, which all of them share.

        `torch.compile(supernet)` makes one program of all blocks instead, for which the compiler needs as many times as long.
        The first step of each kind compiles. Single paths and the forward pass without a mixture are not compiled.

        Args:
            backend: Backend of `torch.compile`.

        Raises:
            ValueError: The family has no blocks that are all alike.
        """
        if type(self).superposed_block is None:
            raise ValueError(
                f"the blocks of {type(self).__name__} are not alike and do not share a program: use torch.compile, or "
                "accelerate launch --dynamo_backend inductor"
            )
        self.superposed_block = torch.compile(type(self).superposed_block, backend=backend)

    def most_likely(self, shares: Mapping[str, Tensor]) -> Architecture:
        """The architecture that shares stand for, dimension -> (rows, K): the largest share of every row.

        A family whose spaces have another rule states it instead.
        """
        return argmax(self.space, shares)

    def _single_path(self, arch: Architecture, inputs: dict[str, Any]) -> ModelOutput:
        """The exported model of an architecture, run on slices of this model's parameters."""
        if arch not in self._skeletons:
            self.space.validate(arch)
            form = next(name for name, reason in self.subnet_forms(self.config, arch).items() if reason is None)
            if len(self._skeletons) == MAX_SKELETONS:
                self._skeletons.pop(next(iter(self._skeletons)))
            skeleton_class, config = self.subnet_skeleton(self.config, arch, form)
            with torch.device("meta"):
                self._skeletons[arch] = skeleton_class(config)
        skeleton = self._skeletons[arch].train(self.training)
        skeleton.loss_function = self.loss_function
        if skeleton.config._attn_implementation != self.config._attn_implementation:
            skeleton.set_attn_implementation(self.config._attn_implementation)
        # Without gaps: a linear layer answers a weight with gaps with a gradient whose axes are exchanged, and to put that into
        # the full one takes a sixth of a step where the vocabulary is large.
        slices = {name: cut.contiguous() for name, cut in self.slices(arch).items()}
        if self.is_activation_checkpointing:
            # The backward pass runs a layer again when the call below is long over: it needs the slices once more.
            again = partial(_reparametrize_module, skeleton, slices)
            skeleton.activation_checkpointing_enable(
                {"use_reentrant": False, "context_fn": lambda: (nullcontext(), again())}
            )
        elif skeleton.is_activation_checkpointing:
            skeleton.activation_checkpointing_disable()
        return torch.func.functional_call(skeleton, slices, kwargs=inputs)

    def slices(self, arch: Architecture) -> dict[str, Tensor]:
        """The parameters and buffers of an architecture by name, differentiable."""
        cut = slice_parameters(named_tensors(self, self.axes), self.axes, arch)
        ranks = getattr(self.config, "layer_ranks", None)
        return cut if ranks is None else renumbered(cut, self.layer_list, ranks, arch.depth)

    def kept_layers(self, arch: Architecture) -> list[int]:
        """The positions of the layers that an architecture has, ascending.

        Raises:
            ValueError: The family has no list of layers.
        """
        if self.layer_list is None:
            raise ValueError(f"{type(self).__name__} has no list of layers of which a net could keep some")
        return kept_positions(self.config.layer_ranks, arch.depth)

    def by_position(self, arch: Architecture) -> Architecture:
        """An architecture with its layers in order of position, to look at; the same one where layers are not ranked."""
        return by_position(arch, self.space, getattr(self.config, "layer_ranks", None))

    def set_layer_ranks(self, ranks: Sequence[int] | None) -> None:
        """Says which layers a shallower net has: depth d has the d layers of the lowest ranks. The weights stay.

        Args:
            ranks: The rank of every layer in order of position; None: the positions.

        Raises:
            ValueError: They are no order of the layers, or the family has no list of layers.
        """
        if self.layer_list is None:
            raise ValueError(f"the layers of {type(self).__name__} cannot be ranked")
        self.config.layer_ranks = type(self.config)(**{**self.config.to_dict(), "layer_ranks": ranks}).layer_ranks
        self._read_axes()

    def _shares(self, mixture: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mixture, checked, on this model's device and in its type."""
        expected = {n: (self.space.rows(n), len(c)) for n, c in self.space.choices.items()}
        found = {name: tuple(rows.shape) for name, rows in mixture.items()}
        if found != expected:
            raise ValueError(
                f"the mixture has rows {found}, this space needs {expected}; use ArchParameters or one_hot"
            )
        return {name: mixture[name].to(self.device, self.dtype) for name in expected}

    def _membership(self) -> dict[str, Tensor]:
        """Which units every combination of choices owns, on this model's device and in its type; zeros and ones."""
        return {name: table.to(self.device, self.dtype) for name, table in self._tables.items()}


def check_arguments(
    mixture: Mapping | None, arch: Architecture | None, args: tuple, kwargs: Mapping, allowed: tuple[str, ...] = ()
) -> None:
    """Checks the arguments that `forward` was given beside a mixture or an arch; None and False count as not given.

    Args:
        mixture: Shares, or None.
        arch: An architecture, or None.
        args: Positional arguments of the stock forward.
        kwargs: Its other arguments.
        allowed: Names of arguments that are accepted because they change nothing; `return_dict` always is.

    Raises:
        ValueError: Both are given, or an argument that only the stock forward takes.
    """
    if mixture is not None and arch is not None:
        raise ValueError("give a mixture or an arch, not both")
    extra = {k for k, v in kwargs.items() if v is not None and v is not False and k not in ("return_dict", *allowed)}
    if args or extra:
        raise ValueError(
            f"with a mixture or an arch, these arguments of the stock forward are not available: {sorted(extra) or args}"
        )


def _own_fields(config_class: type[PreTrainedConfig]) -> set[str]:
    """Config fields that `from_pretrained` takes as keywords; those of every model, `dtype` for one, go on to transformers."""
    names = {field.name for field in dataclasses.fields(config_class)}
    common = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    return names - common | {"id2label", "label2id", "num_labels", "problem_type"}
