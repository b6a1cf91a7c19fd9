"""From a dataset to padded batches: an endless stream for training, one pass for validation."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator

import torch
from torch.utils.data import DataLoader

from e2etts.data.batch import Batch, collate
from e2etts.data.dataset import MelDataset
from e2etts.data.sampler import BatchSampler, Cursor, Element
from e2etts.errors import UserError
from e2etts.seeds import mix


def training_stream(
    dataset: MelDataset, batch_seconds: float, *, seed: int, workers: int = 1,
) -> Callable[..., Iterator[tuple[Batch, Cursor]]]:
    """What ``Trainer`` takes as ``train``: ``stream(cursor, rank, ranks)`` yields (batch, cursor
    after it) without end.

    Raises UserError for utterances longer than batch_seconds.
    """
    plan = dataset.plan(batch_seconds, training=True)
    BatchSampler(plan, seed=seed)  # refuses what does not fit now, not when training starts

    def stream(cursor: Cursor, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Batch, Cursor]]:
        sampler = BatchSampler(plan, seed=seed, rank=rank, ranks=ranks)
        loader = _loader(dataset, _From(sampler, cursor), workers)
        try:
            yield from zip(loader, sampler.cursors_from(*cursor), strict=False)
        except UserError as e:  # a worker process wraps it into its traceback
            raise UserError(str(e).rpartition("UserError: ")[2].strip()) from e

    return stream


def dev_batches(dataset: MelDataset, batch_seconds: float, rank: int = 0, ranks: int = 1
                ) -> Callable[[], Iterable[Batch]]:
    """What ``Trainer`` takes as ``dev``: the same batches in the same order at every call. With
    ``ranks``, one in so many of them."""
    plan = dataset.plan(batch_seconds, training=False)
    longest = max(plan.frames, default=0) + plan.round_to
    rows = sorted(range(len(dataset)), key=lambda i: plan.frames[i])
    batches: list[list[Element]] = [[]]
    for i in rows:
        size = plan.frames[i] + -plan.frames[i] % plan.round_to
        if batches[-1] and size * (len(batches[-1]) + 1) > max(plan.budget_frames, longest):
            batches.append([])
        batches[-1].append(Element((i,), mix("dev", dataset.utts[i])))
    return lambda: _loader(dataset, batches[rank::ranks], 0)


class _From:
    """Batches of a sampler from a cursor on, as an iterable that a DataLoader takes."""

    def __init__(self, sampler: BatchSampler, cursor: Cursor):
        self.sampler, self.cursor = sampler, cursor

    def __iter__(self) -> Iterator[list[Element]]:
        return self.sampler.batches_from(*self.cursor)


def _loader(dataset: MelDataset, batches: Iterable[list[Element]], workers: int) -> DataLoader:
    method = "fork" if workers and "fork" in multiprocessing.get_all_start_methods() else None
    return DataLoader(
        dataset, batch_sampler=batches, collate_fn=collate, num_workers=workers,
        prefetch_factor=4 if workers else None, persistent_workers=bool(workers),
        pin_memory=torch.cuda.is_available(), worker_init_fn=_start_worker,
        multiprocessing_context=method)


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    # The main process decides when to stop: requests to its whole group must not end a worker.
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
