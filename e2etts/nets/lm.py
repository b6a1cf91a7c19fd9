"""Autoregressive LM: text tokens, language and voice, then speech tokens.

It reads the embedding q of past tokens, not their indices, so that its loss reaches the tokenizer
through its inputs (arXiv 2606.09234, first-order loss).

Legend: B batch, L text tokens, T speech tokens, Q size of q, V speech codes, X size of a voice.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from e2etts.nets.sequence import cut, join, length_mask
from e2etts.nets.transformer import KVCache, Transformer, TransformerConfig


@dataclass(frozen=True, kw_only=True)
class LMConfig:
    """Trunk, whether a voice vector is part of the prefix, and where text sits in rotary space.

    text_stride: 0 numbers all positions in one row; s > 0 puts text token i at i * s and speech
    token t at t, so that what belongs together is near in rotary distance from the first step
    (s: speech tokens per text token of the corpus).
    """

    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    voice: bool = True
    text_stride: float = 0.0


class LM(nn.Module):
    """p(k_1..k_T, end | text, language, voice)."""

    def __init__(
        self,
        config: LMConfig,
        *,
        text_vocab: int,
        languages: int,
        codebook_size: int,
        q_dim: int,
        voice_dim: int,
    ):
        super().__init__()
        dim = config.trunk.dim
        self.config, self.end = config, codebook_size
        self.text = nn.Embedding(text_vocab, dim)
        self.language = nn.Embedding(languages, dim)
        self.turn = nn.Parameter(torch.randn(dim) * 0.02)
        self.voice = nn.Linear(voice_dim, dim) if config.voice else None
        self.speech = nn.Linear(q_dim, dim)
        self.trunk = Transformer(config.trunk, causal=True)
        self.head = nn.Linear(dim, codebook_size + 1, bias=False)
        for table in (self.text, self.language):
            nn.init.normal_(table.weight, std=0.5)
        nn.init.normal_(self.head.weight, std=dim**-0.5)

    def _prefix(self, text, text_lens, language, voice):
        """(B, A, D) language, voice, text, turn, and its lengths (B,)."""
        head = [self.language(language).unsqueeze(1)]
        if self.voice is not None:
            head.append(self.voice(voice).unsqueeze(1).to(head[0].dtype))
        left = torch.cat([*head, self.text(text)], dim=1)
        turn = self.turn.to(left.dtype).expand(len(text), 1, -1)
        lens = text_lens + len(head)
        return join(left, lens, turn, torch.ones_like(lens)), lens + 1

    def _positions(self, prefix_lens: torch.Tensor, size: int) -> torch.Tensor:
        """(B, size) rotary positions of prefix and speech."""
        at = torch.arange(size, device=prefix_lens.device).expand(len(prefix_lens), -1)
        if self.config.text_stride <= 0:
            return at
        turn = (prefix_lens - 1)[:, None]
        return torch.where(at < turn, at * self.config.text_stride, (at - turn).float())

    def forward(
        self,
        text: torch.Tensor,
        text_lens: torch.Tensor,
        language: torch.Tensor,
        voice: torch.Tensor | None,
        q: torch.Tensor,
        lens: torch.Tensor,
    ) -> torch.Tensor:
        """Teacher-forced logits (B, T + 1, V + 1): row t is the distribution of token t given
        q[:, :t]; the last class is the end token, the target of row lens[b].

        text: (B, L), text_lens: (B,), language: (B,), voice: (B, X), q: (B, T, Q), lens: (B,).
        """
        prefix, prefix_lens = self._prefix(text, text_lens, language, voice)
        x = join(prefix, prefix_lens, self.speech(q).to(prefix.dtype), lens)
        x = self.trunk(x, positions=self._positions(prefix_lens, x.shape[1]))
        return self.head(cut(x, prefix_lens - 1, q.shape[1] + 1))

    def start(
        self,
        text: torch.Tensor,
        text_lens: torch.Tensor,
        language: torch.Tensor,
        voice: torch.Tensor | None,
        prompt_q: torch.Tensor | None,
        max_tokens: int,
    ) -> "Decoding":
        """Read the prefix (and prompt_q (B, P, Q), the same P for all rows) and return the state
        from which at most ``max_tokens`` tokens can be decoded one at a time."""
        prefix, lens = self._prefix(text, text_lens, language, voice)
        if prompt_q is not None:
            full = torch.full_like(lens, prompt_q.shape[1])
            x, total = join(prefix, lens, self.speech(prompt_q).to(prefix.dtype), full), lens + full
        else:
            x, total = prefix, lens
        positions = self._positions(lens, x.shape[1])
        # Rows end at the same place, so that decoding appends in lockstep: padding goes in front.
        size = x.shape[1]
        shift = (torch.arange(size, device=x.device) - (size - total)[:, None]).clamp_min(0)
        x = x.gather(1, shift.unsqueeze(-1).expand_as(x))
        cache = KVCache(size + max_tokens)
        first = size - total
        x = self.trunk(x, positions=positions.gather(1, shift), cache=cache, first=first)
        state = Decoding(cache, first, positions.gather(1, (total - 1)[:, None]) + 1)
        state.logits = self.head(x[:, -1])
        return state

    def step(self, state: "Decoding", q: torch.Tensor) -> torch.Tensor:
        """Feed the embedding (B, Q) of the last token; returns logits (B, V + 1) of the next."""
        x = self.speech(q).unsqueeze(1)
        x = self.trunk(x, positions=state.positions, cache=state.cache, first=state.first)
        state.positions = state.positions + 1
        state.logits = self.head(x[:, -1])
        return state.logits


class Decoding:
    """State of lockstep decoding: KV cache, first valid position and next position by row."""

    def __init__(self, cache: KVCache, first: torch.Tensor, positions: torch.Tensor):
        self.cache, self.first, self.positions = cache, first, positions
        self.logits: torch.Tensor

    def select(self, rows: torch.Tensor) -> None:
        """Keep rows (R,), in that order; a row may occur several times."""
        self.cache.reorder(rows)
        self.first, self.positions = self.first[rows], self.positions[rows]
        self.logits = self.logits[rows]


def lm_targets(index: torch.Tensor, lens: torch.Tensor, end: int) -> torch.Tensor:
    """(B, T) tokens -> (B, T + 1) targets: tokens, the end token, then -100 (ignored)."""
    target = F.pad(index, (0, 1), value=-100).masked_fill(
        ~length_mask(lens, index.shape[1] + 1), -100)
    return target.scatter(1, lens[:, None], end)


def lm_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over valid positions, in nats."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100)
