"""The GPT-2 supernet: a stock `GPT2LMHeadModel` of the largest sizes with two more ways to run it.

Without a mixture it is GPT-2 in every respect. `mixture=` runs the superposition of all architectures, `arch=` the
subnet of one. No module remembers either: both are arguments.
"""

import os
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions

from ...axes import AxisTable, membership, slice_parameters
from ...entangle import share_sum
from ...space import Architecture, SearchSpace
from ..superposed import block_masks, superposed_norm
from .configuration_elastic_gpt2 import ElasticGPT2Config
from .subnets_gpt2 import padded_axes, subnet_forms, subnet_skeleton
from .superposed_gpt2 import superposed_block


MAX_SKELETONS = 64  # empty module trees kept for single paths; building one takes milliseconds


class ElasticGPT2LMHeadModel(GPT2LMHeadModel):
    """GPT-2 language model with entangled weights for every architecture of `config.space`.

    Parameter names and shapes are those of the largest stock GPT-2, so checkpoints go both ways.
    """

    config: ElasticGPT2Config
    config_class = ElasticGPT2Config

    subnet_forms = staticmethod(subnet_forms)
    subnet_skeleton = staticmethod(subnet_skeleton)
    padded_axes = staticmethod(padded_axes)

    def __init__(self, config: ElasticGPT2Config):
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # transformers guesses it from the class name, and warns for this one
        self._axes = config.axes
        self._tables: dict[tuple, dict[str, Tensor]] = {}
        self._skeletons: dict[Architecture, GPT2LMHeadModel] = {}

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
        """Starts from any GPT-2 checkpoint, or loads a supernet.

        Args:
            path: Folder or Hub name.
            *args: As in transformers.
            space: The space to search; its largest choices must be the checkpoint's sizes. If None: the space stored
                in the checkpoint, or one choice per dimension.
            **kwargs: As in transformers; fields of `ElasticGPT2Config` among them.

        Raises:
            ValueError: The largest choices of the space are not the sizes of the checkpoint.
        """
        if "config" not in kwargs:
            stored = GPT2Config.from_pretrained(path)
            own = {k: kwargs.pop(k) for k in ("head_dim", "superposition") if k in kwargs}
            data = {k: v for k, v in stored.to_dict().items() if k != "architectures"}
            config = ElasticGPT2Config(**{**data, **own, "space": space or data.get("space")})
            inner = stored.n_inner or 4 * stored.n_embd
            sizes = {"n_embd": stored.n_embd, "n_layer": stored.n_layer, "n_head": stored.n_head, "n_inner": inner}
            for name, have in sizes.items():
                if getattr(config, name) != have:
                    raise ValueError(
                        f"the largest choice of the space gives {name}={getattr(config, name)}, the checkpoint {path} has "
                        f"{have}; make the checkpoint's size the largest choice"
                    )
            kwargs["config"] = config
        return super().from_pretrained(path, *args, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        *args,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        mixture: Mapping[str, Tensor] | None = None,
        arch: Architecture | None = None,
        **kwargs,
    ) -> CausalLMOutputWithCrossAttentions:
        """Runs the largest net (stock), the superposition of all nets (`mixture`), or one subnet (`arch`).

        Args:
            input_ids: Tokens (batch, sequence).
            *args: As in stock GPT-2 (only without mixture and arch).
            attention_mask: 1 for tokens, 0 for padding, (batch, sequence).
            position_ids: Positions (batch, sequence) or (1, sequence).
            labels: Token ids (batch, sequence), shifted inside; -100 is ignored.
            mixture: Dimension -> shares (rows, K), see `ArchParameters.sample` and `one_hot`.
            arch: The architecture to run single-path, at the cost of the small net.
            **kwargs: As in stock GPT-2.

        Raises:
            ValueError: Both `mixture` and `arch` are given, either does not fit the space, or an argument of stock
                GPT-2 is passed that the superposition does not take.
        """
        if mixture is None and arch is None:
            masks = {"attention_mask": attention_mask, "position_ids": position_ids, "labels": labels}
            return super().forward(input_ids, *args, **masks, **kwargs)
        if mixture is not None and arch is not None:
            raise ValueError("give a mixture or an arch, not both")
        extra = {
            k for k, v in kwargs.items() if v is not None and v is not False and k not in ("return_dict", "use_cache")
        }
        if args or extra:
            raise ValueError(
                f"with a mixture or an arch, these arguments of GPT-2 are not available: {sorted(extra) or args}"
            )
        if arch is not None:
            inputs = {"attention_mask": attention_mask, "position_ids": position_ids, "labels": labels}
            return self._single_path(arch, {"input_ids": input_ids, "use_cache": False, **inputs})
        logits = self._superposed(input_ids, attention_mask, position_ids, self._shares(mixture))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size)
        return CausalLMOutputWithCrossAttentions(loss=loss, logits=logits)

    def _single_path(self, arch: Architecture, inputs: dict) -> CausalLMOutputWithCrossAttentions:
        """The exported model of an architecture, run on slices of this model's parameters."""
        if arch not in self._skeletons:
            self.space.validate(arch)
            form = next(name for name, reason in subnet_forms(self.config, arch).items() if reason is None)
            if len(self._skeletons) == MAX_SKELETONS:
                self._skeletons.pop(next(iter(self._skeletons)))
            skeleton_class, config = subnet_skeleton(self.config, arch, form)
            config._attn_implementation = self.config._attn_implementation
            with torch.device("meta"):
                self._skeletons[arch] = skeleton_class(config)
        skeleton = self._skeletons[arch].train(self.training)
        if self.transformer.gradient_checkpointing != skeleton.transformer.gradient_checkpointing:
            skeleton.activation_checkpointing_enable()
        return torch.func.functional_call(skeleton, self._slices(arch), kwargs=inputs)

    def _slices(self, arch: Architecture) -> dict[str, Tensor]:
        return slice_parameters(dict(self.named_parameters()), self.axes, arch)

    def _shares(self, mixture: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mixture, checked, on this model's device and in its type."""
        weight = self.transformer.wte.weight
        expected = {n: (self.space.rows(n), len(c)) for n, c in self.space.choices.items()}
        found = {name: tuple(rows.shape) for name, rows in mixture.items()}
        if found != expected:
            raise ValueError(
                f"the mixture has rows {found}, this space needs {expected}; use ArchParameters or one_hot"
            )
        return {name: mixture[name].to(weight.device, weight.dtype) for name in expected}

    def _membership(self) -> dict[str, Tensor]:
        """Membership tables of the axes that blocks share, kept for the next step."""
        weight = self.transformer.wte.weight
        key = (weight.device, weight.dtype)
        if key not in self._tables:
            attention = "attention_of_width" if self.config.head_dim is None else "attention_of_heads"
            axes = {
                "embed": ("ln_1.weight", 0),
                attention: ("attn.c_proj.weight", 0),
                "hidden": ("mlp.c_fc.weight", 1),
            }
            tables = {}
            for name, (parameter, axis) in axes.items():
                full = f"transformer.h.0.{parameter}"
                size = self.get_parameter(full).shape[axis]
                tables[name] = membership(self.space, self.axes[full].axes[axis], size, *reversed(key))
            self._tables[key] = tables
        return self._tables[key]

    def _superposed(self, input_ids, attention_mask, position_ids, shares: dict[str, Tensor]) -> Tensor:
        stem, config, space = self.transformer, self.config, self.space
        by_weights, widths = config.superposition == "weights", space.choices["n_embd"]
        embed = shares["n_embd"][0]
        masks = block_masks(
            self._membership(), embed, shares["n_head"], shares["mlp_ratio"], config.n_layer, by_weights
        )
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        attend = causal_padding_mask(attention_mask)
        hidden = stem.wte(input_ids) + stem.wpe(position_ids)
        if by_weights:
            hidden = hidden * masks[0].width
        hidden = stem.drop(hidden)
        ends = []
        for layer, block in enumerate(stem.h):
            arguments = (block, hidden, attend, masks[layer], config)
            if stem.gradient_checkpointing and self.training:
                hidden = checkpoint(superposed_block, *arguments, use_reentrant=False)
            else:
                hidden = superposed_block(*arguments)
            if layer + 1 in space.choices["n_layer"]:
                ends.append(hidden)
        mixed = share_sum(shares["n_layer"][0], ends) if len(ends) > 1 else hidden
        mixed = superposed_norm(stem.ln_f, mixed, embed, widths)
        return self.lm_head(mixed * masks[0].width if by_weights else mixed)


def causal_padding_mask(attention_mask: Tensor | None) -> Tensor | None:
    """(batch, sequence) of ones and zeros -> boolean (batch, 1, sequence, sequence), True where a token may look.

    None stays None: plain causal attention. A padded query looks at itself only, so that no row is empty.
    """
    if attention_mask is None or bool((attention_mask != 0).all()):
        return None
    length = attention_mask.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=attention_mask.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=attention_mask.device)
    return ((causal & (attention_mask != 0)[:, None, :]) | itself)[:, None]


__all__ = ["ElasticGPT2LMHeadModel"]
