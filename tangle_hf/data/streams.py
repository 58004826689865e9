"""Parts of a stream, whose length and order nobody knows: every example tells by itself where it belongs."""

from collections.abc import Callable

from datasets import IterableDataset


def cut_stream(
    train: IterableDataset, name: str, checksum: Callable[[dict], int]
) -> tuple[IterableDataset, IterableDataset]:
    """What is left of the training examples, and about every 20th of them, for validation or test.

    The content of a row decides and not its position: each process counts only the rows of its own shards, and evaluation,
    which reads all shards, would meet rows that training has seen.

    Args:
        train: The training examples.
        name: "validation" or "test".
        checksum: Row -> a whole number of its content.
    """
    rest = {"validation": 7, "test": 8}[name]  # two cuts of one stream must differ
    return train.filter(lambda row: checksum(row) % 20 != rest), train.filter(lambda row: checksum(row) % 20 == rest)


def split_stream(
    train: IterableDataset, train_portion: float, checksum: Callable[[dict], int]
) -> tuple[IterableDataset, IterableDataset]:
    """What trains the weights and what trains the architecture, told apart like that, too.

    Args:
        train: The training examples, of which `cut_stream` may have taken some.
        train_portion: Share of the weights, in twentieths.
        checksum: The same as for `cut_stream`: its remainder by 20 cuts, and the quotient, which splits, is independent of it.

    Raises:
        ValueError: One part would be empty.
    """
    weights = weight_twentieths(train_portion)
    return (
        train.filter(lambda row: checksum(row) // 20 % 20 < weights),
        train.filter(lambda row: checksum(row) // 20 % 20 >= weights),
    )


def weight_twentieths(train_portion: float) -> int:
    """How many of 20 examples are for the weights, the others being for the architecture.

    Raises:
        ValueError: One part would be empty.
    """
    twentieths = round(20 * train_portion)
    if not 0 < twentieths < 20:
        raise ValueError(f"train_portion={train_portion} leaves a part of a stream empty; use 0.05 to 0.95")
    return twentieths
