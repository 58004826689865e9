"""How much of the whole cost may go into the question which net to take, and what that is enough for.

At equal total cost every step that is spent on choosing is missing in the recovery, and nets of one size differ little once
they have recovered. So everything has an allowance, a share of what the recoveries cost. Of what does not fit less is done::

    1/20    where the uniform cut lacks layers: they are removed one by one on as many examples as fit, at least 8; else they
            are ranked by block influence
    1/50    where layers have biases: means are absorbed, tried on as many examples as fit, at least 4; else not

The choice between nets has a share that is asked for. Where nothing fits the uniform cut is taken untried::

    half        sensitivities, on as many examples as fit, at least 4; else none, and no rival of the uniform cut
    the rest    rivals: the steps of nets that are not taken in the end
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..search.search_cost import SearchCost
from ..space import SearchSpace
from .sensitivities import tried_choices


FEWEST_RANKED, FEWEST_SENSITIVE, FEWEST_ABSORBING = 8, 4, 4  # examples below which losses say too little
MOST_ABSORBING = 16  # examples
RANKING, ABSORBING = 1 / 20, 1 / 50  # of what the recoveries cost
INFLUENCE = 16  # examples of a pass for block influence
FIRST_ROUND = 0.05  # of all steps, after which rivals are compared first: the end of the warm-up
FEWEST_STEPS = 10  # of that round


@dataclass(frozen=True)
class Plan:
    """What a choice may cost, in training steps of the checkpoint.

    Args:
        ranked: Examples on which layers are removed one by one; 0: block influence is taken, None: all layers stay.
        sensitive: Examples on which single choices are tried; 0: none is.
        rivals: Cost of steps of nets that are not taken, for each size.
        absorbing: Examples on which means are absorbed; 0: they are not.
    """

    ranked: int | None
    sensitive: int
    rivals: float
    absorbing: int


def plan_choice(
    space: SearchSpace,
    cost: SearchCost,
    step: float,
    sizes: int,
    steps: int,
    share: float,
    most_ranked: int,
    most_sensitive: int,
    shallower: bool,
    biases: int,
) -> Plan:
    """What fits into the allowances.

    Args:
        space: The nets of the checkpoint.
        cost: Says what a forward pass costs.
        step: What a step of a recovery costs, about.
        sizes: How many nets are asked for.
        steps: Of the recovery of each.
        share: Of the cost of all recoveries, what choosing a net may cost.
        most_ranked: Examples on which layers are removed, at most.
        most_sensitive: Examples of the sensitivities, at most.
        shallower: Whether the uniform cut of some size lacks layers.
        biases: How many take over means.
    """
    whole, ranked, absorbing = step * steps * sizes, None, 0
    allowance = share * whole
    if shallower:
        ranked = _most(most_ranked, FEWEST_RANKED, lambda n: removal_cost(space, cost, n), RANKING * whole)
    if biases:
        price = partial(absorbing_cost, space, cost, biases)
        absorbing = _most(MOST_ABSORBING, FEWEST_ABSORBING, price, ABSORBING * step * steps)
    sensitive = _most(most_sensitive, FEWEST_SENSITIVE, lambda n: sensitivity_cost(space, cost, n), allowance / 2)
    rivals = (allowance - sensitivity_cost(space, cost, sensitive)) / sizes
    if not sensitive or rivals < step * first_round(steps):
        return Plan(ranked, 0, 0.0, absorbing)
    return Plan(ranked, sensitive, rivals, absorbing)


def first_round(steps: int) -> int:
    """Steps of the first comparison of rivals."""
    return min(steps, max(FEWEST_STEPS, round(FIRST_ROUND * steps)))


def rounds(count: int, first: int) -> list[int]:
    """Steps at the end of the rounds after each of which half of the nets end: each twice as long as the one before."""
    found = []
    while count > 1:
        found.append(first * 2 ** len(found))
        count = -(-count // 2)
    return found


def wasted(count: int, first: int) -> int:
    """Steps of all nets but the one that is left."""
    total = 0
    for until in rounds(count, first):
        ended = count // 2
        total, count = total + ended * until, count - ended
    return total


def fitting(most: int, steps: int, step: float, allowed: float) -> int:
    """How many nets can be compared, at most `most`, if the steps of those that end cost `allowed` at most.

    Args:
        most: How many there are.
        steps: Of a recovery, by which one is left.
        step: Cost of a step.
        allowed: Cost of all steps of those that end.
    """
    first = first_round(steps)
    counts = [count for count in range(2, most + 1) if step * wasted(count, first) <= allowed]
    return max((count for count in counts if rounds(count, first)[-1] <= steps), default=1)


def passes(cost: SearchCost, space: SearchSpace, examples: float) -> float:
    """What forward passes of the checkpoint over so many examples cost."""
    spent = SearchCost.like(cost)
    spent.add_evaluation(space.largest, examples)
    return spent.spent


def removal_cost(space: SearchSpace, cost: SearchCost, examples: int) -> float:
    """What removing layers one by one costs; what stands in front of a layer is computed once."""
    if not space.depth_name:
        return 0.0
    layers = space.depths[-1]
    return passes(
        cost, space, sum(examples * (1 + kept / 2) * kept / layers for kept in range(layers, space.depths[0], -1))
    )


def sensitivity_cost(space: SearchSpace, cost: SearchCost, examples: int) -> float:
    """What trying every single choice costs, at most: as if each were a pass of the whole checkpoint."""
    tried = sum(
        len(tried_choices(len(choices))) - 1
        for name, choices in space.choices.items()
        for _ in range(space.rows(name))
    )
    return passes(cost, space, examples * (1 + tried)) if examples else 0.0


def absorbing_cost(space: SearchSpace, cost: SearchCost, biases: int, examples: int) -> float:
    """What trying every bias costs, at most: as if the net were the whole checkpoint."""
    return passes(cost, space, examples * (1 + biases)) if examples else 0.0


def _most(most: int, fewest: int, price: Callable[[int], float], allowed: float) -> int:
    """The most examples, halved until they cost what is allowed; 0 if that takes fewer than `fewest`."""
    count = most
    while count >= min(fewest, most) and count > 0:
        if price(count) <= allowed:
            return count
        count //= 2
    return 0
