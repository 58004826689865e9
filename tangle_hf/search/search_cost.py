"""What a search costs, in plain-model steps: the one unit in which methods of any kind are compared.

A plain-model step is a training step of the largest net on the batch of a weight step, of the most expensive one where
choices are operations. That one has the most expensive operation on every edge, also where a node keeps two edges only (DARTS)
and no net that is found has all. A backward pass counts as two forward passes, one for the activations and one for the weights,
so with F(arch) FLOPs of a forward pass per example::

    step of a subnet              F(arch) / F(largest)
    step of a mixture             M = 1 of sizes: superposition adds little arithmetic that FLOPs do not count;
                                  M = F(all operations) / F(largest) of operations
    architecture step             2/3 M, without weight gradients; unrolled 10/3 M
    forward pass over n examples  n F(arch) / (3 batch F(largest))
    forward pass of a teacher     1/3, once for every batch: it is the checkpoint that the search starts from

What only reports, such as losses on validation data, does not count.
"""

from copy import copy

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from ..arch_parameters import uniform_mixture
from ..cost.kinds import COSTS, Given
from ..cost.tables import CostTable, exact, of_largest
from ..models.example_inputs import example_inputs
from ..space import Architecture


FORWARD_PASSES = 3  # that a training step is worth


def flops_table(supernet: PreTrainedModel, sequence_length: int | None = None) -> CostTable:
    """FLOPs of a forward pass over one example; of text as many tokens as the model has positions, if None is given."""
    return COSTS["flops"].table(supernet.config, Given(example_length(supernet, sequence_length)))


def example_length(supernet: PreTrainedModel, sequence_length: int | None) -> int | None:
    """Tokens of an example of text: what is given, or as many as the model has positions; None of an image."""
    return getattr(supernet.config, "max_position_embeddings", None) if sequence_length is None else sequence_length


class SearchCost:
    """Adds up plain-model steps.

    Args:
        supernet: What is searched.
        batch_size: Examples of a weight step, over all processes and micro-batches.
        sequence_length: Tokens of an example of text; None: as many as the model has positions.
        spent: Where to start.
    """

    def __init__(
        self, supernet: PreTrainedModel, batch_size: int, sequence_length: int | None = None, spent: float = 0.0
    ):
        self.batch_size, self.spent = batch_size, spent
        self._table = flops_table(supernet, sequence_length)
        self._largest = of_largest(self._table)
        self._mixture = 1.0 if supernet.space.ordered else _flops_of_all(supernet) / self._largest

    @classmethod
    def like(cls, other: "SearchCost") -> "SearchCost":
        """Another one of the same net and batch, from zero."""
        found = copy(other)
        found.spent = 0.0
        return found

    def add_weight_step(self, arch: Architecture | None = None, count: int = 1) -> None:
        """Training steps of a subnet, or of a mixture if None."""
        self.spent += count * (self._mixture if arch is None else self.relative(arch))

    def add_arch_step(self, unrolled: bool = False) -> None:
        """An architecture step: a training step without weight gradients; unrolled, two with and two without them."""
        without_weights = (FORWARD_PASSES - 1) / FORWARD_PASSES
        self.spent += self._mixture * (2 + 2 * without_weights if unrolled else without_weights)

    def add_evaluation(self, arch: Architecture, examples: int) -> None:
        """A forward pass of a subnet over so many examples."""
        self.spent += examples * self.relative(arch) / (FORWARD_PASSES * self.batch_size)

    def add_teacher(self, count: int = 1) -> None:
        """Forward passes of the teacher, of the sizes of the largest net, over the batch of a step."""
        self.spent += count / FORWARD_PASSES

    def relative(self, arch: Architecture) -> float:
        """What a step of a subnet costs."""
        return exact(self._table, arch) / self._largest


@torch.no_grad()
def _flops_of_all(supernet: PreTrainedModel) -> int:
    """FLOPs of a forward pass over one example that computes every operation."""
    training = supernet.training
    supernet.eval()  # statistics of batch norms stay as they are
    with FlopCounterMode(display=False) as counter:
        supernet(**example_inputs(supernet), mixture=uniform_mixture(supernet.space))
    supernet.train(training)
    return counter.get_total_flops()
