"""Batches continue exactly where they stopped: shuffled data across epochs, and streams."""

import itertools
import os

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset

from tangle_hf.search.batches import Batches


def examples(stream: bool):
    data = Dataset.from_dict({"input_ids": [[i] for i in range(10)]})
    if not stream:
        return data.with_format("torch")
    doubled = data.to_iterable_dataset(num_shards=2).map(
        lambda rows: {"input_ids": [x for row in rows["input_ids"] for x in (row, [row[0] + 100])]},
        batched=True,
        batch_size=3,
    )
    return doubled.with_format("torch")


def take(batches, count):
    return [batch["input_ids"][:, 0].tolist() for batch in itertools.islice(iter(batches), count)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", [1, 2, 4, 6, 7])
def test_resumed_batches_are_those_of_an_uninterrupted_run(stream, stop):
    accelerator = Accelerator(cpu=True)
    whole = take(Batches(accelerator, examples(stream), 3, seed=0), 12)
    first = Batches(accelerator, examples(stream), 3, seed=0)
    assert take(first, stop) == whole[:stop]
    second = Batches(accelerator, examples(stream), 3, seed=0)
    second.load_state_dict(first.state_dict())
    assert take(second, 12 - stop) == whole[stop:]
    assert whole[0] != whole[3] and torch.tensor(whole).unique().numel() >= 9


class EpochExamples(torch.utils.data.Dataset):
    epoch = None

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return {"input_ids": torch.tensor([100 * self.epoch + index, os.getpid()])}


def test_examples_learn_their_epoch_and_a_resumed_run_tells_them_the_same():
    accelerator = Accelerator(cpu=True)
    whole = take(Batches(accelerator, EpochExamples(), 3, seed=0), 7)
    assert [batch[0] // 100 for batch in whole] == [0, 0, 1, 1, 2, 2, 3]
    for stop in range(1, 7):
        resumed = Batches(accelerator, EpochExamples(), 3, seed=0)
        resumed.load_state_dict({"seen": stop, "stream": None})
        assert take(resumed, 7 - stop) == whole[stop:]


def test_workers_make_the_same_batches():
    accelerator = Accelerator(cpu=True)
    alone = take(Batches(accelerator, EpochExamples(), 3, seed=0), 7)
    batches = list(itertools.islice(Batches(accelerator, EpochExamples(), 3, seed=0, num_workers=2), 7))
    assert [batch["input_ids"][:, 0].tolist() for batch in batches] == alone
    assert os.getpid() not in {pid for batch in batches for pid in batch["input_ids"][:, 1].tolist()}
    with pytest.raises(ValueError, match="without worker processes"):
        Batches(accelerator, examples(stream=True), 3, seed=0, num_workers=2)
