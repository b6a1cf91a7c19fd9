"""First-order joint training: the tokenizer is shaped by all of its readers at once.

One task serves four stages: with every part trainable it is the joint step of arXiv 2606.09234
(L1 = 0.1 L_LM + L_RM + L_FM); with the tokenizer frozen and one reader trainable it is that
reader's own stage.

Legend: B batch, T tokens, R rows of the batch that the LM reads.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from e2etts.data.batch import Batch
from e2etts.nets.bridge import BridgeConfig, bridge
from e2etts.nets.guide import AttentionGuide, GuideConfig
from e2etts.nets.lm import LMCondition, LMOutput, advance_targets, lm_loss, lm_targets
from e2etts.nets.sequence import length_mask
from e2etts.nets.system import System
from e2etts.nets.tokenizer import Tokens
from e2etts.tasks.metrics import lm_metrics, sample_metrics, token_metrics, with_usage
from e2etts.tasks.system_task import SystemTask
from e2etts.train.task import EVALUATION, Losses, StepInfo

READERS = {
    "lm": ("lm", "advance", "guide"),
    "fm": ("fm", "coarse"),
    "rm": ("ctc", "attention", "speaker", "emotion"),
}
HAT = "_hat"  # behind the name of a loss that reads q_hat


@dataclass(frozen=True, kw_only=True)
class FirstOrderOptions:
    """How losses reach the tokenizer.

    lm_grad: the ways by which the LM's loss reaches it: "inputs", the q of past tokens that the LM
    reads; "targets", the values before rounding, as if the target were the distribution of
    ``FSQ.soft_mean`` at ``target_temperature`` (levels squared): it makes tokens likely, at worst
    all the same. The LM itself always learns from the indices. No way changes the loss's value.
    lm_rows, flow_rows: share of a training batch's rows that the LM and the flow (loss "fm") read,
    at least one; their losses are means over these. They are the most expensive readers.
    bridge: how the LM's distribution becomes the q_hat of losses named ..._hat: prediction
    reconstruction (arXiv 2605.00503). FM and RM read what the LM predicts at every position, and
    the gradient goes to the LM and, through the q that it reads and the code table, to the
    tokenizer; FM and RM themselves learn from q alone.
    fm_grad: "inputs", the q that the FM reads.
    rm_noise: of the q that the RM reads in training, in standard deviations of q. A reward that
    has seen nothing between the codes has an arbitrary gradient there, and the second order
    follows it.
    frozen_statistics: training progress (0 to 1) from which the statistics that normalise what FSQ
    rounds are those of evaluation, and no longer change: training then sees the tokens that
    evaluation sees. None: those of each batch throughout.
    guide: what the loss "guide" teaches an LM with prefix text_input: that some heads attend to the
    text token that is being spoken, by the RM's alignment.
    """

    lm_grad: Literal["inputs", "none", "inputs+soft-targets", "targets"] = "inputs"
    target_temperature: float = 0.25
    fm_grad: Literal["inputs", "none"] = "inputs"
    rm_noise: float = 0.0
    lm_rows: float = 1.0
    flow_rows: float = 1.0
    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    frozen_statistics: float | None = None
    guide: GuideConfig = field(default_factory=GuideConfig)

    def __post_init__(self):
        if self.target_temperature <= 0 or self.rm_noise < 0:
            raise ValueError("target_temperature must be more than 0, rm_noise at least 0")
        if not 0 < min(self.lm_rows, self.flow_rows) <= max(self.lm_rows, self.flow_rows) <= 1:
            raise ValueError("lm_rows and flow_rows must be more than 0 and at most 1")
        if self.frozen_statistics is not None and not 0 < self.frozen_statistics < 1:
            raise ValueError("frozen_statistics must be more than 0 and less than 1")


class FirstOrderTask(SystemTask):
    """Losses of the readers named by ``losses`` on the tokens of the batch's own speech."""

    Options = FirstOrderOptions

    def __init__(self, system: System, options: FirstOrderOptions, losses: set[str]):
        """Raises ValueError for a loss that this task or this system does not have."""
        super().__init__()
        known = {name for names in READERS.values() for name in names}
        hats = {f"{name}{HAT}" for name in (*READERS["fm"], *READERS["rm"])}
        check_losses(system, losses, known | hats)
        if losses & hats and "lm" not in losses:
            raise ValueError(f"weights: {min(losses & hats)} reads what the LM predicts: give lm a "
                             "weight")
        if "tokenizer" in system.trainable and "lm" in losses:
            if system.lm.table is not None and options.lm_grad.startswith("inputs"):
                raise ValueError("options.lm_grad: an LM that reads a table of its own "
                                 "(model.lm.input) gives its inputs no gradient: choose none or "
                                 "targets")
            if "targets" in options.lm_grad and not system.tokenizer.has_soft_targets:
                raise ValueError("options.lm_grad: this kind of tokenizer has no soft targets: "
                                 "choose none or inputs")
        has_statistics = "tokenizer" in system.trainable and system.tokenizer.has_statistics
        if options.frozen_statistics is not None and not has_statistics:
            raise ValueError("options.frozen_statistics: this tokenizer is frozen, or of a kind "
                             "without statistics: leave it out")
        if "guide" in losses:
            try:
                options.guide.require_fit(system.lm.config.trunk)
            except ValueError as e:
                raise ValueError(f"options.{e}") from e
        self.system, self.options, self.losses = system, options, losses

    def forward(self, batch: Batch, phase: str = "main", info: StepInfo = EVALUATION) -> Losses:
        """Named losses of one batch; metrics: of the tokens and, where measured, of the LM, see
        ``tasks.metrics``."""
        system, options, on = self.system, self.options, self.losses - info.disabled
        tokenizer_learns = "tokenizer" in system.trainable
        if self.training and options.frozen_statistics is not None and (
                info.progress >= options.frozen_statistics):
            system.tokenizer.freeze_statistics()  # anew, as validation ends with train()
        with torch.set_grad_enabled(torch.is_grad_enabled() and tokenizer_learns):
            tokens = system.encode(batch.mel, batch.mel_lens, batch.codes)
        speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
        # Detached: the speaker encoder must not become a carrier of what would help the LM.
        given = system.lm_condition(batch, speaker.detach())
        terms, metrics = {}, token_metrics(tokens, system.tokenizer)
        hats = {name for name in on if name.endswith(HAT)}
        if hats or on & set(READERS["lm"]):
            rows = self._rows(batch, options.lm_rows)
            more, seen = self._lm(*(x if rows is None else x.select(rows)
                                    for x in (batch, tokens, given)), hats, "guide" in on, info)
            terms |= more
            metrics |= seen
        if on & set(READERS["fm"]):
            q = tokens.q if options.fm_grad == "inputs" else tokens.q.detach()
            terms |= system.fm.losses(q, system.normalise(batch.mel), batch.mel_lens, speaker,
                                      given.style, wanted=on,
                                      flow_rows=self._rows(batch, options.flow_rows))
        if on & set(READERS["rm"]):
            q = tokens.q
            if self.training and options.rm_noise:
                q = q + options.rm_noise * q.detach().std() * torch.randn_like(q)
            terms |= system.rm.losses(q, tokens.lens, batch.text, batch.text_lens,
                                      batch.speaker, batch.emotion, given.speaker)
        embeddings = (tokens.q,) if tokens.q.requires_grad else ()
        return Losses({k: v for k, v in terms.items() if k in on}, metrics, embeddings)

    def _rows(self, batch: Batch, share: float) -> torch.Tensor | None:
        """(R,) rows that a reader of a share of them reads in this step; None for all."""
        if not self.training or share == 1:
            return None
        count = max(1, round(share * len(batch.utts)))
        return torch.randperm(len(batch.utts), device=batch.mel.device)[:count]

    def _lm(self, batch: Batch, tokens: Tokens, given: LMCondition, hats: set[str], guided: bool,
            info: StepInfo) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Losses of the LM, those of FM and RM on its q_hat, and its metrics."""
        system, grad = self.system, self.options.lm_grad
        q = tokens.q if grad.startswith("inputs") else tokens.q.detach()
        position = system.text_positions(tokens.q, tokens.lens, batch.text, batch.text_lens,
                                         batch.positions, guided)
        guide = AttentionGuide(self.options.guide, position, tokens.lens, batch.text_lens) \
            if guided else None
        out = system.lm(given, system.lm.reads(q, tokens.index), tokens.lens, position, guide)
        targets = lm_targets(tokens.index, tokens.lens, system.lm.end)
        terms = {"lm": lm_loss(out.logits, targets)} | ({"guide": guide.loss} if guided else {})
        if "targets" in grad and tokens.q.requires_grad:
            terms["lm"] = terms["lm"] + self._target_gradient(out.logits, tokens)
        terms |= advance_loss(out, position, tokens.lens, batch.text_lens)
        metrics = lm_metrics(out.logits, targets, system.lm.end) if info.measure else {}
        if hats:
            q_hat = bridge(out.logits[:, :-1, : system.lm.end], system.tokenizer.codebook(),
                           self.options.bridge, info.progress)
            with constant(system.fm), constant(system.rm):
                terms |= self._on_samples(q_hat, batch, tokens.lens, given, hats)
        return terms, metrics

    def _on_samples(self, q_hat: torch.Tensor, batch: Batch, lens: torch.Tensor,
                    given: LMCondition, hats: set[str]) -> dict[str, torch.Tensor]:
        wanted, terms = {name.removesuffix(HAT) for name in hats}, {}
        if wanted & set(READERS["fm"]):
            terms |= self.system.fm.losses(q_hat, self.system.normalise(batch.mel), batch.mel_lens,
                                           given.speaker, given.style, wanted=wanted)
        if wanted & set(READERS["rm"]):
            terms |= self.system.rm.losses(q_hat, lens, batch.text, batch.text_lens,
                                           batch.speaker, batch.emotion, given.speaker)
        return {f"{name}{HAT}": loss for name, loss in terms.items()}

    def has_lm(self, disabled: frozenset[str]) -> bool:
        """Where an LM is in training."""
        return "lm" in self.losses - disabled and "lm" in self.system.trainable

    def sample_metrics(self, batch: Batch, utts: int) -> dict[str, torch.Tensor]:
        """See ``tasks.metrics.sample_metrics``."""
        return sample_metrics(self.system, batch, utts, None, self.sampling)

    def summarise(self, means: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Usage of the codes -> entropies."""
        return with_usage(means, self.system.tokenizer)

    def _target_gradient(self, logits: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """0, with the gradient in the tokenizer that ``lm_loss`` would have on soft targets: its
        target is onehot + p - sg(p), so that nothing changes for the LM."""
        log_p = logits.detach().float().log_softmax(-1)[:, :-1, :-1]
        surprise = -self.system.tokenizer.soft_mean(log_p, tokens,
                                                    self.options.target_temperature)
        surprise = surprise * length_mask(tokens.lens, surprise.shape[1])
        mean = surprise.sum() / (tokens.lens + 1).sum()
        return mean - mean.detach()


@contextlib.contextmanager
def constant(module: nn.Module) -> Iterator[None]:
    """Within it, what ``module`` computes gives its parameters no gradient, and its input one."""
    learned = [p for p in module.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def advance_loss(out: LMOutput, position: torch.Tensor | None, lens: torch.Tensor,
                 text_lens: torch.Tensor) -> dict[str, torch.Tensor]:
    """{"advance": cross-entropy of the move of the text position}, {} for an LM without one."""
    if out.advance is None:
        return {}
    targets = advance_targets(position, lens, text_lens, out.advance.shape[-1])
    return {"advance": lm_loss(out.advance, targets)}


def check_losses(system: System, losses: set[str], known: set[str]) -> None:
    """Raises ValueError for a loss that is not known or whose part of the net is absent."""
    if losses - known:
        raise ValueError(f"weights: no such loss: {', '.join(sorted(losses - known))}; "
                         f"losses: {', '.join(sorted(known))}")
    absent = {"advance": not system.lm.aligned and "model.lm.text_input is not aligned",
              "guide": system.lm.aligned and "model.lm.text_input is aligned",
              "coarse": system.fm.coarse is None and "model.fm.coarse is off",
              "attention": system.rm.decoder is None and "model.rm.decoder_layers is 0",
              "speaker": system.rm.no_speaker_loss,
              "emotion": "emotion" not in system.rm.heads and "the data have no emotion labels"}
    if system.lm.aligned and losses & {"lm", "ce"} and "advance" not in losses:
        raise ValueError("weights: an LM with aligned text_input needs the loss "
                         "'advance': give it a weight")
    for name in sorted(losses):
        reason = absent.get(name.removesuffix(HAT))
        if reason:
            raise ValueError(f"weights: no loss '{name}' here, because {reason}: set its weight "
                             "to 0")
