"""Validation with fixed batches and noise."""

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
    """Computes the losses of the first phase on the dev set, and metrics of samples that the model
    generates for one batch, the one of median length.

    batches: returns an iterable for one pass over the dev set. given_up: called before every
    batch; validation is aborted if it returns True, so that a stopping process ends in time.
    """

    def __init__(self, stepper: Stepper, batches: Callable[[], Iterable[Batch]], *, seed: int,
                 sampled_utts: int, given_up: Callable[[], bool]):
        self.stepper, self.task, self.ranks = stepper, stepper.task, stepper.ranks
        self.batches, self.given_up = batches, given_up
        self.seed, self.sampled_utts = seed, sampled_utts

    def losses(self) -> dict[str, float] | None:
        """Mean losses over the dev set with EMA weights; "loss" is the weighted sum that selects
        the best checkpoint. None if validation was aborted.

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
        """Metrics of generated samples only, with the current weights; {} if there are none."""
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
    """Index of the batch to generate samples for; 0 if the number of batches is unknown."""
    return operator.length_hint(batches) // 2
