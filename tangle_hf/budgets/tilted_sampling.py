"""Random architectures whose costs lie in boxes, where costs are too many to add up: exact, by rejection.

Independent choices seldom hit a narrow box. If the share of every choice is multiplied by exp(-price * cost), the choices stay
independent, and the prices move their costs towards the box. A draw is then kept with the probability that undoes this tilt.
At the prices that make the envelope smallest (Chernoff's bound) a draw is kept about as often as a normal variable falls into
the box.
"""

import random
from collections.abc import Sequence

import numpy as np

from .best_within import Box
from .plans import Option, Plan, ahead, lowest_prices


BATCHES = (4, 16, 64, *[256] * 1000)  # draws at a time; if none of them is kept, the boxes count as out of reach
WIDEST_PRICE = 1e4  # in nats per whole limit


class TiltedSampler:
    """Draws from all architectures in the boxes, each with a probability in proportion to exp(its score)::

        proposed with   sum over boxes b of exp(score + paid_b - prices_b . cost)  in proportion, where in box b
                        paid_b >= prices_b . cost
        kept with       1 / sum over boxes b of exp(paid_b - prices_b . cost)      if the costs lie in a box

    Args:
        plans: What there is to draw. Scores are logarithms of probabilities, with nothing for layers that are missing.
        boxes: What the costs may be; boxes may overlap.

    Raises:
        ValueError: None of the draws of `BATCHES` is kept.
    """

    def __init__(self, plans: Sequence[Plan], boxes: Sequence[Box]):
        self._boxes = boxes
        self._tilts = [[_Tilt(plan, box) for box in boxes] for plan in plans]
        masses = np.array([tilt.log_mass for tilts in self._tilts for tilt in tilts])
        if not np.isfinite(masses.max()):
            raise ValueError("there is nothing in the boxes")
        odds = np.exp(masses - masses.max())
        self._odds = np.cumsum(odds) / odds.sum()
        self.sample(random.Random(0))

    def sample(self, rng: random.Random) -> Option:
        """Draws one architecture, as ((dimension, row), choice) of all its choices; depends on `rng` only."""
        generator = np.random.default_rng(rng.getrandbits(64))
        for size in BATCHES:
            which = np.searchsorted(self._odds, generator.random(size), side="right")
            uniform = generator.random(size)
            kept = []
            for number in np.unique(which):
                plan, box = divmod(int(number), len(self._boxes))
                rows = np.flatnonzero(which == number)
                picks, costs = self._tilts[plan][box].draw(len(rows), generator)
                inside = np.any([((costs >= b.lower) & (costs <= b.upper)).all(1) for b in self._boxes], axis=0)
                excess = np.stack([tilt.paid - costs @ tilt.prices for tilt in self._tilts[plan]])
                # A box that the plan cannot reach has no share in the proposals.
                excess[[not np.isfinite(tilt.log_mass) for tilt in self._tilts[plan]]] = -np.inf
                inside &= np.log(uniform[rows]) <= -np.logaddexp.reduce(excess, axis=0)
                kept += [(rows[n], plan, picks[n]) for n in np.flatnonzero(inside)[:1]]
            if kept:
                _, plan, picks = min(kept, key=lambda entry: entry[0])
                return self._tilts[plan][0].chosen(picks)
        raise ValueError(
            f"hardly any architecture keeps to all limits: none of {sum(BATCHES):,} draws does; raise one of the budgets"
        )


class _Tilt:
    """Independent choices of a plan under the prices that suit a box.

    Attributes:
        prices: (costs,).
        paid: What `prices . cost` is at most in the box.
        log_mass: log of the sum over architectures of exp(score + paid - prices . cost), the mass of the envelope.
    """

    def __init__(self, plan: Plan, box: Box):
        self._plan = plan
        least = plan.costs + ahead(plan, lambda decision: decision.costs, lambda costs: costs.min(0))[0, 0]
        most = plan.costs + ahead(plan, lambda decision: decision.costs, lambda costs: costs.max(0))[0, 0]
        lower, upper = np.maximum(box.lower, least), np.minimum(box.upper, most)
        self.prices, self.paid, self.log_mass = np.zeros(len(upper)), 0.0, -np.inf
        if (lower > upper).any():
            return

        def paid(prices: np.ndarray) -> np.ndarray:
            return np.where(prices > 0, prices * upper, prices * lower).sum(-1)

        def mass(prices: np.ndarray) -> np.ndarray:
            return plan.score + self._sums(prices)[0, 0] - prices @ plan.costs + paid(prices)

        scale = np.maximum(upper, 1)
        prices = lowest_prices(lambda p: mass(p / scale), upper == most, lower == least, WIDEST_PRICE) / scale
        self.prices, self.paid, self.log_mass = prices, float(paid(prices)), float(mass(prices[None])[0])
        sums = self._sums(prices[None])[:, :, 0]
        self._cumulative = []
        for number, decision in enumerate(plan.decisions):
            logs = decision.scores - decision.costs @ prices + sums[number + 1, decision.ends.astype(int)]
            odds = np.exp(logs - max(logs.max(), -1e300))
            self._cumulative.append(np.cumsum(odds) / max(odds.sum(), 1e-300))

    def _sums(self, prices: np.ndarray) -> np.ndarray:
        return ahead(
            self._plan,
            lambda decision: decision.scores[:, None] - decision.costs @ prices.T,
            lambda values: np.logaddexp.reduce(values, axis=0),
        )

    def draw(self, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws `count` architectures: picks (count, decisions), -1 behind the end of a stage, and costs (count, costs)."""
        picks = np.full((count, len(self._plan.decisions)), -1)
        costs = np.tile(self._plan.costs, (count, 1))
        ended = np.zeros(count, dtype=bool)
        for number, (decision, cumulative) in enumerate(zip(self._plan.decisions, self._cumulative, strict=True)):
            if decision.first:
                ended[:] = False
            inside = np.flatnonzero(~ended)
            taken = np.searchsorted(cumulative, generator.random(len(inside)), side="right")
            picks[inside, number] = taken
            costs[inside] += decision.costs[taken]
            ended[inside] = decision.ends[taken]
        return picks, costs

    def chosen(self, picks: np.ndarray) -> Option:
        """((dimension, row), choice) of all choices."""
        options = (d.options[pick] for d, pick in zip(self._plan.decisions, picks, strict=True) if pick >= 0)
        return [*self._plan.chosen, *(part for option in options for part in option)]
