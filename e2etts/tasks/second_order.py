"""Second-order joint training: FM and RM judge the tokens that the LM itself would say.

The LM's teacher-forced distribution is sampled with Gumbel-softmax onto the code table, and the
samples q_hat are fed to FM and RM (arXiv 2606.09234, second-order loss; arXiv 2505.17589 for the
teacher-forced history). Cross-entropy and KL to the LM at the start keep it in place.
"""

import copy
from dataclasses import dataclass, field

import torch

from e2etts.data.batch import Batch
from e2etts.nets.bridge import BridgeConfig, bridge
from e2etts.nets.lm import lm_loss, lm_targets
from e2etts.nets.sequence import length_mask, masked_mean
from e2etts.nets.system import System
from e2etts.tasks.first_order import advance_loss, check_losses
from e2etts.train.task import Losses, Task

LOSSES = {"ce", "kl", "advance", "fm", "coarse", "ctc", "attention", "speaker", "emotion"}


@dataclass(frozen=True, kw_only=True)
class SecondOrderOptions:
    """How the LM's distribution becomes q_hat."""

    bridge: BridgeConfig = field(default_factory=BridgeConfig)


class SecondOrderTask(Task):
    """Losses "fm", "coarse", "ctc", "attention", "speaker", "emotion" on q_hat, and "ce", "kl",
    "advance" (of one that reads aligned) on the LM. Tokenizer and RM should be frozen: a reward
    that learns, learns to read errors."""

    Options = SecondOrderOptions

    def __init__(self, system: System, options: SecondOrderOptions, losses: set[str]):
        """Raises ValueError for a loss that this task or this system does not have."""
        super().__init__()
        check_losses(system, losses, LOSSES)
        self.system, self.options, self.losses = system, options, losses
        # The LM as it was when the stage began; build the task after loading its checkpoint.
        self.reference = copy.deepcopy(system.lm).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "SecondOrderTask":
        """The reference LM never leaves evaluation mode."""
        super().train(mode)
        self.reference.eval()
        return self

    def forward(self, batch: Batch, phase: str = "main") -> Losses:
        """Named losses of one batch; metrics: LM entropy in nats, share of positions whose sample
        is the recording's own token."""
        system = self.system
        with torch.no_grad():
            tokens = system.encode(batch.mel, batch.mel_lens)
            voice = system.voice(batch.voice_mel, batch.voice_lens)
            place = system.place(tokens.q, tokens.lens, batch.text, batch.text_lens)
        style = system.style(batch.emotion)
        given = (batch.text, batch.text_lens, batch.language, voice, tokens.q, tokens.lens, place,
                 style)
        out = system.lm(*given)
        logits = out.logits
        targets = lm_targets(tokens.index, tokens.lens, system.lm.end)
        log_p = logits.float().log_softmax(-1)
        valid = targets >= 0
        terms = advance_loss(out, place, tokens.lens, batch.text_lens)
        if "ce" in self.losses:
            terms["ce"] = lm_loss(logits, targets)
        if "kl" in self.losses:
            with torch.no_grad():
                log_ref = self.reference(*given).logits.float().log_softmax(-1)
            terms["kl"] = masked_mean((log_p.exp() * (log_p - log_ref)).sum(-1), valid)
        # Only speech codes are sampled; the row past the last token says when to end.
        codebook = system.tokenizer.codebook()
        q_hat = bridge(logits[:, :-1, : system.lm.end], codebook, self.options.bridge)
        if self.losses & {"fm", "coarse"}:
            mel = system.normalise(batch.mel)
            terms |= system.fm.losses(q_hat, mel, batch.mel_lens, voice, style)
        if self.losses & {"ctc", "attention", "speaker", "emotion"}:
            terms |= system.rm.losses(q_hat, tokens.lens, batch.text, batch.text_lens,
                                      batch.speaker, batch.emotion)
        mask = length_mask(tokens.lens, tokens.index.shape[1])
        with torch.no_grad():
            same = (q_hat - tokens.q).abs().amax(-1) < 1e-3
            metrics = {
                "lm_entropy": masked_mean(-(log_p.exp() * log_p).sum(-1), valid),
                "sampled_the_recording": masked_mean(same.float(), mask),
            }
        return Losses({k: v for k, v in terms.items() if k in self.losses}, metrics)

    def state_to_save(self) -> dict[str, torch.Tensor]:
        """The whole system without the reference."""
        return dict(self.system.state_dict())
