"""DPO: the LM learns to prefer the best of its own roll-outs of a text to the worst.

Direct preference optimisation (arXiv 2305.18290, equation 7). Roll-outs and reward are those of the
second order; pairs are drawn from the LM that is trained, in every step (arXiv 2402.04792).

Legend: R rows, the best of all pairs before the worst.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from e2etts.data.batch import Batch
from e2etts.nets.lm import LMOutput
from e2etts.tasks.policy import divergence, pairs
from e2etts.tasks.rollouts import History, RolloutOptions
from e2etts.tasks.sample_task import SampleTask
from e2etts.train.task import EVALUATION, Losses, StepInfo


@dataclass(frozen=True, kw_only=True)
class DPOOptions(RolloutOptions):
    """beta: of the loss; the greater, the closer to the LM at the start. The probability of a
    roll-out is that of all its tokens, its end and, with aligned text_input, its advances, by the
    LM's own distribution: how options.sampling decodes decides which roll-outs are compared."""

    beta: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        if self.beta <= 0:
            raise ValueError("beta must be more than 0")


class DPOTask(SampleTask):
    """Losses "dpo" and "kl" on pairs of roll-outs, that of the advance included; "ce" and, with
    aligned text_input, "advance" on the recording's tokens. The LM alone learns; the reference is
    the LM at the start of the stage."""

    Options = DPOOptions
    known = frozenset({"dpo", "kl", "ce", "advance"})
    title = "dpo"

    def check(self) -> None:
        """See ``SampleTask.check``."""
        if "dpo" not in self.losses:
            raise ValueError("weights: dpo learns by the loss 'dpo': give it a weight")
        self.check_choices()
        # The limits on length stay: they say what can be chosen.
        self.scored = replace(self.decoding, temperature=1.0, top_p=1.0, top_k=0, repeat_window=0)

    def forward(self, batch: Batch, phase: str = "main", info: StepInfo = EVALUATION) -> Losses:
        """Named losses of one batch; metrics: those of ``rollouts.Rollouts``; preferred, the share
        of pairs whose better half the LM prefers more than the reference does; of the LM, where
        measured, see ``tasks.metrics``. Where no two roll-outs differ in reward, their losses are
        left out."""
        on = self.losses - info.disabled
        recorded = self.recordings(batch)
        terms, metrics = {}, {}
        if on & {"ce", "advance"}:
            _, terms, metrics = self.on_recordings(recorded, info.measure)
        if on & {"dpo", "kl"}:
            rolled = self.roll_outs(recorded)
            metrics |= rolled.metrics
            best, worst = pairs(rolled)
            if len(best):
                history = rolled.history.select(torch.cat([best, worst]))
                out = history.predicted_by(self.system.lm)
                reference = self.predicted_by_reference(history)
                margin = self._margin(history, out, reference)
                terms["dpo"] = -F.logsigmoid(self.options.beta * margin).mean()
                terms["kl"] = divergence(out, reference, history.lens, moves=True)
                metrics["preferred"] = (margin.detach() > 0).float().mean()
        return Losses(self.not_empty({k: v for k, v in terms.items() if k in on}, "dpo", on),
                      metrics)

    def _margin(self, history: History, out: LMOutput, reference: LMOutput) -> torch.Tensor:
        """(R / 2,) by how much more than the reference the LM prefers the best to the worst."""
        now, then = (history.log_probs(o, self.scored).joint().sum(1) for o in (out, reference))
        best, worst = (now - then).chunk(2)
        return best - worst
