"""Second-order joint training: FM and RM evaluate the tokens that the LM itself samples.

The LM's distribution is sampled with Gumbel-softmax onto the code table, and the samples q_hat are
fed to FM and RM (arXiv 2606.09234, second-order loss). Cross-entropy and KL to the LM at the start
keep it in place. What q_hat does not carry, when to end and how far to advance in the text, can be
taught by the score function on the LM's roll-outs.

Legend: B batch, T tokens, Q size of q.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch

from e2etts.data.batch import Batch
from e2etts.nets.bridge import BridgeConfig, bridge
from e2etts.nets.lm import LMOutput
from e2etts.nets.sequence import length_mask, masked_mean
from e2etts.tasks.policy import advantages, divergence, reward_loss, score_function
from e2etts.tasks.rollouts import History, RolloutOptions, Rollouts
from e2etts.tasks.sample_task import RM_LOSSES, SampleTask, changed
from e2etts.train.task import EVALUATION, Losses, StepInfo

KEPT = {"fm_q", "coarse_q"}  # those of the FM on the recording's own q
FM_LOSSES = {"fm", "coarse"}
LOSSES = {"ce", "kl", "advance", "policy"} | FM_LOSSES | KEPT | RM_LOSSES


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """What the loss "policy" teaches, by the advantage of a roll-out over the others of its text:
    when to end and, with aligned text_input, how far to advance; with ``tokens`` also the choice of
    token, which Gumbel samples teach otherwise. std: whether an advantage is divided by the
    standard deviation of its group."""

    tokens: bool = False
    std: bool = False


@dataclass(frozen=True, kw_only=True)
class SecondOrderOptions(RolloutOptions):
    """How the LM's distribution becomes q_hat.

    samples: q_hats of each utterance in a step; losses are their mean.
    history: what the sampled tokens continue. "teacher-forced": the recording's tokens (arXiv
    2505.17589), in one pass. "free-running": the LM's own. A roll-out is re-scored with gradient
    and evaluated by the RM; not by the FM, because it is not aligned with the recording's mel.
    "mixed": both; the losses of the RM and "kl" are means in which roll-outs weigh ``free_share``.
    group: roll-outs of each text; None for as many as ``samples``.
    policy: what the loss "policy" teaches; it has roll-outs at any ``history``.
    """

    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    samples: int = 1
    history: Literal["teacher-forced", "free-running", "mixed"] = "teacher-forced"
    free_share: float = 0.5
    group: int | None = None
    packed: bool = False
    policy: PolicyConfig = field(default_factory=PolicyConfig)

    def __post_init__(self):
        super().__post_init__()
        if self.samples < 1:
            raise ValueError("samples must be at least 1")
        if not 0 < self.free_share < 1:
            raise ValueError("free_share must be more than 0 and less than 1")


class SecondOrderTask(SampleTask):
    """Losses "fm", "coarse", "ctc", "attention", "speaker", "emotion" on q_hat; "ce" and, with
    aligned text_input, "advance" on the recording's tokens; "kl" on the history that q_hat
    continues; "policy" on roll-outs, see ``PolicyConfig`` and ``tasks.policy``; "fm_q" and
    "coarse_q" on the recording's q, for an FM that learns. LM and FM may learn."""

    Options = SecondOrderOptions
    known = frozenset(LOSSES)
    title = "the second order"
    may_train = ("lm", "fm")

    def check(self) -> None:
        """See ``SampleTask.check``."""
        options, losses = self.options, self.losses
        self.reads_recordings = options.history != "free-running"
        self.reads_rollouts = options.history != "teacher-forced"
        if "fm" not in self.system.trainable and losses & KEPT:
            raise ValueError("weights: fm_q and coarse_q teach the FM alone, and it is not among "
                             "the stage's trainable parts: set their weights to 0")
        if options.history == "free-running" and losses & FM_LOSSES:
            raise ValueError("weights: fm and coarse compare with the recording's mel, with which "
                             "free-running samples are not aligned: set their weights to 0")
        idle = [] if "policy" in losses else changed(options, ["policy"])
        if options.history != "mixed":
            idle += changed(options, ["free_share"])
        if not self.reads_rollouts and "policy" not in losses:
            idle += changed(options, ["group", "rollout_rows", "packed", "reward"])
        if idle:
            raise ValueError(f"options.{idle[0]}: has no effect at this history and these weights: "
                             "leave it out, or give 'policy' a weight or history another value")
        if self.reads_rollouts and options.bridge.restricted:
            raise ValueError("options.bridge: free-running samples are decoded as options.sampling "
                             "says: leave sampling_temperature, top_k and top_p out")
        if self.reads_rollouts or "policy" in losses:
            self.check_roll_outs()
        if options.history == "mixed" and not losses & (RM_LOSSES | {"kl", "policy"}):
            raise ValueError("options.history: no loss of these weights reads roll-outs: give one "
                             "of the RM's a weight, or set history to teacher-forced")
        if self.reads_rollouts and "ce" not in losses:
            raise ValueError("weights: without 'ce', free-running unlearns where to end: give it a "
                             "weight")
        if "policy" in losses:
            self.check_choices()

    @property
    def group(self) -> int:
        """See ``SampleTask.group``."""
        return self.options.group or self.options.samples

    def forward(self, batch: Batch, phase: str = "main", info: StepInfo = EVALUATION) -> Losses:
        """Named losses of one batch; metrics: with the recording's history the share of positions
        whose sample is its own token, with roll-outs those of ``rollouts.Rollouts``; of the LM,
        where measured, see ``tasks.metrics``. Where no roll-out is kept, its losses are left out.
        """
        system, on = self.system, self.losses - info.disabled
        recorded = self.recordings(batch)
        out, terms, metrics = self.on_recordings(recorded, info.measure)
        if on & KEPT:
            kept = system.fm.losses(recorded.q, system.normalise(batch.mel), batch.mel_lens,
                                    recorded.given.speaker, recorded.given.style,
                                    wanted={name.removesuffix("_q") for name in on & KEPT})
            terms |= {f"{name}_q": loss for name, loss in kept.items()}
        embeddings: tuple[torch.Tensor, ...] = ()
        if self.reads_recordings:
            more, same, embeddings = self._sampled(recorded, out, batch, on, info.progress)
            terms |= more
            metrics["sampled_the_recording"] = same
        if self.reads_rollouts or "policy" in on:
            rolled = self.roll_outs(recorded)
            metrics |= rolled.metrics
            if bool(rolled.kept.any()):
                more, samples = self._on_rollouts(rolled, batch, on, info.progress)
                terms |= {name: self._mixed(terms.get(name), loss) for name, loss in more.items()}
                embeddings += samples
        return Losses({k: v for k, v in terms.items() if k in on}, metrics, embeddings)

    def _mixed(self, recorded: torch.Tensor | None, rolled: torch.Tensor) -> torch.Tensor:
        """A loss on samples by its values on recordings' histories, if any, and on roll-outs."""
        return rolled if recorded is None else torch.lerp(recorded, rolled, self.options.free_share)

    def _on_rollouts(self, rolled: Rollouts, batch: Batch, on: set[str], progress: float
                     ) -> tuple[dict[str, torch.Tensor], tuple[torch.Tensor, ...]]:
        """Losses on roll-outs, and those of their samples q_hat that carry gradient: of what is
        kept, and the policy's of all."""
        history, policy = rolled.history, self.options.policy
        terms, embeddings = {}, ()
        kept = rolled.kept.nonzero().squeeze(1)
        if "policy" not in on:
            history = history.select(kept)
        out = history.predicted_by(self.system.lm)
        if self.reads_rollouts:
            read = (history, out)
            if len(kept) < len(history.lens):
                read = (history.select(kept),
                        LMOutput(*(x if x is None else x[kept] for x in out)))
            terms, _, embeddings = self._sampled(*read, batch, on - FM_LOSSES, progress)
        if "policy" in on:
            log_p = history.log_probs(out, self.decoding).joint(policy.tokens)
            gain = score_function(log_p, advantages(rolled, policy.std))
            terms["policy"] = reward_loss(rolled, gain.sum(1))
        return terms, embeddings

    def _sampled(self, history: History, out: LMOutput, batch: Batch, on: set[str],
                 progress: float) -> tuple[dict, torch.Tensor, tuple[torch.Tensor, ...]]:
        """Losses of samples of the LM at every position of ``history``, the share of them that are
        the history's own tokens, and the samples q_hat that carry gradient."""
        terms, samples = {}, []
        if "kl" in on:
            terms["kl"] = divergence(out, self.predicted_by_reference(history), history.lens,
                                     moves="policy" in self.losses)
        picked = None if history.ended is None else history.index
        draws = self.options.samples if picked is None else 1
        codebook = self.system.tokenizer.codebook()
        for _ in range(draws):
            # Only speech codes are sampled; the row past the last token predicts the end.
            q_hat = bridge(out.logits[:, :-1, : self.system.lm.end], codebook, self.options.bridge,
                           progress, picked)
            samples.append(q_hat)
            for name, loss in self._evaluate(q_hat, history, batch, on).items():
                terms[name] = terms.get(name, 0.0) + loss / draws
        with torch.no_grad():
            same = (q_hat - history.q).abs().amax(-1) < 1e-3
            share = masked_mean(same.float(), length_mask(history.lens, same.shape[1]))
        return terms, share, tuple(q for q in samples if q.requires_grad)

    def _evaluate(self, q_hat: torch.Tensor, history: History, batch: Batch, on: set[str]
                  ) -> dict[str, torch.Tensor]:
        """Losses of FM and RM on q_hat."""
        terms, given = {}, history.given
        if on & FM_LOSSES:
            terms |= self.system.fm.losses(q_hat, self.system.normalise(batch.mel),
                                           batch.mel_lens, given.speaker, given.style, wanted=on)
        if on & RM_LOSSES:
            terms |= self.system.rm.losses(q_hat, history.lens, given.text, given.text_lens,
                                           history.speaker, history.emotion, given.speaker)
        return terms
