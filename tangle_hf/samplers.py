"""Samplers: logits -> shares. One short class for each way of turning architecture parameters into a mixture.

Every sampler is called as `sampler(logits, progress, generator)` with logits of shape (..., K) and returns shares of the
same shape, rows summing to one, differentiable in the logits. `sampler.mean(logits)` is what it gives
on average and what reports show. A new sampler is one class and one line in `SAMPLERS`.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Sampler(Protocol):
    """What the trainer needs of a sampler."""

    hard: bool
    "True if shares are one-hots in the forward pass: a net under them is the subnet of their argmax."

    def __call__(self, logits: Tensor, progress: float = 0.0, generator: torch.Generator | None = None) -> Tensor: ...

    def mean(self, logits: Tensor) -> Tensor: ...


class DARTS:
    """Softmax: `shares = softmax(logits)`. DARTS, arXiv:1806.09055, equation 2."""

    hard = False

    def __call__(self, logits: Tensor, progress: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
        return logits.softmax(-1)

    def mean(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)


class DrNAS:
    """Dirichlet: `shares ~ Dir(elu(logits) + 1)`, reparameterised. DrNAS, arXiv:2006.10355, section 3.1.

    Drawn as normalised Gamma variables, `shares_k = G_k / sum_j G_j` with G_k ~ Gamma(elu(logit_k) + 1), whose samples torch
    differentiates. It computes their logarithms in double precision: at a concentration of 4e-4, which a logit of -8 has, most
    samples are too small for any floating-point number.
    """

    hard = False

    def __call__(self, logits: Tensor, progress: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
        return _log_gamma(_concentration(logits).double(), generator).softmax(-1).to(logits.dtype)

    def mean(self, logits: Tensor) -> Tensor:
        concentration = _concentration(logits)
        return concentration / concentration.sum(-1, keepdim=True)

    def divergence(self, logits: Tensor) -> Tensor:
        """KL(Dir(elu(logits) + 1) || Dir(1)), summed over rows, in nats: the distance from the flat Dirichlet (section 3.3)."""
        flat = torch.distributions.Dirichlet(torch.ones_like(logits))
        own = torch.distributions.Dirichlet(_concentration(logits))
        return torch.distributions.kl_divergence(own, flat).sum()


class GDAS:
    """Hard Gumbel-softmax with full straight-through gradients. GDAS, arXiv:1910.04465, section 3.2.

    `soft = softmax((logits + gumbel) / tau)`, `shares = one_hot(argmax soft) + soft - stop(soft)`; tau falls linearly
    from `tau_max` to `tau_min` with progress. The original scales the chosen operation only, which gives depth (read
    through a scale-invariant norm) no gradient; the full straight-through form gives every choice one.
    """

    hard = True

    def __init__(self, tau_max: float = 10.0, tau_min: float = 0.1):
        self.tau_max, self.tau_min = tau_max, tau_min

    def __call__(self, logits: Tensor, progress: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
        tau = self.tau_max + (self.tau_min - self.tau_max) * progress
        gumbel = -torch.empty_like(logits).exponential_(generator=generator).log()
        soft = ((logits + gumbel) / tau).softmax(-1)
        return _one_hot(soft.argmax(-1), soft) + soft - soft.detach()

    def mean(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)


class ReinMax:
    """Hard sample with second-order straight-through gradients. ReinMax, arXiv:2304.08612, algorithm 2 (tau = 1).

    With `p = softmax(logits)` and a sample D ~ p: `q = (D + p) / 2`, `q' = softmax(stop(log q - logits) + logits)`,
    `shares = D + g - stop(g)` where `g = 2 q' - p / 2`.
    """

    hard = True

    def __call__(self, logits: Tensor, progress: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
        p = logits.softmax(-1)
        drawn = torch.multinomial(p.detach(), 1, generator=generator).squeeze(-1)
        hard = _one_hot(drawn, p)
        midpoint = ((hard + p) / 2).clamp_min(torch.finfo(p.dtype).tiny)
        shifted = ((midpoint.log() - logits).detach() + logits).softmax(-1)
        surrogate = 2 * shifted - p / 2
        return hard + surrogate - surrogate.detach()

    def mean(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)


SAMPLERS = {"darts": DARTS, "drnas": DrNAS, "gdas": GDAS, "reinmax": ReinMax}


def sampler(name: str) -> Sampler:
    """The sampler of a name: `darts`, `drnas`, `gdas` or `reinmax`.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in SAMPLERS:
        raise ValueError(f"{name!r} is not a sampler; choose one of {sorted(SAMPLERS)}")
    return SAMPLERS[name]()


def _concentration(logits: Tensor) -> Tensor:
    return F.elu(logits) + 1 + 1e-4  # 1e-4 keeps a concentration of a very negative logit away from zero


def _log_gamma(concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """Logarithms of Gamma variables, differentiable.

    Samples below 1e-200 are drawn again by inverting the distribution function, which there is, up to a relative error of x::

        P(X < x) = x^a / Gamma(a + 1)     =>     log x = (log u + log Gamma(a + 1)) / a,     u = P(X < x)
    """
    smallest = 1e-200
    gamma = torch._standard_gamma(concentration, generator=generator)
    logs = gamma.clamp_min(smallest).log()
    if not (small := gamma < smallest).any():
        return logs
    uniform = 1 - torch.rand(gamma.shape, dtype=gamma.dtype, device=gamma.device, generator=generator)  # (0, 1]
    scale = (concentration + 1).lgamma()
    quantile = concentration.detach() * math.log(smallest) - scale.detach() + uniform.log()
    return torch.where(small, (quantile + scale) / concentration, logs)


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    return F.one_hot(index, like.shape[-1]).to(like.dtype)
