"""What the dev set says of a model: the same batches with the same noise at every call."""

import itertools
import operator
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from e2etts.data.batch import Batch
from e2etts.errors import UserError
from e2etts.seeds import mix
from e2etts.train.config import weight_at
from e2etts.train.logging import Means
from e2etts.train.step import Stepper
from e2etts.train.task import EVALUATION


class Evaluator:
    """Losses of the first phase on the dev set, and metrics of what the model itself says for one
    of its batches, by length the one in the middle.

    batches: called for one pass over the dev set. given_up: asked before every batch; a process
    that is to end must not spend its last seconds here.
    """

    def __init__(self, stepper: Stepper, batches: Callable[[], Iterable[Batch]], *, seed: int,
                 sampled_utts: int, given_up: Callable[[], bool]):
        self.stepper, self.task, self.ranks = stepper, stepper.task, stepper.ranks
        self.batches, self.given_up = batches, given_up
        self.seed, self.sampled_utts = seed, sampled_utts

    def losses(self) -> dict[str, float] | None:
        """Means over the dev set with averaged weights; "loss" is the sum that decides which
        checkpoint is the best. None where it was given up.

        Raises UserError for a dev set without batches."""
        means, batches = Means(), self.batches()
        sampled = _middle(batches)
        self.task.eval()
        with self.stepper.ema.applied(), torch.no_grad():
            for number, batch in enumerate(batches):
                if number % self.ranks.count != self.ranks.rank:
                    continue
                if self.given_up():
                    break
                torch.manual_seed(mix(self.seed, "dev", number))
                means.add(self._losses_of(batch), float(batch.mel_lens.sum()))
                if number == sampled:
                    means.add(self._samples_of(batch))
        self.task.train()
        if self.given_up():
            return None
        values = self.ranks.take(means, self.task.summarise)
        if not values:
            raise UserError(f"{self.stepper.title}: the dev set has no batches: check dump/<dev>")
        return values

    @torch.no_grad()
    def samples(self) -> dict[str, float]:
        """The metrics of samples alone, by the weights as they are; {} where there are none."""
        means, batches = Means(), self.batches()
        number = _middle(batches)
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


def _middle(batches: Iterable[Batch]) -> int:
    """Number of the batch that is spoken; the first where it is not known how many there are."""
    return operator.length_hint(batches) // 2
