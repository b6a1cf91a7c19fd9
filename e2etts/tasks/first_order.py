"""First-order joint training: the tokenizer is shaped by all of its readers at once.

One task serves four stages: with every part trainable it is the joint step of arXiv 2606.09234
(L1 = 0.1 L_LM + L_RM + L_FM); with the tokenizer frozen and one reader trainable it is that
reader's own stage.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from e2etts.data.batch import Batch
from e2etts.nets.lm import LMOutput, advance_targets, lm_loss, lm_targets
from e2etts.nets.sequence import length_mask
from e2etts.nets.system import System
from e2etts.nets.tokenizer import Tokens
from e2etts.tasks.metrics import lm_metrics, sample_metrics, token_metrics, with_usage
from e2etts.tasks.system_task import SystemTask
from e2etts.train.task import EVALUATION, Losses, StepInfo

READERS = {
    "lm": ("lm", "advance"),
    "fm": ("fm", "coarse"),
    "rm": ("ctc", "attention", "speaker", "emotion"),
}


@dataclass(frozen=True, kw_only=True)
class FirstOrderOptions:
    """How losses reach the tokenizer.

    lm_grad: the ways by which the LM's loss reaches it: "inputs", the q of past tokens that the LM
    reads; "targets", the values before rounding, as if the target were the distribution of
    ``FSQ.soft_mean`` at ``target_temperature`` (levels squared): it makes tokens likely, at worst
    all the same. The LM itself always learns from the indices. No way changes the loss's value.
    fm_grad: "inputs", the q that the FM reads.
    rm_noise: of the q that the RM reads in training, in standard deviations of q. A reward that
    has seen nothing between the codes has an arbitrary gradient there, and the second order
    follows it.
    """

    lm_grad: Literal["inputs", "none", "inputs+soft-targets", "targets"] = "inputs"
    target_temperature: float = 0.25
    fm_grad: Literal["inputs", "none"] = "inputs"
    rm_noise: float = 0.0

    def __post_init__(self):
        if self.target_temperature <= 0 or self.rm_noise < 0:
            raise ValueError("target_temperature must be more than 0, rm_noise at least 0")


class FirstOrderTask(SystemTask):
    """Losses of the readers named by ``losses`` on the tokens of the batch's own speech."""

    Options = FirstOrderOptions

    def __init__(self, system: System, options: FirstOrderOptions, losses: set[str]):
        """Raises ValueError for a loss that this task or this system does not have."""
        super().__init__()
        check_losses(system, losses, {name for names in READERS.values() for name in names})
        if "tokenizer" in system.trainable and "lm" in losses:
            if system.lm.table is not None and options.lm_grad.startswith("inputs"):
                raise ValueError("options.lm_grad: an LM that reads a table of its own "
                                 "(model.lm.input) gives its inputs no gradient: choose none or "
                                 "targets")
            if "targets" in options.lm_grad and not system.tokenizer.has_soft_targets:
                raise ValueError("options.lm_grad: this kind of tokenizer has no soft targets: "
                                 "choose none or inputs")
        self.system, self.options, self.losses = system, options, losses

    def forward(self, batch: Batch, phase: str = "main", info: StepInfo = EVALUATION) -> Losses:
        """Named losses of one batch; metrics: of the tokens and, where measured, of the LM, see
        ``tasks.metrics``."""
        system, options, on = self.system, self.options, self.losses - info.disabled
        tokenizer_learns = "tokenizer" in system.trainable
        with torch.set_grad_enabled(torch.is_grad_enabled() and tokenizer_learns):
            tokens = system.encode(batch.mel, batch.mel_lens, batch.codes)
        speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
        # Detached: the speaker encoder must not become a carrier of what would help the LM.
        given = system.lm_condition(batch, speaker.detach())
        terms, metrics = {}, token_metrics(tokens, system.tokenizer)
        if on & set(READERS["lm"]):
            q = tokens.q if options.lm_grad.startswith("inputs") else tokens.q.detach()
            position = system.text_positions(tokens.q, tokens.lens, batch.text, batch.text_lens)
            out = system.lm(given, system.lm.reads(q, tokens.index), tokens.lens, position)
            targets = lm_targets(tokens.index, tokens.lens, system.lm.end)
            terms["lm"] = lm_loss(out.logits, targets)
            if "targets" in options.lm_grad and tokenizer_learns and torch.is_grad_enabled():
                terms["lm"] = terms["lm"] + self._target_gradient(out.logits, tokens)
            terms |= advance_loss(out, position, tokens.lens, batch.text_lens)
            if info.measure:
                metrics |= lm_metrics(out.logits, targets, system.lm.end)
        if on & set(READERS["fm"]):
            q = tokens.q if options.fm_grad == "inputs" else tokens.q.detach()
            terms |= system.fm.losses(q, system.normalise(batch.mel), batch.mel_lens, speaker,
                                      given.style, wanted=on)
        if on & set(READERS["rm"]):
            q = tokens.q
            if self.training and options.rm_noise:
                q = q + options.rm_noise * q.detach().std() * torch.randn_like(q)
            terms |= system.rm.losses(q, tokens.lens, batch.text, batch.text_lens,
                                      batch.speaker, batch.emotion)
        embeddings = (tokens.q,) if tokens.q.requires_grad else ()
        return Losses({k: v for k, v in terms.items() if k in on}, metrics, embeddings)

    def has_lm(self, disabled: frozenset[str]) -> bool:
        """Where an LM is in training."""
        return "lm" in self.losses - disabled and "lm" in self.system.trainable

    def sample_metrics(self, batch: Batch, utts: int) -> dict[str, torch.Tensor]:
        """See ``tasks.metrics.sample_metrics``."""
        return sample_metrics(self.system, batch, utts, None)

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


def advance_loss(out: LMOutput, position: torch.Tensor | None, lens: torch.Tensor,
                 text_lens: torch.Tensor) -> dict[str, torch.Tensor]:
    """{"advance": cross-entropy of the move of the text position}, {} for an LM without one."""
    if position is None:
        return {}
    targets = advance_targets(position, lens, text_lens, out.advance.shape[-1])
    return {"advance": lm_loss(out.advance, targets)}


def check_losses(system: System, losses: set[str], known: set[str]) -> None:
    """Raises ValueError for a loss that is not known or whose part of the net is absent."""
    if losses - known:
        raise ValueError(f"weights: no such loss: {', '.join(sorted(losses - known))}; "
                         f"losses: {', '.join(sorted(known))}")
    absent = {"advance": not system.lm.aligned and "model.lm.text_input is not aligned",
              "coarse": system.fm.coarse is None and "model.fm.coarse is off",
              "attention": system.rm.decoder is None and "model.rm.decoder_layers is 0",
              "speaker": "speaker" not in system.rm.heads and "the data have one speaker",
              "emotion": "emotion" not in system.rm.heads and "the data have no emotion labels"}
    if system.lm.aligned and losses & {"lm", "ce"} and "advance" not in losses:
        raise ValueError("weights: an LM with aligned text_input needs the loss "
                         "'advance': give it a weight")
    for name in sorted(losses):
        if absent.get(name):
            raise ValueError(f"weights: no loss '{name}' here, because {absent[name]}: set its "
                             "weight to 0")
