"""Validation with fixed batches and noise."""

import itertools
import operator
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from e2etts.data.batch import Batch
from e2etts.errors import UserError
from e2etts.seeds import mix
from e2etts.train.config import weight_at
from e2etts.train.logging import Means
from e2etts.train.step import Stepper
from e2etts.train.task import EVALUATION

# Of the speech that training reads between two evaluations, what the second one reads: a forward
# pass costs a third to six tenths of a step, so that this costs 2 to 4 % of the time.
PART = 0.06
MOST_TIME = 0.04  # of a stage that is bounded by minutes, spent on validation between validations


class Evaluation(NamedTuple):
    """values: mean losses and metrics; "loss" is the weighted sum. selection: the same sum over
    what every evaluation of the stage has in common; the least one is the best. split: "dev", or
    "part" for a part of the dev set."""

    values: dict[str, float]
    selection: float
    split: str


class Evaluator:
    """Computes the losses of the first phase on the dev set, and metrics of samples that the model
    generates for one batch, the one of median length.

    Where validations are far apart for the stage, it is evaluated in between on a part of the dev
    set, without samples, so that its best weights are chosen among more than the last ones. The
    part is decided at the first evaluation and stays; by its loss all are compared.

    batches: returns an iterable for one pass over the dev set. given_up: called before every
    batch; validation is aborted if it returns True, so that a stopping process ends in time.
    """

    def __init__(self, stepper: Stepper, batches: Callable[[], Iterable[Batch]], *, seed: int,
                 sampled_utts: int, given_up: Callable[[], bool]):
        self.stepper, self.task, self.ranks = stepper, stepper.task, stepper.ranks
        self.batches, self.given_up = batches, given_up
        self.seed, self.sampled_utts = seed, sampled_utts
        self.part: int | None = None  # batches; None before the first evaluation
        self.evaluated = 0.0  # progress at the last evaluation
        self.between, self.seconds_between = 0, 0.0  # those on a part, and their time

    def due(self, progress: float, seconds: float) -> bool:
        """Whether to evaluate on a part of the dev set, at a progress and after ``seconds`` of
        training; the same in every process."""
        config = self.stepper.config
        self.evaluated = min(self.evaluated, progress)  # less where the limits have been raised
        share = progress - self.evaluated + 1e-9
        if not config.validations or progress >= 1 or share * config.validations < 1:
            return False
        # Steps alone bound other stages, and then the clock must not decide what is evaluated.
        each = self.seconds_between / max(1, self.between)
        return config.max_minutes is None or self.ranks.all(
            self.seconds_between + each <= MOST_TIME * seconds)

    def note_between(self, seconds: float) -> None:
        """An evaluation on a part, and saving what was best by it, took so long."""
        self.between += 1
        self.seconds_between += seconds

    def evaluate(self, progress: float, audio_seconds: float, *, part: bool = False
                 ) -> Evaluation | None:
        """Losses over the dev set, or the part of it, with EMA weights; None if it was aborted.
        progress, audio_seconds: of training so far.

        Raises UserError for a dev set without batches."""
        batches = self.batches()
        count = operator.length_hint(batches)
        common = self._common(count, progress, audio_seconds)
        whole = not part or common is None
        means, selection = Means(), Means()
        self.task.eval()
        with self.stepper.ema.applied(), torch.no_grad():
            for number, batch in enumerate(batches):
                if not whole and number > max(common):
                    break
                if number % self.ranks.count != self.ranks.rank or not (whole or number in common):
                    continue
                if self.given_up():
                    break
                torch.manual_seed(mix(self.seed, "dev", number))
                losses, frames = self._losses_of(batch), float(batch.mel_lens.sum())
                means.add(losses, frames)
                if common is None or number in common:
                    selection.add({"loss": losses["loss"]}, frames)
                if number == count // 2 and not part:
                    means.add(self._samples_of(batch))
        self.task.train()
        if self.given_up():
            return None
        values, compared = self.ranks.take(means, self.task.summarise), self.ranks.take(selection)
        if not values:
            raise UserError(f"{self.stepper.title}: the dev set has no batches: check dump/<dev>")
        self.evaluated = progress
        return Evaluation(values, compared["loss"], "dev" if whole else "part")

    def _common(self, count: int, progress: float, audio_seconds: float) -> set[int] | None:
        """Numbers of the batches that every evaluation of the stage has, None for all. The first
        one decides, by what training has read so far."""
        config = self.stepper.config
        if self.part is None:
            self.part = 0
            if config.validations and progress > 0:
                between = self.ranks.greatest(audio_seconds) / progress / config.validations
                self.part = max(1, int(PART * between / config.batch_seconds))
        if not 0 < self.part < count:
            return None
        return {int((i + 0.5) * count / self.part) for i in range(self.part)}

    def state_dict(self) -> dict[str, float | None]:
        return {"part": self.part, "evaluated": self.evaluated, "between": self.between,
                "seconds_between": self.seconds_between}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """A run of an earlier version ({}) has compared losses over the whole dev set."""
        for name, value in ({"part": 0} | state).items():
            setattr(self, name, value)

    @torch.no_grad()
    def samples(self) -> dict[str, float]:
        """Metrics of generated samples only, with the current weights; {} if there are none."""
        means, batches = Means(), self.batches()
        number = operator.length_hint(batches) // 2  # 0 where it is not known
        if number % self.ranks.count == self.ranks.rank:
            self.task.eval()
            torch.manual_seed(mix(self.seed, "dev", number))
            for batch in itertools.islice(batches, number, number + 1):
                means.add(self._samples_of(batch))
            self.task.train()
        return self.ranks.take(means)

    def _losses_of(self, batch: Batch) -> dict[str, Tensor]:
        with self.stepper.autocast():
            losses = self.task(batch.to(self.stepper.accelerator.device), self.task.phases[0],
                               EVALUATION)
        found = {**losses.terms, **losses.metrics}
        weights = self.stepper.weights
        loss = sum(weight_at(weights.get(k, 1.0)) * found[k].float()
                   for k in self.task.selection or losses.terms)
        return {"loss": loss, **found}

    def _samples_of(self, batch: Batch) -> dict[str, Tensor]:
        if not self.sampled_utts or not self.task.has_lm(self.stepper.disabled):
            return {}
        return self.task.sample_metrics(batch.to(self.stepper.accelerator.device),
                                        self.sampled_utts)
