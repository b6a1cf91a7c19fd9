"""Second-order joint training: FM and RM evaluate the tokens that the LM itself samples.

The LM's distribution is sampled with Gumbel-softmax onto the code table, and the samples q_hat are
fed to FM and RM (arXiv 2606.09234, second-order loss). Cross-entropy and KL to the LM at the start
keep it in place.

Legend: B batch, T tokens, Q size of q.
"""

import copy
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch

from e2etts.data.batch import Batch
from e2etts.infer.sampling import roll_out
from e2etts.nets.bridge import BridgeConfig, bridge
from e2etts.nets.lm import LM, LMCondition, LMOutput, lm_loss, lm_targets
from e2etts.nets.reward import RM
from e2etts.nets.sequence import length_mask, masked_mean
from e2etts.nets.system import System
from e2etts.synthesis_config import SamplingConfig
from e2etts.tasks.first_order import advance_loss, check_losses
from e2etts.tasks.metrics import lm_metrics, sample_metrics
from e2etts.tasks.system_task import SystemTask
from e2etts.train.task import EVALUATION, Losses, StepInfo

RM_LOSSES = {"ctc", "attention", "speaker", "emotion"}
KEPT = {"fm_q", "coarse_q"}  # those of the FM on the recording's own q
LOSSES = {"ce", "kl", "advance", "fm", "coarse"} | KEPT | RM_LOSSES
MAX_PERIOD = 8  # tokens, of what counts as a repetition


@dataclass(frozen=True, kw_only=True)
class SecondOrderOptions:
    """How the LM's distribution becomes q_hat.

    samples: q_hats of each utterance in a step; losses are their mean.
    history: what the sampled tokens continue. "teacher-forced": the recording's tokens (arXiv
    2505.17589), in one pass. "free-running": the LM's own. A roll-out is decoded without gradient
    by ``sampling``, re-scored with it, and evaluated by the RM; not by the FM, because it is not
    aligned with the recording's mel. In training, roll-outs are discarded that do not end, or that
    repeat for more than ``longest_repeat`` tokens what is up to MAX_PERIOD tokens before: a reward
    of these was harmful (arXiv 2509.18569).
    """

    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    samples: int = 1
    history: Literal["teacher-forced", "free-running"] = "teacher-forced"
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    longest_repeat: int = 25

    def __post_init__(self):
        if self.samples < 1:
            raise ValueError("samples must be at least 1")


class History(NamedTuple):
    """Token rows that the LM continues at every position: q (B, T, Q), index (B, T), lens (B,),
    text position (B, T) or None; their condition; speaker and emotion (B,) labels for the RM."""

    q: torch.Tensor
    index: torch.Tensor
    lens: torch.Tensor
    position: torch.Tensor | None
    given: LMCondition
    speaker: torch.Tensor
    emotion: torch.Tensor

    def select(self, rows: torch.Tensor) -> "History":
        return History(*(x if x is None else x.select(rows) if isinstance(x, LMCondition)
                         else x[rows] for x in self))

    def predicted_by(self, lm: LM) -> LMOutput:
        """The prediction of ``lm`` at every position."""
        return lm(self.given, lm.reads(self.q, self.index), self.lens, self.position)


class SecondOrderTask(SystemTask):
    """Losses "fm", "coarse", "ctc", "attention", "speaker", "emotion" on q_hat; "ce" and, with
    aligned text_input, "advance" on the recording's tokens; "kl" on the history that q_hat
    continues; "fm_q" and "coarse_q" on the recording's q, for an FM that learns. LM and FM may
    learn. The others are frozen: a reward that learns, learns to recognise errors."""

    Options = SecondOrderOptions

    def __init__(self, system: System, options: SecondOrderOptions, losses: set[str]):
        """Raises ValueError for a loss that this task or this system does not have, or a part that
        it does not train."""
        super().__init__()
        check_losses(system, losses, LOSSES)
        self.system, self.options, self.losses = system, options, losses
        self.free_running = options.history == "free-running"
        self._check()
        # The LM as it was when the stage began; build the task after loading its checkpoint.
        self.reference = copy.deepcopy(system.lm).requires_grad_(False).eval()
        self.judge: RM | None = None  # evaluates the samples beside the RM, and trains nothing

    def _check(self) -> None:
        options = self.options
        others = sorted(set(self.system.trainable) - {"lm", "fm"})
        if others:
            raise ValueError(f"trainable: {', '.join(others)}: the second order trains lm and fm")
        if "fm" not in self.system.trainable and self.losses & KEPT:
            raise ValueError("weights: fm_q and coarse_q teach the FM alone, and it is not among "
                             "the stage's trainable parts: set their weights to 0")
        if not self.free_running:
            return
        if self.losses & {"fm", "coarse"}:
            raise ValueError("weights: fm and coarse compare with the recording's mel, with which "
                             "free-running samples are not aligned: set their weights to 0")
        if options.bridge.restricted:
            raise ValueError("options.bridge: free-running samples are decoded as options.sampling "
                             "says: leave sampling_temperature, top_k and top_p out")
        labels = self.system.rm.config.labels_per_token
        if options.sampling.limits(self.system).min_ratio * labels < 1:
            raise ValueError("options.sampling.min_ratio: the RM's CTC cannot judge a roll-out "
                             "that is too short for its text: leave it out")
        if "ce" not in self.losses:
            raise ValueError("weights: without 'ce', free-running unlearns where to end: give it a "
                             "weight")

    def train(self, mode: bool = True) -> "SecondOrderTask":
        """The reference LM and the judge never leave evaluation mode."""
        super().train(mode)
        self.reference.eval()
        if self.judge is not None:
            self.judge.eval()
        return self

    def has_lm(self, disabled: frozenset[str]) -> bool:
        """Always."""
        return True

    def forward(self, batch: Batch, phase: str = "main", info: StepInfo = EVALUATION) -> Losses:
        """Named losses of one batch; metrics: with the recording's history the share of positions
        whose sample is its own token, with free-running the share of roll-outs that are kept; of
        the LM, where measured, see ``tasks.metrics``. Where no roll-out is kept, the losses of
        samples are left out."""
        system, on = self.system, self.losses - info.disabled
        recorded = self._recordings(batch)
        out = recorded.predicted_by(system.lm)
        terms = advance_loss(out, recorded.position, recorded.lens, recorded.given.text_lens)
        targets = lm_targets(recorded.index, recorded.lens, system.lm.end)
        terms["ce"] = lm_loss(out.logits, targets)
        metrics = lm_metrics(out.logits, targets, system.lm.end) if info.measure else {}
        if on & KEPT:
            kept = system.fm.losses(recorded.q, system.normalise(batch.mel), batch.mel_lens,
                                    recorded.given.speaker, recorded.given.style,
                                    wanted={name.removesuffix("_q") for name in on & KEPT})
            terms |= {f"{name}_q": loss for name, loss in kept.items()}
        history, embeddings = recorded, ()
        if self.free_running:
            history = self._rollouts(recorded)
            wanted = len(recorded.lens) * self.options.samples
            metrics["rollouts_kept"] = recorded.q.new_tensor(len(history.lens) / wanted)
            out = history.predicted_by(system.lm) if len(history.lens) else None
        if out is not None:
            more, seen, embeddings = self._sampled(history, out.logits, batch, on, info.progress)
            terms |= more
            metrics |= seen
        return Losses({k: v for k, v in terms.items() if k in on}, metrics, embeddings)

    def sample_metrics(self, batch: Batch, utts: int) -> dict[str, torch.Tensor]:
        """See ``tasks.metrics.sample_metrics``."""
        return sample_metrics(self.system, batch, utts, self.judge, self.sampling)

    @torch.no_grad()
    def _recordings(self, batch: Batch) -> History:
        system = self.system
        tokens = system.encode(batch.mel, batch.mel_lens, batch.codes)
        position = system.text_positions(tokens.q, tokens.lens, batch.text, batch.text_lens)
        speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
        return History(tokens.q, tokens.index, tokens.lens, position,
                       system.lm_condition(batch, speaker), batch.speaker, batch.emotion)

    @torch.no_grad()
    def _rollouts(self, recorded: History) -> History:
        """``samples`` of the LM's own token rows for every text; in training without those that
        repeat or do not end."""
        count = self.options.samples
        made = roll_out(self.system, recorded.given, self.options.sampling, candidates=count)
        rows = torch.arange(len(recorded.lens), device=made.lens.device).repeat_interleave(count)
        rolled = recorded.select(rows)._replace(
            q=self.system.tokenizer.embed(made.index), index=made.index, lens=made.lens,
            position=made.position)
        if not self.training:
            return rolled
        repeats = longest_repeat(made.index, made.lens) > self.options.longest_repeat
        return rolled.select((made.ended & ~repeats).nonzero().squeeze(1))

    def _sampled(self, history: History, logits: torch.Tensor, batch: Batch, on: set[str],
                 progress: float) -> tuple[dict, dict, tuple[torch.Tensor, ...]]:
        """Losses and metrics of samples of the LM at every position of ``history``, and the samples
        q_hat that carry gradient."""
        terms, metrics, samples = {}, {}, []
        if "kl" in on:
            terms["kl"] = self._divergence(history, logits)
        draws = 1 if self.free_running else self.options.samples
        codebook = self.system.tokenizer.codebook()
        for _ in range(draws):
            # Only speech codes are sampled; the row past the last token predicts the end.
            q_hat = bridge(logits[:, :-1, : self.system.lm.end], codebook, self.options.bridge,
                           progress, history.index if self.free_running else None)
            samples.append(q_hat)
            for name, loss in self._evaluate(q_hat, history, batch, on).items():
                terms[name] = terms.get(name, 0.0) + loss / draws
        with torch.no_grad():
            if not self.free_running:
                same = (q_hat - history.q).abs().amax(-1) < 1e-3
                metrics["sampled_the_recording"] = masked_mean(
                    same.float(), length_mask(history.lens, same.shape[1]))
        return terms, metrics, tuple(q for q in samples if q.requires_grad)

    def _divergence(self, history: History, logits: torch.Tensor) -> torch.Tensor:
        """KL of the LM from the reference, mean over valid positions, the end included."""
        log_p = logits.float().log_softmax(-1)
        with torch.no_grad():
            log_ref = history.predicted_by(self.reference).logits.float().log_softmax(-1)
        valid = length_mask(history.lens + 1, logits.shape[1])
        return masked_mean((log_p.exp() * (log_p - log_ref)).sum(-1), valid)

    def _evaluate(self, q_hat: torch.Tensor, history: History, batch: Batch, on: set[str]
                  ) -> dict[str, torch.Tensor]:
        """Losses of FM and RM on q_hat."""
        terms, given = {}, history.given
        if on & {"fm", "coarse"}:
            terms |= self.system.fm.losses(q_hat, self.system.normalise(batch.mel),
                                           batch.mel_lens, given.speaker, given.style, wanted=on)
        if on & RM_LOSSES:
            terms |= self.system.rm.losses(q_hat, history.lens, given.text, given.text_lens,
                                           history.speaker, history.emotion, given.speaker)
        return terms


def longest_repeat(index: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
    """(B,) for how many tokens in a row each of (B, T) only repeats those of 1 to MAX_PERIOD
    before."""
    longest = torch.zeros_like(lens)
    inside = length_mask(lens, index.shape[1])
    for period in range(1, min(MAX_PERIOD, index.shape[1] - 1) + 1):
        same = (index[:, period:] == index[:, :-period]) & inside[:, period:]
        count = same.cumsum(1)
        run = count - count.masked_fill(same, 0).cummax(1).values
        longest = longest.maximum(run.amax(1))
    return longest
