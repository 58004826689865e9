"""The trainable distribution over a space: logits, their shares, and the discretisation. Knows tensors and spaces only."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .samplers import Sampler
from .space import Architecture, SearchSpace


Mixture = dict[str, Tensor]


class ArchParameters(nn.Module):
    """Architecture parameters: one row of logits per decision of a space.

    A dimension with K choices has logits of shape (1, K), or (`space.rows`, K) where every layer chooses for itself.
    They live outside the supernet: a few dozen numbers with an optimizer of their own.

    Args:
        space: The search space.
        seed: Seed of the small random start, 1e-3 * N(0, 1), that breaks ties.
    """

    def __init__(self, space: SearchSpace, seed: int = 0):
        super().__init__()
        self.space = space
        generator = torch.Generator().manual_seed(seed)
        self.logits = nn.ParameterDict(
            {n: 1e-3 * torch.randn(space.rows(n), len(c), generator=generator) for n, c in space.choices.items()}
        )

    def sample(self, sampler: Sampler, progress: float = 0.0, generator: torch.Generator | None = None) -> Mixture:
        """Draws a mixture: dimension -> shares of shape (rows, K), rows on the simplex, differentiable.

        Args:
            sampler: Turns logits into shares, see `tangle_hf.sampler`.
            progress: How much of the search is done, in [0, 1]; some samplers anneal with it.
            generator: Source of randomness; the global one if None.
        """
        return {name: sampler(logits, progress, generator) for name, logits in self.logits.items()}

    def probabilities(self, sampler: Sampler) -> Mixture:
        """The expected shares under a sampler, same shapes as `sample`, without gradient."""
        return {name: sampler.mean(logits.detach()) for name, logits in self.logits.items()}

    def argmax(self) -> Architecture:
        """The architecture that takes the largest logit of every row."""
        return argmax(self.space, self.logits)

    def entropies(self, sampler: Sampler) -> dict[str, Tensor]:
        """Entropy of every row relative to uniform, in [0, 1]: dimension with several choices -> (rows,); 1 is undecided."""
        rows = {name: p.double() for name, p in self.probabilities(sampler).items() if p.shape[-1] > 1}
        return {n: torch.special.entr(p).sum(-1) / torch.tensor(float(p.shape[-1])).log() for n, p in rows.items()}

    def entropy(self, sampler: Sampler) -> float:
        """Mean of the rows' `entropies`; 0 without any choice."""
        rows = list(self.entropies(sampler).values())
        return torch.cat(rows).mean().item() if rows else 0.0

    def save(self, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
        """Writes the logits as safetensors.

        Args:
            path: The file.
            metadata: What its header is to say, e.g. which method trained the logits.
        """
        save_file({name: logits.detach().cpu().contiguous() for name, logits in self.logits.items()}, path, metadata)

    def load(self, path: str | Path) -> None:
        """Reads logits written by `save`.

        Raises:
            ValueError: There is no such file, it holds something else or numbers that are not finite, or it belongs to
                another space.
        """
        stored = read_logits(path)
        expected = {name: tuple(logits.shape) for name, logits in self.logits.items()}
        found = {name: tuple(tensor.shape) for name, tensor in stored.items()}
        if not expected.keys() & found.keys():
            raise ValueError(
                f"{path} holds {list(found)[:5]}, no logits of {list(expected)}; give the arch_parameters.safetensors of a "
                "search of this space"
            )
        if expected != found:
            raise ValueError(f"{path} holds logits {found}, this space needs {expected}; use the space of that search")
        with torch.no_grad():
            for name, logits in self.logits.items():
                logits.copy_(stored[name])


def read_logits(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file of logits, all of them finite.

    Raises:
        ValueError: There is no such file, or it holds something else or numbers that are not finite.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path} is no file of logits; give the arch_parameters.safetensors of a search")
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} holds no logits, or is cut off ({error}); copy or write it again") from error
    if broken := [name for name, rows in stored.items() if not torch.isfinite(rows).all()]:
        raise ValueError(f"{path} holds logits that are not finite, of {broken}; use those of another search")
    return stored


def argmax(space: SearchSpace, rows: Mapping[str, Tensor]) -> Architecture:
    """The architecture with the largest entry of every row, for logits or shares: dimension -> (rows, K)."""
    return space.from_rows({n: [c[k] for k in rows[n].argmax(-1).tolist()] for n, c in space.choices.items()})


def one_hot(space: SearchSpace, arch: Architecture, dtype: torch.dtype | None = None) -> Mixture:
    """The mixture that gives everything to one architecture.

    Rows of layers that the architecture does not have take the first choice; no output depends on them.

    Raises:
        ValueError: The architecture is not of this space.
    """
    space.validate(arch)
    mixture = {}
    for name, choices in space.choices.items():
        values = arch.values(name)
        index = [0 if v is None else choices.index(v) for v in values] + [0] * (space.rows(name) - len(values))
        index = torch.tensor(index)
        mixture[name] = nn.functional.one_hot(index, len(choices)).to(dtype or torch.get_default_dtype())
    return mixture


def uniform_mixture(space: SearchSpace) -> Mixture:
    """The mixture that gives every choice the same share."""
    return {name: torch.full((space.rows(name), len(c)), 1 / len(c)) for name, c in space.choices.items()}
