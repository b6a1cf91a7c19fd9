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
from e2etts.train.task import Losses, Task

READERS = {
    "lm": ("lm", "advance"),
    "fm": ("fm", "coarse"),
    "rm": ("ctc", "attention", "speaker", "emotion"),
}


@dataclass(frozen=True, kw_only=True)
class FirstOrderOptions:
    """lm_grad: "inputs" lets the LM loss reach the tokenizer through the q that the LM reads;
    "none" cuts it. Its targets are indices and never carry gradient.
    lm_from: training progress, 0 to 1, at which the LM joins. Until then its loss is neither
    computed nor trained on: the tokens are still moving fast, and the LM is half of a step.
    """

    lm_grad: Literal["inputs", "none"] = "inputs"
    lm_from: float = 0.0


class FirstOrderTask(Task):
    """Losses of the readers named by ``losses`` on the tokens of the batch's own speech."""

    Options = FirstOrderOptions

    def __init__(self, system: System, options: FirstOrderOptions, losses: set[str]):
        """Raises ValueError for a loss that this task or this system does not have."""
        super().__init__()
        check_losses(system, losses, {name for names in READERS.values() for name in names})
        self.system, self.options, self.losses = system, options, losses

    def forward(self, batch: Batch, phase: str = "main") -> Losses:
        """Named losses of one batch; metrics: token entropy in bits, used-code share, the share
        of saturated pre-quantisation values, LM accuracy."""
        system = self.system
        tokenizer_learns = "tokenizer" in system.trainable
        with torch.set_grad_enabled(torch.is_grad_enabled() and tokenizer_learns):
            tokens = system.encode(batch.mel, batch.mel_lens)
        voice = system.voice(batch.voice_mel, batch.voice_lens)
        style = system.style(batch.emotion)
        terms, metrics = {}, token_metrics(tokens, system.tokenizer.codebook_size)
        # On the dev set always: the best checkpoint is chosen by the same sum throughout.
        if self._wants("lm") and not (self.training and self.progress < self.options.lm_from):
            q = tokens.q if self.options.lm_grad == "inputs" else tokens.q.detach()
            # The voice is a fact to the LM: it must not turn the speaker encoder into a
            # carrier of what the LM would like to know.
            place = system.place(tokens.q, tokens.lens, batch.text, batch.text_lens)
            out = system.lm(batch.text, batch.text_lens, batch.language, voice.detach(),
                            q, tokens.lens, place, style)
            targets = lm_targets(tokens.index, tokens.lens, system.lm.end)
            terms["lm"] = lm_loss(out.logits, targets)
            terms |= advance_loss(out, place, tokens.lens, batch.text_lens)
            valid = targets >= 0
            metrics["lm_accuracy"] = (out.logits.argmax(-1) == targets)[valid].float().mean()
        if self._wants("fm"):
            terms |= system.fm.losses(tokens.q, system.normalise(batch.mel), batch.mel_lens, voice,
                                      style)
        if self._wants("rm"):
            terms |= system.rm.losses(tokens.q, tokens.lens, batch.text, batch.text_lens,
                                      batch.speaker, batch.emotion)
        return Losses({k: v for k, v in terms.items() if k in self.losses}, metrics)

    def _wants(self, reader: str) -> bool:
        return bool(self.losses & set(READERS[reader]))

    def state_to_save(self) -> dict[str, torch.Tensor]:
        """The whole system, frozen parts included: the next stage starts from one checkpoint."""
        return dict(self.system.state_dict())


def advance_loss(out: LMOutput, place: torch.Tensor | None, lens: torch.Tensor,
                 text_lens: torch.Tensor) -> dict[str, torch.Tensor]:
    """{"advance": cross-entropy of the move of the reading place}, {} for an LM without one."""
    if place is None:
        return {}
    targets = advance_targets(place, lens, text_lens, out.advance.shape[-1])
    return {"advance": lm_loss(out.advance, targets)}


def check_losses(system: System, asked: set[str], known: set[str]) -> None:
    """Raises ValueError for an asked loss that is not known or whose part of the net is absent:
    it would be left out of training without a word."""
    if asked - known:
        raise ValueError(f"no such loss: {', '.join(sorted(asked - known))}; "
                         f"losses: {', '.join(sorted(known))}")
    absent = {"advance": not system.lm.aligned and "model.lm.reading is not aligned",
              "coarse": system.fm.coarse is None and "model.fm.coarse is off",
              "attention": system.rm.decoder is None and "model.rm.decoder_layers is 0",
              "speaker": "speaker" not in system.rm.heads and "the data have one speaker",
              "emotion": "emotion" not in system.rm.heads and "the data have no emotion labels"}
    if system.lm.aligned and asked & {"lm", "ce"} and "advance" not in asked:
        raise ValueError("an LM that reads aligned cannot speak without the loss 'advance': give "
                         "it a weight")
    for name in sorted(asked):
        if absent.get(name):
            raise ValueError(f"no loss '{name}' here, because {absent[name]}: set its weight to 0")


@torch.no_grad()
def token_metrics(tokens: Tokens, codebook_size: int) -> dict[str, torch.Tensor]:
    """How the codebook is used in one batch."""
    mask = length_mask(tokens.lens, tokens.index.shape[1])
    counts = torch.bincount(tokens.index[mask], minlength=codebook_size).float()
    p = counts / counts.sum()
    return {
        "token_entropy_bits": -(p * p.clamp_min(1e-12).log2()).sum(),
        "used_codes": (counts > 0).float().sum(),
        "saturated": (tokens.bounded[mask].abs() > 0.98).float().mean(),
    }
