"""What a task sees: one batch of utterances as tensors.

Legend: B batch, L text tokens, T mel frames, S samples, M mel bands.
"""

from dataclasses import dataclass, fields, replace

import torch


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A padded batch. Lengths count valid positions; padding values are arbitrary.

    mel: (B, T, M) natural-log mel; mel_lens: (B,), each a multiple of frames_per_token.
    text: (B, L) text token ids; text_lens: (B,).
    language, speaker, emotion: (B,) label ids, -1 where the label is missing.
    voice_mel: (B, T', M) mel of other speech of the same speaker; voice_lens: (B,).
    wav: (B, S) samples in [-1, 1] aligned with mel, S = T * hop_samples; only where asked for.
    """

    utts: list[str]
    mel: torch.Tensor
    mel_lens: torch.Tensor
    text: torch.Tensor
    text_lens: torch.Tensor
    language: torch.Tensor
    speaker: torch.Tensor
    emotion: torch.Tensor
    voice_mel: torch.Tensor
    voice_lens: torch.Tensor
    wav: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with every tensor on ``device``."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device, non_blocking=True)
                                for k, v in tensors.items() if isinstance(v, torch.Tensor)})
