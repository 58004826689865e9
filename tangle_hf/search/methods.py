"""Which methods there are: how each trains the weights, and how it chooses the architecture."""

from dataclasses import dataclass

from ..samplers import SAMPLERS, sampler


TRAINING_RULES = ("spos", "sandwich")
STRATEGIES = ("rs", "es", "nsga2")
GRADIENT = "gradient"


@dataclass(frozen=True)
class Method:
    """A search method.

    Args:
        weights: A sampler of mixtures, or a rule of single paths: "spos" (arXiv:1904.00420), or "sandwich"
            (arXiv:1903.05134).
        choice: "gradient": architecture parameters trained along with the weights (one stage); or, after the training
            (two stages), random search "rs", evolution "es" or NSGA-II "nsga2" over the losses that subnets inherit.
    """

    weights: str
    choice: str

    @property
    def two_stage(self) -> bool:
        """Whether the architecture is chosen after the weights are trained."""
        return self.choice != GRADIENT

    @property
    def single_paths(self) -> bool:
        """Whether weight steps run single subnets, not a mixture."""
        return self.two_stage or sampler(self.weights).hard


METHODS = {
    **{name: Method(name, GRADIENT) for name in SAMPLERS},
    **{f"{rule}+{strategy}": Method(rule, strategy) for rule in TRAINING_RULES for strategy in STRATEGIES},
}
