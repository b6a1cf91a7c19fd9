"""GRPO: the LM learns from the rewards of its own roll-outs, each compared with others of its text.

Group relative policy optimisation (arXiv 2402.03300, equation 3) of the same reward, on the same
roll-outs as the second order's, without a gradient through FM or RM.

Legend: R roll-outs, T tokens.
"""

from collections import deque
from dataclasses import dataclass

import torch

from e2etts.data.batch import Batch
from e2etts.tasks.policy import advantages, divergence, reward_loss, score_function
from e2etts.tasks.rollouts import RolloutOptions, Rollouts
from e2etts.tasks.sample_task import SampleTask
from e2etts.train.task import EVALUATION, Losses, StepInfo


@dataclass(frozen=True, kw_only=True)
class GRPOOptions(RolloutOptions):
    """The policy is all that is drawn at a row of the LM: token, end and, with aligned text_input,
    advance, with the probabilities that options.sampling gives them (``infer.log_prob``).

    std: whether an advantage is divided by the standard deviation of its group. per_token: whether
    a roll-out counts by the mean over its rows, or by their sum; neither is REINFORCE with a
    group's baseline (arXiv 2503.20783 names the biases of both). updates: how many times roll-outs
    are learned from. In the first, the ratio of probabilities is 1, and nothing is clipped; each
    later one is a phase of the step, with optimiser states of its own, in which the ratio brings
    nothing more beyond 1 - clip or 1 + clip.
    """

    std: bool = True
    per_token: bool = True
    updates: int = 1
    clip: float | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.updates < 1:
            raise ValueError("updates must be at least 1")
        if (self.updates > 1) != (self.clip is not None):
            raise ValueError("clip bounds the ratio of several updates: set both (such as clip: "
                             "0.2), or leave both out")
        if self.clip is not None and not 0 < self.clip < 1:
            raise ValueError("clip must be more than 0 and less than 1")


class GRPOTask(SampleTask):
    """Losses "policy" on roll-outs: minus their mean reward; "kl" on roll-outs, that of the advance
    included, exact and not by the paper's estimator; "ce" and, with aligned text_input, "advance"
    on the recording's tokens. The LM alone learns."""

    Options = GRPOOptions
    known = frozenset({"policy", "kl", "ce", "advance"})
    title = "grpo"

    def check(self) -> None:
        """See ``SampleTask.check``."""
        if "policy" not in self.losses:
            raise ValueError("weights: grpo learns by the loss 'policy': give it a weight")
        self.check_choices()
        self.phases = ("main", *(f"update_{n}" for n in range(2, self.options.updates + 1)))
        # Of each batch of the present step, its roll-outs and the log-probabilities with which they
        # were made; None where none was kept.
        self.made_in: StepInfo | None = None
        self.again: deque[tuple[Rollouts, torch.Tensor] | None] = deque()

    def forward(self, batch: Batch, phase: str = "main", info: StepInfo = EVALUATION) -> Losses:
        """Named losses of one batch; metrics: those of ``rollouts.Rollouts``; in later updates
        clipped, the share of rows whose ratio is beyond the limit; of the LM, where measured, see
        ``tasks.metrics``. Where no roll-out is kept, its losses are left out."""
        on = self.losses - info.disabled
        if phase != self.phases[0]:
            return self._once_more(on, phase)
        recorded = self.recordings(batch)
        terms, metrics = {}, {}
        if on & {"ce", "advance"}:
            _, terms, metrics = self.on_recordings(recorded, info.measure)
        if on & {"policy", "kl"}:
            rolled = self.roll_outs(recorded)
            metrics |= rolled.metrics
            more, log_p = self._update(rolled, None, on)
            terms |= more
            if len(self.phases) > 1 and self.training and "policy" in on:
                if self.made_in != info:
                    self.again.clear()  # of a step that was not finished
                self.made_in = info
                self.again.append(None if log_p is None else (rolled, log_p.detach()))
        return Losses(self.not_empty({k: v for k, v in terms.items() if k in on}, "policy", on),
                      metrics)

    def _once_more(self, on: set[str], phase: str) -> Losses:
        """Losses of a later update on the next roll-outs of this step."""
        if not self.again:
            return Losses()
        made = self.again.popleft()
        if phase != self.phases[-1]:
            self.again.append(made)
        if made is None:
            return Losses(self.not_empty({}, "policy", on))
        rolled, before = made
        terms, log_p = self._update(rolled, before, on)
        beyond = ((log_p.detach() - before).exp() - 1).abs() > self.options.clip
        return Losses(terms, {"clipped": beyond.sum() / (rolled.history.lens + 1).sum()})

    def _update(self, rolled: Rollouts, before: torch.Tensor | None, on: set[str]
                ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Losses on roll-outs, given the log-probabilities (R, T + 1) with which their choices were
        made, None for now; and these log-probabilities by the present LM."""
        history, options, terms, log_p = rolled.history, self.options, {}, None
        if not bool(rolled.kept.any()):
            return terms, log_p
        out = history.predicted_by(self.system.lm)
        if "policy" in on:
            log_p = history.log_probs(out, self.decoding).joint()
            gain = score_function(log_p, advantages(rolled, options.std), before, options.clip)
            size = history.lens + 1 if options.per_token else 1
            terms["policy"] = reward_loss(rolled, gain.sum(1) / size)
        if "kl" in on:
            terms["kl"] = divergence(out, self.predicted_by_reference(history), history.lens,
                                     moves=True)
        return terms, log_p
