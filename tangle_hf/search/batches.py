"""Endless batches that continue, on resume, exactly where they stopped."""

import signal
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader, Dataset


class _InEpochs(Dataset):
    """Examples by (epoch, index): the epoch travels with each batch, to worker processes, too, and ahead of time."""

    def __init__(self, data: Dataset):
        self.data = data

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[dict]:
        if hasattr(self.data, "set_epoch"):
            self.data.set_epoch(keys[0][0])  # no batch spans two epochs
        indices = [index for _, index in keys]
        if hasattr(self.data, "__getitems__"):
            return self.data.__getitems__(indices)
        return [self.data[index] for index in indices]


class Batches:
    """Batches of one data set for ever: shuffled anew each epoch, or a stream in its own order.

    The order is a function of seed and position, and the same global batches are formed by any number of processes
    with the same global batch size. The loaders of accelerate are not used: their shuffled order does not resume.

    Args:
        accelerator: Says which part is this process's, and which device.
        data: Map-style examples, or a stream. If examples have a `set_epoch`, it is called before each epoch: what is
            random about an example can then be a function of seed, epoch and index, and resumes exactly.
        batch_size: Examples per process.
        seed: Seed of the shuffling; each epoch has its own order.
        num_workers: Worker processes that make examples; they change nothing but the time.

    Raises:
        ValueError: The data set holds less than one batch for every process, or a stream is to have workers.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        data: Dataset | IterableDataset,
        batch_size: int,
        seed: int,
        num_workers: int = 0,
    ):
        self.accelerator, self.data, self.batch_size, self.seed = accelerator, data, batch_size, seed
        self.num_workers = num_workers
        self.seen = 0
        self._stream_state: dict | None = None
        world = accelerator.num_processes
        if isinstance(data, IterableDataset) and num_workers:
            # They would read ahead, and the stream's position would not be that of the batch just given.
            raise ValueError(f"dataloader_num_workers={num_workers}: a stream is read without worker processes; use 0")
        if not isinstance(data, IterableDataset) and len(data) < batch_size * world:
            raise ValueError(
                f"{len(data)} examples do not fill one batch of {batch_size} on {world} process(es); "
                "use a smaller --per_device_batch_size or more data"
            )

    def __iter__(self) -> Iterator[dict]:
        batches = self._from_stream() if isinstance(self.data, IterableDataset) else self._from_epochs()
        for batch in batches:
            self.seen += 1
            yield {name: tensor.to(self.accelerator.device, non_blocking=True) for name, tensor in batch.items()}

    def state_dict(self) -> dict:
        """Batches given so far, and the stream's own position."""
        return {"seen": self.seen, "stream": self._stream_state}

    def load_state_dict(self, state: dict) -> None:
        """Continues after the batches that `state_dict` counted; call before iterating."""
        self.seen, self._stream_state = state["seen"], state["stream"]

    def _from_epochs(self) -> Iterator[dict]:
        generator = torch.Generator()  # of its own: a loader must not draw from the generator that dropout uses
        return iter(
            DataLoader(
                _InEpochs(self.data),
                batch_sampler=self._index_batches(),
                generator=generator,
                num_workers=self.num_workers,
                worker_init_fn=_ignore_ctrl_c,
            )
        )

    def _index_batches(self) -> Iterator[list[tuple[int, int]]]:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        per_epoch = len(self.data) // (self.batch_size * world)
        epoch, start = divmod(self.seen, per_epoch)
        while True:
            order = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(self.seed + epoch))
            for number in range(start, per_epoch):
                first = (number * world + rank) * self.batch_size
                yield [(epoch, index) for index in order[first : first + self.batch_size].tolist()]
            epoch, start = epoch + 1, 0

    def _from_stream(self) -> Iterator[dict]:
        rank, world, resumed = self.accelerator.process_index, self.accelerator.num_processes, self._stream_state
        while True:
            part = split_dataset_by_node(self.data, rank, world)  # a new object: a stream keeps where it was put
            if resumed is not None:
                part.load_state_dict(resumed)
            empty = resumed is None
            for batch in DataLoader(part, self.batch_size, drop_last=True, generator=torch.Generator()):
                empty = False
                self._stream_state = part.state_dict()
                yield batch
            if empty:
                raise ValueError("the stream holds less than one batch; use a smaller batch or more data")
            resumed = None


def _ignore_ctrl_c(worker: int) -> None:
    """Ctrl-C reaches worker processes, too, which the search still needs for its last step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
