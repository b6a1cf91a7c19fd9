"""Second-order joint training: FM and RM judge the tokens that the LM itself would say.

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
from e2etts.infer.config import SamplingConfig
from e2etts.infer.sampling import roll_out
from e2etts.nets.bridge import BridgeConfig, bridge
from e2etts.nets.lm import LM, LMOutput, lm_loss, lm_targets
from e2etts.nets.reward import RM
from e2etts.nets.sequence import length_mask, masked_mean
from e2etts.nets.system import System
from e2etts.tasks.first_order import advance_loss, check_losses
from e2etts.tasks.health import lm_metrics, sample_metrics
from e2etts.train.task import Losses, Task

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
    as ``sampling`` says and read again with it, and is itself what the RM judges; the FM cannot,
    because it is not aligned with the recording's mel. In training roll-outs are left out that do
    not end, or that say for more than ``longest_repeat`` tokens only what they said up to
    MAX_PERIOD tokens before: a reward of these was harmful (arXiv 2509.18569).
    """

    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    samples: int = 1
    history: Literal["teacher-forced", "free-running"] = "teacher-forced"
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(min_ratio=1.0))
    longest_repeat: int = 25

    def __post_init__(self):
        if self.samples < 1:
            raise ValueError("samples must be at least 1")


class History(NamedTuple):
    """Tokens that the LM continues at every place, and what it is told besides: q (B, T, Q), index
    (B, T), lens (B,), place (B, T) or None; the others as in ``Batch``, voice (B, X), style (B,)
    ids or None."""

    q: torch.Tensor
    index: torch.Tensor
    lens: torch.Tensor
    place: torch.Tensor | None
    text: torch.Tensor
    text_lens: torch.Tensor
    language: torch.Tensor
    speaker: torch.Tensor
    emotion: torch.Tensor
    voice: torch.Tensor
    style: torch.Tensor | None

    def select(self, rows: torch.Tensor) -> "History":
        return History(*(x if x is None else x[rows] for x in self))

    def read_by(self, lm: LM) -> LMOutput:
        """What ``lm`` says at every place."""
        return lm(self.text, self.text_lens, self.language, self.voice,
                  lm.reads(self.q, self.index), self.lens, self.place, self.style)


class SecondOrderTask(Task):
    """Losses "fm", "coarse", "ctc", "attention", "speaker", "emotion" on q_hat; "ce" and, of an LM
    that reads aligned, "advance" on the recording's tokens; "kl" on the history that q_hat
    continues; "fm_q" and "coarse_q", which keep an FM that learns true to the recording's q. LM
    and FM may learn. The others are frozen: a reward that learns, learns to read errors."""

    Options = SecondOrderOptions
    speaks = True

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
        self.judge: RM | None = None  # hears the samples beside the RM, and teaches nothing

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
        if options.sampling.min_ratio < 1:
            raise ValueError("options.sampling.min_ratio: the RM's CTC cannot judge a roll-out "
                             "that is too short for its text: set it to 1 or more")
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

    def forward(self, batch: Batch, phase: str = "main") -> Losses:
        """Named losses of one batch; metrics: with the recording's history the share of positions
        whose sample is its own token, with free-running the share of roll-outs that are kept; of
        the LM, where wanted, see ``tasks.health``. Where no roll-out is kept, the losses of samples
        are left out."""
        system, on = self.system, self.wanted(self.losses)
        heard = self._recordings(batch)
        out = heard.read_by(system.lm)
        terms = advance_loss(out, heard.place, heard.lens, heard.text_lens)
        targets = lm_targets(heard.index, heard.lens, system.lm.end)
        terms["ce"] = lm_loss(out.logits, targets)
        metrics = lm_metrics(out.logits, targets, system.lm.end) if self.observed else {}
        if on & KEPT:
            kept = system.fm.losses(heard.q, system.normalise(batch.mel), batch.mel_lens,
                                    heard.voice, heard.style,
                                    wanted={name.removesuffix("_q") for name in on & KEPT})
            terms |= {f"{name}_q": loss for name, loss in kept.items()}
        said, seam = heard, ()
        if self.free_running:
            said = self._rollouts(heard)
            asked = len(heard.lens) * self.options.samples
            metrics["rollouts_kept"] = heard.voice.new_tensor(len(said.lens) / asked)
            out = said.read_by(system.lm) if len(said.lens) else None
        if out is not None:
            more, seen, seam = self._hear(said, out.logits, batch, on)
            terms |= more
            metrics |= seen
        return Losses({k: v for k, v in terms.items() if k in on}, metrics, seam)

    def sample_metrics(self, batch: Batch, utts: int) -> dict[str, torch.Tensor]:
        """See ``tasks.health.sample_metrics``."""
        return sample_metrics(self.system, batch, utts, self.judge)

    @torch.no_grad()
    def _recordings(self, batch: Batch) -> History:
        tokens = self.system.encode(batch.mel, batch.mel_lens)
        return History(
            tokens.q, tokens.index, tokens.lens,
            self.system.place(tokens.q, tokens.lens, batch.text, batch.text_lens),
            batch.text, batch.text_lens, batch.language, batch.speaker, batch.emotion,
            self.system.voice(batch.voice_mel, batch.voice_lens), self.system.style(batch.emotion))

    @torch.no_grad()
    def _rollouts(self, heard: History) -> History:
        """``samples`` of the LM's own token rows for every text; in training without those that
        repeat or do not end."""
        count = self.options.samples
        made = roll_out(self.system, heard.text, heard.text_lens, heard.language, heard.voice,
                        self.options.sampling, candidates=count, style=heard.style)
        rows = torch.arange(len(heard.lens), device=made.lens.device).repeat_interleave(count)
        said = heard.select(rows)._replace(
            q=self.system.tokenizer.embed(made.index), index=made.index, lens=made.lens,
            place=made.place)
        if not self.training:
            return said
        repeats = longest_repeat(made.index, made.lens) > self.options.longest_repeat
        return said.select((made.ended & ~repeats).nonzero().squeeze(1))

    def _hear(self, said: History, logits: torch.Tensor, batch: Batch, on: set[str]
              ) -> tuple[dict, dict, tuple[torch.Tensor, ...]]:
        """Losses and metrics of what the LM would say next at every place of ``said``, and the
        samples that carry gradient."""
        valid = length_mask(said.lens + 1, logits.shape[1])
        log_p = logits.float().log_softmax(-1)
        terms, metrics, seam = {}, {}, []
        if "kl" in on:
            with torch.no_grad():
                log_ref = said.read_by(self.reference).logits.float().log_softmax(-1)
            terms["kl"] = masked_mean((log_p.exp() * (log_p - log_ref)).sum(-1), valid)
        draws = 1 if self.free_running else self.options.samples
        codebook = self.system.tokenizer.codebook()
        for _ in range(draws):
            # Only speech codes are sampled; the row past the last token says when to end.
            q_hat = bridge(logits[:, :-1, : self.system.lm.end], codebook, self.options.bridge,
                           self.progress, said.index if self.free_running else None)
            seam.append(q_hat)
            for name, loss in self._read(q_hat, said, batch, on).items():
                terms[name] = terms.get(name, 0.0) + loss / draws
        with torch.no_grad():
            if not self.free_running:
                same = (q_hat - said.q).abs().amax(-1) < 1e-3
                metrics["sampled_the_recording"] = masked_mean(
                    same.float(), length_mask(said.lens, same.shape[1]))
        return terms, metrics, tuple(q for q in seam if q.requires_grad)

    def _read(self, q_hat: torch.Tensor, said: History, batch: Batch, on: set[str]
              ) -> dict[str, torch.Tensor]:
        """What FM and RM think of q_hat."""
        terms = {}
        if on & {"fm", "coarse"}:
            terms |= self.system.fm.losses(q_hat, self.system.normalise(batch.mel),
                                           batch.mel_lens, said.voice, said.style, wanted=on)
        if on & RM_LOSSES:
            terms |= self.system.rm.losses(q_hat, said.lens, said.text, said.text_lens,
                                           said.speaker, said.emotion)
        return terms

    def state_to_save(self) -> dict[str, torch.Tensor]:
        """The whole system without the reference."""
        return dict(self.system.state_dict())


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
