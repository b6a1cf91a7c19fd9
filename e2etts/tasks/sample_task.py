"""What tasks that train the LM by its own samples have in common.

Legend: B batch, R roll-outs, T tokens.
"""

import copy
from collections.abc import Iterable

import torch

from e2etts.data.batch import Batch
from e2etts.nets.lm import LMOutput, lm_loss, lm_targets
from e2etts.nets.reward import RM
from e2etts.nets.system import System
from e2etts.tasks.first_order import advance_loss, check_losses
from e2etts.tasks.metrics import lm_metrics, sample_metrics
from e2etts.tasks.rollouts import History, RolloutOptions, Rollouts, roll_outs
from e2etts.tasks.system_task import SystemTask

RM_LOSSES = {"ctc", "attention", "speaker", "emotion"}


class SampleTask(SystemTask):
    """A task that rewards samples of the LM, and keeps it in place by the losses "ce" and, with
    aligned text_input, "advance" on the recording's tokens, and "kl" to the LM at the start. Other
    parts than ``may_train`` are frozen: a reward that learns, learns to recognise errors.

    known: all losses; title: the task's name in messages; judge: an RM that evaluates samples
    beside the one that rewards them, and trains nothing; discards: whether roll-outs that do not
    end or that repeat are discarded in training.
    """

    known: frozenset[str]
    title: str
    may_train: tuple[str, ...] = ("lm",)
    discards: bool = True
    options: RolloutOptions

    def __init__(self, system: System, options: RolloutOptions, losses: set[str]):
        """Raises ValueError for a loss that this task or this system does not have, a part that it
        does not train, and options that contradict each other."""
        super().__init__()
        check_losses(system, losses, set(self.known))
        others = sorted(set(system.trainable) - set(self.may_train))
        if others:
            raise ValueError(f"trainable: {', '.join(others)}: {self.title} trains "
                             f"{' and '.join(self.may_train)}")
        self.system, self.options, self.losses = system, options, losses
        self.decoding = options.sampling.with_limits(system)
        self.check()
        # The LM as it was when the stage began; build the task after loading its checkpoint.
        self.reference = copy.deepcopy(system.lm).requires_grad_(False).eval()
        self.judge: RM | None = None

    def check(self) -> None:
        """Raises ValueError for options that contradict each other or the system."""
        raise NotImplementedError

    @property
    def group(self) -> int:
        """Roll-outs of each text."""
        return self.options.group

    def train(self, mode: bool = True) -> "SampleTask":
        """The reference LM and the judge never leave evaluation mode."""
        super().train(mode)
        self.reference.eval()
        if self.judge is not None:
            self.judge.eval()
        return self

    def has_lm(self, disabled: frozenset[str]) -> bool:
        """Always."""
        return True

    def sample_metrics(self, batch: Batch, utts: int) -> dict[str, torch.Tensor]:
        """See ``tasks.metrics.sample_metrics``."""
        return sample_metrics(self.system, batch, utts, self.judge, self.sampling)

    @torch.no_grad()
    def recordings(self, batch: Batch) -> History:
        """The tokens of the batch's own speech."""
        system = self.system
        tokens = system.encode(batch.mel, batch.mel_lens, batch.codes)
        position = system.text_positions(tokens.q, tokens.lens, batch.text, batch.text_lens,
                                         batch.positions)
        speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
        return History(tokens.q, tokens.index, tokens.lens, position,
                       system.lm_condition(batch, speaker), batch.speaker, batch.emotion)

    def on_recordings(self, recorded: History, measure: bool
                      ) -> tuple[LMOutput, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The LM's prediction of the recording's tokens, its losses "ce" and "advance", and, where
        they are to be measured, its metrics."""
        lm = self.system.lm
        out = recorded.predicted_by(lm)
        terms = advance_loss(out, recorded.position, recorded.lens, recorded.given.text_lens)
        targets = lm_targets(recorded.index, recorded.lens, lm.end)
        terms["ce"] = lm_loss(out.logits, targets)
        return out, terms, lm_metrics(out.logits, targets, lm.end) if measure else {}

    def roll_outs(self, recorded: History) -> Rollouts:
        """The LM's own token rows for the texts of ``recorded``; on the dev set all are kept."""
        return roll_outs(self.system, recorded, self.options, self.group,
                         filtered=self.training and self.discards)

    def predicted_by_reference(self, history: History) -> LMOutput:
        """The prediction of the LM at the start, without gradient."""
        with torch.no_grad():
            return history.predicted_by(self.reference)

    def not_empty(self, terms: dict[str, torch.Tensor], name: str, on: set[str]
                  ) -> dict[str, torch.Tensor]:
        """``terms``; where there are none although ``name`` is on, a loss of 0 that teaches
        nothing: a step of several batches needs one of each."""
        if terms or name not in on:
            return terms
        return {name: 0.0 * self.system.lm.speech_start.sum()}

    def check_roll_outs(self) -> None:
        """Raises ValueError for roll-outs that the RM cannot judge."""
        if self.decoding.min_ratio * self.system.rm.config.labels_per_token < 1:
            raise ValueError("options.sampling.min_ratio: the RM's CTC cannot judge a roll-out "
                             "that is too short for its text: leave it out")
        try:
            check_losses(self.system, set(self.options.reward.weights), RM_LOSSES)
        except ValueError as e:
            raise ValueError(str(e).replace("weights:", "options.reward:", 1)) from e

    def check_choices(self) -> None:
        """Raises ValueError for roll-outs of a text that cannot be compared, or whose choices are
        not those of the LM that is trained."""
        self.check_roll_outs()
        if self.group < 2:
            raise ValueError("options.group: roll-outs of the same text are compared: set it to 2 "
                             "or more")
        if self.options.sampling.temperature <= 0:
            raise ValueError("options.sampling.temperature: without chance, all roll-outs of a "
                             "text are the same: set it above 0")
        if self.system.config.lm.trunk.dropout:
            raise ValueError("options.group: with model.lm.trunk.dropout, roll-outs are decoded by "
                             "another LM than the one whose choices are scored: set it to 0")


def changed(options: RolloutOptions, names: Iterable[str]) -> list[str]:
    """Those of the options ``names`` that do not have their defaults."""
    default = type(options)()
    return [name for name in names if getattr(options, name) != getattr(default, name)]
