"""Images for convolutional nets: whatever is scored or exported gets batch-norm statistics of its own, from training images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from transformers import PreTrainedModel

from ..data.examples import Mixture
from ..data.images.examples import ImageExamples
from ..data.images.transforms import EvaluationImages, evaluation_images
from ..data.trained_tables import Table, look_up
from ..evaluation import accuracy
from ..space import Architecture
from ..subnets.extraction import extract
from ..subnets.recalibration import recalibrate, still_batches


@dataclass(frozen=True, eq=False)
class ConvExamples(ImageExamples):
    """Images, and what statistics of batch norms are made of.

    Args:
        own: Training images of the weights, as they are evaluated.
        recalibration_batches: Batches of them that give a net its statistics.
        seed: Seed of the choice of these batches.
        table: Table of trained architectures, whose scores are shown beside those of the search.
        write: Architecture -> how the field writes it.
    """

    own: EvaluationImages | None = None
    recalibration_batches: int = 0
    seed: int = 0
    table: Table | None = None
    write: Callable[[Architecture], str] | None = None

    def settle(
        self, model: PreTrainedModel, batch_size: int, most: int | None = None, mixture: Mixture | None = None
    ) -> None:
        count = self.recalibration_batches if most is None else min(most, self.recalibration_batches)
        recalibrate(model, still_batches(self.own, batch_size, count, self.seed), mixture)

    def score(
        self,
        model: PreTrainedModel,
        examples,
        batch_size: int,
        most: int | None = None,
        arch: Architecture | None = None,
        mixture: Mixture | None = None,
    ) -> Mapping[str, float]:
        """Scores a subnet (`arch`), cut out and with its own statistics, or a mixture in the supernet as it is."""
        if arch is None:
            return accuracy(model, examples, batch_size, most, **({} if mixture is None else {"mixture": mixture}))
        subnet = extract(model, arch)
        self.settle(subnet, batch_size, most)
        scores = accuracy(subnet, examples, batch_size, most)
        return scores | {f"table_{name}": value for name, value in self.known(arch).items()}

    def known(self, arch: Architecture) -> dict[str, float]:
        return {} if self.table is None else look_up(self.table, arch)

    def notation(self, arch: Architecture) -> str | None:
        return None if self.write is None else self.write(arch)


def conv_examples(
    images: ImageExamples,
    train_portion: float,
    seed: int,
    recalibration_batches: int,
    *,
    batch: int = 1,
    table: Table | None = None,
    write: Callable[[Architecture], str] | None = None,
) -> ConvExamples:
    """Examples whose nets get batch-norm statistics from the training images that such a split gives to the weights."""
    weights, _ = images.cut(train_portion, seed, batch)
    own = evaluation_images(weights, images.settings, images.processor)
    given = {item.name: getattr(images, item.name) for item in fields(images)}
    return ConvExamples(
        **given, own=own, recalibration_batches=recalibration_batches, seed=seed, table=table, write=write
    )
