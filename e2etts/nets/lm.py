"""Autoregressive LM: text tokens and labels, then speech tokens.

It reads the embedding q of past tokens, not their indices, so that its loss reaches the tokenizer
through its inputs (arXiv 2606.09234, first-order loss).

Legend: B batch, L text tokens, T speech tokens, Q size of q, V speech codes, D model size,
X size of a speaker embedding, A classes of the advance.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from e2etts.nets.guide import AttentionGuide
from e2etts.nets.sequence import cut, join, length_mask, pad_in_front
from e2etts.nets.transformer import KVCache, Transformer, TransformerConfig


@dataclass(frozen=True, kw_only=True)
class LMConfig:
    """trunk: sizes. speaker_embedding: whether it is part of the prefix.

    input: past tokens are read as "q", their embedding by the tokenizer, through which the LM's
    loss reaches it, or by a "table" of the LM's own, learned with it.
    text_input: "prefix" puts all text before the speech, and attention learns where to read
    (arXiv 2412.10117). "aligned" adds to each speech token the text token at its text position,
    and the LM also predicts how many text tokens to advance (monotonic alignment as in arXiv
    2406.07855): it learns from little data, and neither skips nor repeats.
    text_encoder_layers: of the bidirectional text encoder of "aligned".
    text_stride: of "prefix". 0 numbers all positions in one row; s > 0 puts text token i at i * s
    and speech token t at t, so that what belongs together is near in rotary distance from the
    first step (s: speech tokens per text token of the corpus); "auto": as in the training data.
    digit_head: whether codes that are made of digits share these in the output layer, see
    ``CodeHead``.
    """

    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    speaker_embedding: bool = True
    input: Literal["q", "table"] = "q"
    text_input: Literal["prefix", "aligned"] = "prefix"
    text_encoder_layers: int = 2
    text_stride: float | Literal["auto"] = 0.0
    digit_head: bool = True

    def __post_init__(self):
        if self.text_input == "aligned" and self.text_stride:
            raise ValueError("text_stride places a text prefix: leave it 0 with aligned text_input")


class LMCondition(NamedTuple):
    """All that an utterance's tokens are conditioned on: text (B, L) ids, text_lens (B,),
    language (B,) ids, speaker (B, X) embeddings, style (B,) ids with 0 for none, or None."""

    text: torch.Tensor
    text_lens: torch.Tensor
    language: torch.Tensor
    speaker: torch.Tensor
    style: torch.Tensor | None = None

    def select(self, rows: torch.Tensor | slice) -> "LMCondition":
        """Rows (R,), in that order; a row may occur several times."""
        return LMCondition(*(x if x is None else x[rows] for x in self))


class LMOutput(NamedTuple):
    """logits: (..., V + 1), the last class is the end token; advance: (..., A) logits of how many
    text tokens the text position moves before the token after; None without aligned text_input."""

    logits: torch.Tensor
    advance: torch.Tensor | None


class LM(nn.Module):
    """p(k_1..k_T, end | condition)."""

    def __init__(
        self,
        config: LMConfig,
        *,
        text_vocab: int,
        languages: int,
        codes: int,
        digits: torch.Tensor | None,
        q_dim: int,
        speaker_dim: int,
        advances: int,
        styles: int = 0,
    ):
        """codes: V; digits: (V, D) of every code, None for codes without; advances: A; styles:
        number of style ids, "none" (0) included; 0 for an LM without style condition."""
        super().__init__()
        dim = config.trunk.dim
        self.config, self.end = config, codes
        self.aligned = config.text_input == "aligned"
        self.text = nn.Embedding(text_vocab, dim)
        self.language = nn.Embedding(languages, dim)
        self.speech_start = nn.Parameter(torch.randn(dim) * 0.02)
        self.speaker = nn.Linear(speaker_dim, dim) if config.speaker_embedding else None
        self.table = nn.Embedding(codes, q_dim) if config.input == "table" else None
        self.style = nn.Embedding(styles, dim) if styles else None
        self.speech = nn.Linear(q_dim, dim)
        self.trunk = Transformer(config.trunk, causal=True)
        self.head = CodeHead(dim, codes, digits if config.digit_head else None)
        if self.aligned:
            self.text_start = nn.Parameter(torch.randn(dim) * 0.02)
            self.text_encoder = Transformer(
                replace(config.trunk, layers=config.text_encoder_layers), causal=False)
            self.advance = nn.Linear(dim, advances)
        for table in (self.text, self.language, self.style):
            if table is not None:
                nn.init.normal_(table.weight, std=0.5)

    def reads(self, q: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """What to give as ``q`` of tokens (...,) whose embedding by the tokenizer is (..., Q)."""
        return q if self.table is None else self.table(index)

    def _prefix(self, given: LMCondition) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, P, D) language, speaker, style, text, start of speech, and its lengths (B,)."""
        head = [self.language(given.language).unsqueeze(1)]
        if self.speaker is not None:
            head.append(self.speaker(given.speaker).unsqueeze(1).to(head[0].dtype))
        if self.style is not None:
            style = torch.zeros_like(given.language) if given.style is None else given.style
            head.append(self.style(style).unsqueeze(1))
        lens = torch.full_like(given.text_lens, len(head))
        if not self.aligned:
            head, lens = [*head, self.text(given.text)], lens + given.text_lens
        start = self.speech_start.to(head[0].dtype).expand(len(given.text), 1, -1)
        return join(torch.cat(head, dim=1), lens, start, torch.ones_like(lens)), lens + 1

    def _encode_text(self, given: LMCondition) -> torch.Tensor | None:
        """(B, L + 1, D): row i is of text position i - 1, row 0 of the start, before the text;
        None without aligned text_input."""
        if not self.aligned:
            return None
        start = self.text_start.expand(len(given.text), 1, -1)
        return self.text_encoder(torch.cat([start, self.text(given.text)], dim=1),
                                 lens=given.text_lens + 1)

    def _positions(self, prefix_lens: torch.Tensor, size: int) -> torch.Tensor:
        """(B, size) rotary positions of prefix and speech."""
        at = torch.arange(size, device=prefix_lens.device).expand(len(prefix_lens), -1)
        if self.config.text_stride <= 0:
            return at
        start = (prefix_lens - 1)[:, None]
        return torch.where(at < start, at * self.config.text_stride, (at - start).float())

    def _join(self, prefix, prefix_lens, q, lens, encoded, position):
        """Prefix and speech (B, P + T, D); the start of speech and all tokens but the last are
        followed by a token at text ``position`` (B, T), the last by one at the end of the text."""
        x = join(prefix, prefix_lens, self.speech(q).to(prefix.dtype), lens)
        if not self.aligned:
            return x
        cue = encoded.gather(1, (position + 1).unsqueeze(-1).expand(-1, -1, encoded.shape[-1]))
        silent = cue.new_zeros(len(x), int(prefix_lens.max()) - 1, cue.shape[-1])
        return x + join(silent, prefix_lens - 1, cue.to(x.dtype), lens + 1)

    def forward(self, given: LMCondition, q: torch.Tensor, lens: torch.Tensor,
                position: torch.Tensor | None = None, guide: AttentionGuide | None = None
                ) -> LMOutput:
        """Teacher-forced, T + 1 rows: row t predicts token t given q[:, :t]; row lens[b] the end.

        q: (B, T, Q), that of ``reads``, here and in ``start`` and ``step``; lens: (B,); position:
        (B, T) of each token in its text, with aligned text_input; guide: of the attention to a text
        prefix, for training.
        """
        prefix, prefix_lens = self._prefix(given)
        if self.aligned:
            position = row_positions(position, lens, given.text_lens)
        x = self._join(prefix, prefix_lens, q, lens, self._encode_text(given), position)
        x = self.trunk(x, positions=self._positions(prefix_lens, x.shape[1]),
                       watch=guide and guide.watch(prefix_lens - 1))
        return self._out(cut(x, prefix_lens - 1, q.shape[1] + 1))

    def _out(self, x: torch.Tensor) -> LMOutput:
        return LMOutput(self.head(x), self.advance(x) if self.aligned else None)

    def start(self, given: LMCondition, max_tokens: int, prompt_q: torch.Tensor | None = None,
              prompt_position: torch.Tensor | None = None) -> "Decoding":
        """Read the prefix (and prompt_q (B, P, Q), the same P for all rows, at prompt_position
        (B, P)) and return the state from which at most ``max_tokens`` tokens can be decoded one
        at a time."""
        prefix, lens = self._prefix(given)
        if prompt_q is None:
            prompt_q = prefix.new_zeros(len(prefix), 0, self.speech.in_features)
        full = torch.full_like(lens, prompt_q.shape[1])
        encoded, position = self._encode_text(given), None
        if self.aligned:
            position = given.text_lens.new_full((len(prefix), 1), -1)
            if prompt_q.shape[1]:  # the first new token stands where the prompt's last one did
                position = row_positions(prompt_position, full, given.text_lens)
                position[:, -1] = prompt_position[:, -1]
        x, total = self._join(prefix, lens, prompt_q, full, encoded, position), lens + full
        positions = self._positions(lens, x.shape[1])
        x, first, source = pad_in_front(x, total)
        cache = KVCache(x.shape[1] + max_tokens)
        x = self.trunk(x, positions=positions.gather(1, source), cache=cache, first=first)
        state = Decoding(cache, first, positions.gather(1, (total - 1)[:, None]) + 1)
        if self.aligned:
            state.encoded, state.text_position = encoded, position[:, -1]
        state.out = self._out(x[:, -1])
        return state

    def step(self, state: "Decoding", q: torch.Tensor,
             text_position: torch.Tensor | None = None) -> LMOutput:
        """Feed the embedding (B, Q) of the last token and, with aligned text_input, the text
        position (B,) of the next; returns the prediction of the next."""
        x = self.speech(q)
        if self.aligned:
            rows = torch.arange(len(q), device=q.device)
            x = x + state.encoded[rows, text_position + 1].to(x.dtype)
            state.text_position = text_position
        x = self.trunk(x.unsqueeze(1), positions=state.positions, cache=state.cache,
                       first=state.first)
        state.positions = state.positions + 1
        state.out = self._out(x[:, -1])
        return state.out


class CodeHead(nn.Module):
    """Logits of every code and the end token. Where codes are made of digits, the logit of a code
    is the sum of its own and its digits' logits: codes that differ in one digit are nearly the
    same sound, and on little data most codes are too rare to be learned one by one."""

    def __init__(self, dim: int, codes: int, digits: torch.Tensor | None):
        super().__init__()
        self.codes = nn.Linear(dim, codes + 1, bias=False)
        self.digits = None
        if digits is not None:
            levels = (digits.amax(0) + 1).tolist()
            one_hot = torch.cat([F.one_hot(digits[:, d], n) for d, n in enumerate(levels)], dim=-1)
            self.register_buffer("one_hot", one_hot.T.float(), persistent=False)
            self.digits = nn.Linear(dim, sum(levels), bias=False)
        nn.init.normal_(self.codes.weight, std=0.02)
        if self.digits is not None:
            nn.init.normal_(self.digits.weight, std=dim**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., V + 1)."""
        if self.digits is None:
            return self.codes(x)
        shared = self.digits(x)
        return self.codes(x) + F.pad(shared @ self.one_hot.to(shared.dtype), (0, 1))

    def joined(self) -> torch.Tensor:
        """(V + 1, D) one matrix that gives the same logits."""
        if self.digits is None:
            return self.codes.weight
        shared = self.one_hot.T @ self.digits.weight
        return self.codes.weight + F.pad(shared, (0, 0, 0, 1))


class Decoding:
    """State of lockstep decoding: KV cache, first valid position and next position by row; with
    aligned text_input the encoded text and each row's position in it; tables of a ``PackedLM``."""

    def __init__(self, cache: KVCache, first: torch.Tensor, positions: torch.Tensor):
        self.cache, self.first, self.positions = cache, first, positions
        self.encoded: torch.Tensor | None = None
        self.text_position: torch.Tensor | None = None
        self.tables = None
        self.out: LMOutput

    def select(self, rows: torch.Tensor) -> None:
        """Keep rows (R,), in that order; a row may occur several times."""
        self.cache.reorder(rows)
        self.first, self.positions = self.first[rows], self.positions[rows]
        self.tables = None
        self.out = LMOutput(*(x if x is None else x[rows] for x in self.out))
        if self.encoded is not None:
            self.encoded = self.encoded[rows]
            self.text_position = self.text_position[rows]


def lm_targets(index: torch.Tensor, lens: torch.Tensor, end: int) -> torch.Tensor:
    """(B, T) tokens -> (B, T + 1) targets: tokens, the end token, then -100 (ignored)."""
    target = F.pad(index, (0, 1), value=-100).masked_fill(
        ~length_mask(lens, index.shape[1] + 1), -100)
    return target.scatter(1, lens[:, None], end)


def row_positions(position: torch.Tensor, lens: torch.Tensor, text_lens: torch.Tensor
                  ) -> torch.Tensor:
    """(B, T) text positions of tokens, -1 before the text, never falling -> (B, T + 1), those of
    the LM's rows: the first is before the text, the end and padding at its end."""
    valid = length_mask(lens, position.shape[1] + 1)
    out = torch.where(valid, F.pad(position, (0, 1)), text_lens[:, None] - 1)
    return torch.cat([torch.full_like(out[:, :1], -1), out[:, 1:]], dim=1)


def advance_targets(
    position: torch.Tensor, lens: torch.Tensor, text_lens: torch.Tensor, classes: int
) -> torch.Tensor:
    """(B, T) text positions -> (B, T + 1): by how much they move after each row; -100 (ignored)
    where no token follows, or where it moves by more than there are classes for."""
    at = row_positions(position, lens, text_lens)
    move = F.pad(at[:, 1:] - at[:, :-1], (0, 1))
    wanted = length_mask(lens - 1, move.shape[1]) & (move < classes)
    return move.masked_fill(~wanted, -100)


def lm_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over valid positions, in nats; 0 where there are none."""
    total = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100,
                            reduction="sum")
    return total / (targets >= 0).sum().clamp_min(1)
