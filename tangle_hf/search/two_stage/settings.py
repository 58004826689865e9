"""Settings of two-stage methods, with the help texts that recipes show."""

from dataclasses import dataclass, field

from ...cost.kinds import COSTS


PATH_SAMPLINGS = ("uniform", "stratified", "budget")


@dataclass
class TwoStageArguments:
    """Training on single paths, then a search over candidates. Defaults: AutoFormer (arXiv:2107.00651), as in the paper.

    Raises:
        ValueError: A value is out of its range; the message says which values are allowed.
    """

    path_sampling: str = field(
        default="uniform",
        metadata={
            "group": "methods of two stages",
            "help": "two-stage methods: single paths of the training are drawn uniform over each dimension, stratified (all "
            "sizes equally often), or within the budget only",
        },
    )
    sandwich_paths: int = field(
        default=2, metadata={"help": "sandwich: random subnets of a step, beside the largest and the smallest"}
    )
    distillation: float = field(
        default=0.0,
        metadata={
            "help": "sandwich: share of the largest net's outputs, as a target beside the labels, in the losses of the other "
            "subnets; 1 is in-place distillation, for which the largest should be good already (start_from)"
        },
    )
    candidate_batches: int = field(
        default=10,
        metadata={
            "help": "batches of the architecture part of the training data on which candidates are evaluated, by all methods"
        },
    )
    population_size: int = field(default=50, metadata={"help": "rs, es, nsga2: candidates of a generation"})
    generations: int = field(
        default=20, metadata={"help": "rs, es, nsga2: generations, of which the first is drawn at random"}
    )
    num_parents: int = field(
        default=10,
        metadata={
            "help": "es: best candidates so far, from which others are made; of all methods so many are in results.json"
        },
    )
    num_mutations: int = field(default=25, metadata={"help": "es: mutations of a generation"})
    num_crossovers: int = field(
        default=25, metadata={"help": "es: crossovers of a generation; random ones fill it up"}
    )
    mutation_prob: float = field(
        default=0.2, metadata={"help": "es, nsga2: probability that a per-layer value is drawn anew"}
    )
    whole_mutation_prob: float = field(
        default=0.4,
        metadata={
            "help": "es, nsga2: probability that a value of the whole net, such as depth or width, is drawn anew"
        },
    )
    nsga2_cost: str = field(
        default="params", metadata={"help": f"nsga2: the objective beside the loss: {', '.join(COSTS)}"}
    )

    def __post_init__(self):
        if self.path_sampling not in PATH_SAMPLINGS:
            raise ValueError(f"path_sampling={self.path_sampling!r} is unknown; choose one of {PATH_SAMPLINGS}")
        if self.nsga2_cost not in COSTS:
            raise ValueError(f"nsga2_cost={self.nsga2_cost!r} is unknown; choose one of {list(COSTS)}")
        for name in ("candidate_batches", "population_size", "generations", "num_parents"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("sandwich_paths", "num_mutations", "num_crossovers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        for name in ("mutation_prob", "whole_mutation_prob", "distillation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be between 0 and 1")
