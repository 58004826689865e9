"""What the supernets of language models share: a forward pass that takes a mixture or an architecture."""

from collections.abc import Mapping
from types import SimpleNamespace

from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutput

from ..space import Architecture
from .supernet import SupernetMixin, check_arguments


class CausalLMSupernetMixin(SupernetMixin):
    """Comes before the stock language model in the bases of an `Elastic*` model; a family adds `superposed`."""

    auto_model = AutoModelForCausalLM

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
    ) -> CausalLMOutput:
        """Runs the largest net (stock), the superposition of all nets (`mixture`), or one subnet (`arch`).

        Args:
            input_ids: Tokens (batch, sequence).
            *args: As in the stock model (only without mixture and arch).
            attention_mask: 1 for tokens, 0 for padding, (batch, sequence).
            position_ids: Positions (batch, sequence) or (1, sequence).
            labels: Token ids (batch, sequence), shifted inside; -100 is ignored.
            mixture: Dimension -> shares (rows, K), see `ArchParameters.sample` and `one_hot`.
            arch: The architecture to run single-path, at the cost of the small net.
            **kwargs: As in the stock model.

        Raises:
            ValueError: Both `mixture` and `arch` are given, either does not fit the space, an argument of the stock model
                is passed that the superposition does not take, or a sliding window would cut the text.
        """
        inputs = {"attention_mask": attention_mask, "position_ids": position_ids, "labels": labels}
        if mixture is None and arch is None:
            given = {name: value for name, value in inputs.items() if value is not None}
            return super().forward(input_ids, *args, **given, **kwargs)
        check_arguments(mixture, arch, args, kwargs, allowed=("use_cache",))
        check_window(self.config, input_ids.shape[1])
        if arch is not None:
            return self._single_path(arch, {"input_ids": input_ids, "use_cache": False, **inputs})
        logits = self.superposed(input_ids, attention_mask, position_ids, self._shares(mixture))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size)
        return CausalLMOutput(loss=loss, logits=logits)

    def superposed(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        shares: Mapping[str, Tensor],
    ) -> Tensor:
        """The logits under checked shares."""
        raise NotImplementedError


def check_window(config: PreTrainedConfig, tokens: int) -> None:
    """Refuses a text that a sliding window would cut: supernets attend to all tokens before, the same only without a cut.

    Args:
        config: The supernet's; it has a `window` where its stock model may have one.
        tokens: Length of the text.

    Raises:
        ValueError: The text is longer than the window.
    """
    window = getattr(config, "window", None)
    if window is not None and tokens > window:
        by_layer = getattr(config, "layer_types", None) is not None
        without = "use_sliding_window=False and layer_types=None" if by_layer else "sliding_window=None"
        raise ValueError(
            f"{tokens} tokens are more than sliding_window={window}, and a supernet attends to all tokens before: take blocks "
            f"of at most {window} (--block_size), or load it with {without}, a net without a window"
        )


def attention_pattern(
    config: PreTrainedConfig, embedded: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None
) -> Tensor | None:
    """Where a token may look, as the stock model has it: its mask for SDPA, None for plain causal attention.

    A token in front of which everything is padding sees nothing, or with eager attention, whose mask is a number to add,
    everything. Positions that start again, without an attention mask and a cache, start a new text.

    Args:
        config: The supernet's.
        embedded: (batch, sequence, E).
        attention_mask: (batch, sequence) of ones and zeros, or what else stock takes.
        position_ids: As they were given.
    """
    if config._attn_implementation not in (
        "eager",
        "sdpa",
    ):  # a mixture is attended with SDPA, whatever its subnets take
        config = SimpleNamespace(_attn_implementation="sdpa")
    return create_causal_mask(config, embedded, attention_mask, None, position_ids)
