"""Which utterances make up which batch: planned by (seed, epoch) alone, so runs can resume."""

import fnmatch
import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from e2etts.errors import UserError
from e2etts.seeds import mix

_LENGTH_JITTER = 0.03

Cursor = tuple[int, int]  # (epoch, batches of it already used)


@dataclass(frozen=True)
class Element:
    """One row of a batch: utterances (indices into the dataset) of one speaker, in this order.

    seed drives what is drawn for it (speaker reference, crop).
    """

    utts: tuple[int, ...]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sampler fills its batches with; lengths are in mel frames.

    frames: of every utterance, as the model sees it (cropped, rounded up to whole tokens).
    groups: only utterances of one group (a speaker) are joined.
    repeats: how many times an epoch each utterance occurs; the fraction is drawn every epoch.
    budget_frames: largest padded size of a batch, rows times longest row.
    curriculum_frames: longest row at the beginning; the limit grows by the same factor with every
        batch, until after ``curriculum_epochs`` there is none.
    """

    utts: Sequence[str]
    frames: Sequence[int]
    groups: Sequence[Hashable]
    repeats: Sequence[float]
    budget_frames: int
    concat_probability: float = 0.0
    concat_max_frames: int = 0
    round_to: int = 1
    curriculum_frames: float = math.inf
    curriculum_epochs: float = 0.0


class BatchSampler:
    """Length-bucketed batches within a frame budget, without end and without memory.

    Every process gets the same number of batches an epoch; where they do not divide evenly the
    first ones are used twice. Raises UserError that lists utterances over the budget.
    """

    def __init__(self, plan: Plan, *, seed: int, rank: int = 0, ranks: int = 1):
        long = [f"{u} ({n} frames)" for u, n in zip(plan.utts, plan.frames, strict=True)
                if n + -n % plan.round_to > plan.budget_frames]
        if long:
            raise UserError(
                f"{len(long)} utterances are longer than a batch ({plan.budget_frames} frames): "
                f"{', '.join(long[:10])}{', ...' if len(long) > 10 else ''}: raise "
                "train.batch_seconds or leave them out of the data")
        if not sum(plan.repeats):
            raise UserError("the training set has no utterances: run the prepare stage again")
        self.plan, self.seed, self.rank, self.ranks = plan, seed, rank, ranks
        used = [n for n, times in zip(plan.frames, plan.repeats, strict=True) if times]
        joined = plan.concat_max_frames if plan.concat_probability else 0
        self.shortest, self.longest = min(used), max(*used, joined)
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def batches_from(self, epoch: int, position: int) -> Iterator[list[Element]]:
        """Batches from a cursor on, epoch after epoch."""
        while True:
            yield from self.epoch(epoch)[position:]
            epoch, position = epoch + 1, 0

    def cursors_from(self, epoch: int, position: int) -> Iterator[Cursor]:
        """The cursor after each batch of ``batches_from``."""
        while True:
            for used in range(position + 1, len(self.epoch(epoch)) + 1):
                yield epoch, used
            epoch, position = epoch + 1, 0

    def _epoch(self, epoch: int) -> list[list[Element]]:
        """This process's batches of one epoch."""
        random = np.random.default_rng(mix(self.seed, "epoch", epoch))
        rows = self._rows(random, self._limit(epoch + 1))
        while not rows:  # every utterance has a small weight and none was drawn
            rows = self._rows(random, self._limit(epoch + 1))
        lengths = np.array([self.row_frames(row) for row in rows])
        # Jitter lets rows of similar length meet in other company every epoch.
        order = np.argsort(lengths * random.uniform(1, 1 + _LENGTH_JITTER, len(rows)),
                           kind="stable")
        batches, batch, longest = [], [], 0
        for i in order:
            longest_now = max(longest, lengths[i])
            if batch and longest_now * (len(batch) + 1) > self.plan.budget_frames:
                batches.append(batch)
                batch, longest_now = [], lengths[i]
            batch.append(rows[i])
            longest = longest_now
        batches.append(batch)
        if epoch < self.plan.curriculum_epochs:
            longest = [max(map(self.row_frames, batch)) for batch in batches]
            order = self._short_first(epoch, longest, random)
        else:
            order = random.permutation(len(batches))
        batches = [batches[i] for i in order]
        batches += batches[: -len(batches) % self.ranks]
        seed = mix(self.seed, "rows", epoch)
        numbered = [[Element(row, mix(seed, n, i)) for i, row in enumerate(batch)]
                    for n, batch in enumerate(batches)]
        return numbered[self.rank::self.ranks]

    def _limit(self, passes: float) -> float:
        """Frames of the longest row after so many passes over the data."""
        plan = self.plan
        if passes >= plan.curriculum_epochs:
            return math.inf
        share = passes / plan.curriculum_epochs
        first = min(max(plan.curriculum_frames, self.shortest), self.longest)
        return first ** (1 - share) * self.longest**share

    def _short_first(self, epoch: int, lengths: list[int],
                     random: np.random.Generator) -> list[int]:
        """A random order of the batches of an epoch, given their longest rows, in which each is
        within the limit at its place; where none is, the shortest that is left."""
        by_length = np.argsort(lengths, kind="stable").tolist()
        order, free, admitted = [], [], 0
        for place in range(len(lengths)):
            limit = self._limit(epoch + place / len(lengths))
            while admitted < len(lengths) and (
                    not free or lengths[by_length[admitted]] <= limit):
                free.append(by_length[admitted])
                admitted += 1
            i = int(random.integers(len(free)))
            free[i], free[-1] = free[-1], free[i]
            order.append(free.pop())
        return order

    def row_frames(self, row: tuple[int, ...]) -> int:
        """Frames of joined utterances, rounded up to whole tokens."""
        total = sum(self.plan.frames[i] for i in row)
        return total + -total % self.plan.round_to

    def _rows(self, random: np.random.Generator, longest: float) -> list[tuple[int, ...]]:
        rows: list[tuple[int, ...]] = []
        for occurrences in self._occurrences(random, longest).values():
            while occurrences:
                row = [occurrences.pop()]
                if random.random() < self.plan.concat_probability:
                    frames = self.row_frames(tuple(row))
                    limit = min(self.plan.concat_max_frames, self.plan.budget_frames, longest)
                    limit = random.uniform(min(frames, limit), limit)
                    while (occurrences and occurrences[-1] not in row
                           and self.row_frames((*row, occurrences[-1])) <= limit):
                        row.append(occurrences.pop())
                rows.append(tuple(row))
        return rows

    def _occurrences(self, random: np.random.Generator, longest: float
                     ) -> dict[Hashable, list[int]]:
        """Utterances of this epoch by group, shuffled; repetitions lie a whole pass apart."""
        repeats = np.asarray(self.plan.repeats, dtype=np.float64)
        times = np.floor(repeats + random.random(len(repeats))).astype(int)
        times[np.asarray(self.plan.frames) > longest] = 0
        out: dict[Hashable, list[int]] = defaultdict(list)
        for turn in range(times.max(initial=0)):
            for i in random.permutation(np.flatnonzero(times > turn)):
                out[self.plan.groups[i]].append(int(i))
        return dict(sorted(out.items(), key=lambda item: repr(item[0])))


def speaker_repeats(speakers: Sequence[str], weights: dict[str, float]) -> list[float]:
    """Repeats of each utterance from patterns of speaker ids (the first that fits; default 1).

    Raises UserError for a pattern that fits no speaker, or a negative weight.
    """
    known = sorted(set(speakers))
    for pattern, weight in weights.items():
        if weight < 0:
            raise UserError(f"speaker weight '{pattern}: {weight}': must not be negative; 0 "
                            "leaves them out")
        if not fnmatch.filter(known, pattern):
            raise UserError(f"speaker weight '{pattern}' fits no speaker of the training set: "
                            f"there are {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}")
    chosen = {s: next((w for p, w in weights.items() if fnmatch.fnmatchcase(s, p)), 1.0)
              for s in known}
    return [chosen[s] for s in speakers]
