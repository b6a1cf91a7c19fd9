"""What a task sees: one batch of utterances as padded tensors.

Legend: B batch, L text tokens, T mel frames, S samples, M mel bands, N speech tokens.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from e2etts.audio import LOG_FLOOR

MEL_PADDING = math.log(LOG_FLOOR)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One row before padding; see ``Batch``. frames: T; mel: (T, M), reference_mel: (T', M),
    codes, positions: (N,), wav: (S,)."""

    utt: str
    frames: int
    mel: Tensor | None
    text: Tensor
    language: int
    speaker: int
    emotion: int
    reference_mel: Tensor
    codes: Tensor | None = None
    positions: Tensor | None = None
    wav: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A padded batch. Lengths count valid positions; padding values are arbitrary.

    mel: (B, T, M) natural-log mel, None where tokens come from files and nothing else reads it;
    mel_lens: (B,), each a multiple of frames_per_token.
    text: (B, L) text token ids; text_lens: (B,).
    language, speaker, emotion: (B,) label ids, -1 where the label is missing.
    reference_mel: (B, T', M) mel of other speech of the same speaker; reference_lens: (B,).
    codes: (B, N) speech tokens from files, N = T / frames_per_token; positions: (B, N) that of each
    in its text, from files; both only where they are read.
    wav: (B, S) samples in [-1, 1] aligned with mel, S = T * hop_samples; only where needed.
    """

    utts: list[str]
    mel: Tensor | None
    mel_lens: Tensor
    text: Tensor
    text_lens: Tensor
    language: Tensor
    speaker: Tensor
    emotion: Tensor
    reference_mel: Tensor
    reference_lens: Tensor
    codes: Tensor | None = None
    positions: Tensor | None = None
    wav: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with every tensor on ``device``."""
        return self._changed(lambda x: x.to(device, non_blocking=True))

    def select(self, rows: slice | Tensor) -> "Batch":
        """The utterances ``rows``, a slice or indices (R,), padded as before."""
        utts = self.utts[rows] if isinstance(rows, slice) else [self.utts[i] for i in rows.tolist()]
        return replace(self._changed(lambda x: x[rows]), utts=utts)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: change(v) for k, v in tensors.items() if isinstance(v, Tensor)})


def collate(items: list[Item]) -> Batch:
    """Pad to the longest row: mel with silence, text, codes and samples with zeros."""
    def lengths(rows: Iterable[Tensor]) -> Tensor:
        return torch.tensor([len(r) for r in rows])

    def padded(rows: list[Tensor], value: float = 0.0) -> Tensor:
        return pad_sequence(rows, batch_first=True, padding_value=value)

    def where_read(name: str, value: float = 0.0) -> Tensor | None:
        rows = [getattr(i, name) for i in items]
        return None if rows[0] is None else padded(rows, value)

    def ids(name: str) -> Tensor:
        return torch.tensor([getattr(i, name) for i in items])

    texts, references = ([getattr(i, name) for i in items] for name in ("text", "reference_mel"))
    return Batch(
        utts=[i.utt for i in items], mel=where_read("mel", MEL_PADDING), mel_lens=ids("frames"),
        text=padded(texts), text_lens=lengths(texts), language=ids("language"),
        speaker=ids("speaker"), emotion=ids("emotion"),
        reference_mel=padded(references, MEL_PADDING), reference_lens=lengths(references),
        codes=where_read("codes"), positions=where_read("positions"), wav=where_read("wav"))
