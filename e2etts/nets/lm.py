"""Autoregressive LM: text tokens, language and voice, then speech tokens.

It reads the embedding q of past tokens, not their indices, so that its loss reaches the tokenizer
through its inputs (arXiv 2606.09234, first-order loss).

Legend: B batch, L text tokens, T speech tokens, Q size of q, V speech codes, X size of a voice,
A classes of the advance.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from e2etts.nets.sequence import cut, join, length_mask, pad_in_front
from e2etts.nets.transformer import KVCache, Transformer, TransformerConfig


@dataclass(frozen=True, kw_only=True)
class LMConfig:
    """Trunk, whether a voice vector is part of the prefix, and how the LM reads its text.

    input: past tokens are read as "q", their embedding by the tokenizer, through which the LM's
    loss reaches it, or by a "table" of the LM's own, learned with it.
    reading: "prefix" puts all text before the speech, and where it reads is for attention to
    learn (arXiv 2412.10117). "aligned" gives each speech token the text token being spoken, and
    the LM also predicts how many text tokens to advance (monotonic alignment as in arXiv
    2406.07855): it reads on little data, and neither skips nor repeats.
    reader_layers: layers of the bidirectional text encoder of "aligned".
    text_stride: of "prefix". 0 numbers all positions in one row; s > 0 puts text token i at i * s
    and speech token t at t, so that what belongs together is near in rotary distance from the
    first step (s: speech tokens per text token of the corpus).
    """

    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    voice: bool = True
    input: Literal["q", "table"] = "q"
    reading: Literal["prefix", "aligned"] = "prefix"
    reader_layers: int = 2
    text_stride: float = 0.0

    def __post_init__(self):
        if self.reading == "aligned" and self.text_stride:
            raise ValueError("text_stride places a text prefix: leave it 0 with aligned reading")


class LMOutput(NamedTuple):
    """logits: (..., V + 1), the last class is the end token; advance: (..., A) logits of how many
    text tokens the reading place moves before the token after; None without aligned reading."""

    logits: torch.Tensor
    advance: torch.Tensor | None


class LM(nn.Module):
    """p(k_1..k_T, end | text, language, voice)."""

    def __init__(
        self,
        config: LMConfig,
        *,
        text_vocab: int,
        languages: int,
        digits: torch.Tensor,
        q_dim: int,
        voice_dim: int,
        advances: int,
        styles: int = 0,
    ):
        """digits: (V, D) FSQ digits of every code; advances: A; styles: how many there are, with
        "none" as the first, 0 for an LM that is not told."""
        super().__init__()
        dim = config.trunk.dim
        self.config, self.end = config, len(digits)
        self.aligned = config.reading == "aligned"
        self.text = nn.Embedding(text_vocab, dim)
        self.language = nn.Embedding(languages, dim)
        self.turn = nn.Parameter(torch.randn(dim) * 0.02)
        self.voice = nn.Linear(voice_dim, dim) if config.voice else None
        self.table = nn.Embedding(len(digits), q_dim) if config.input == "table" else None
        self.style = nn.Embedding(styles, dim) if styles else None
        self.speech = nn.Linear(q_dim, dim)
        self.trunk = Transformer(config.trunk, causal=True)
        self.head = CodeHead(dim, digits)
        if self.aligned:
            self.unread = nn.Parameter(torch.randn(dim) * 0.02)
            self.reader = Transformer(replace(config.trunk, layers=config.reader_layers),
                                      causal=False)
            self.advance = nn.Linear(dim, advances)
        for table in (self.text, self.language, self.style):
            if table is not None:
                nn.init.normal_(table.weight, std=0.5)

    def reads(self, q: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """What to give as ``q`` of tokens (...,) whose embedding by the tokenizer is (..., Q)."""
        return q if self.table is None else self.table(index)

    def _prefix(self, text, text_lens, language, voice, style):
        """(B, P, D) language, voice, style, text, turn, and its lengths (B,)."""
        head = [self.language(language).unsqueeze(1)]
        if self.voice is not None:
            head.append(self.voice(voice).unsqueeze(1).to(head[0].dtype))
        if self.style is not None:
            style = torch.zeros_like(language) if style is None else style
            head.append(self.style(style).unsqueeze(1))
        lens = torch.full_like(text_lens, len(head))
        if not self.aligned:
            head, lens = [*head, self.text(text)], lens + text_lens
        turn = self.turn.to(head[0].dtype).expand(len(text), 1, -1)
        return join(torch.cat(head, dim=1), lens, turn, torch.ones_like(lens)), lens + 1

    def _read(self, text, text_lens):
        """(B, L + 1, D): row i is what stands at place i - 1 of the text, row 0 before it."""
        unread = self.unread.expand(len(text), 1, -1)
        return self.reader(torch.cat([unread, self.text(text)], dim=1), lens=text_lens + 1)

    def _positions(self, prefix_lens: torch.Tensor, size: int) -> torch.Tensor:
        """(B, size) rotary positions of prefix and speech."""
        at = torch.arange(size, device=prefix_lens.device).expand(len(prefix_lens), -1)
        if self.config.text_stride <= 0:
            return at
        turn = (prefix_lens - 1)[:, None]
        return torch.where(at < turn, at * self.config.text_stride, (at - turn).float())

    def _join(self, prefix, prefix_lens, q, lens, read, place):
        """Prefix and speech (B, P + T, D); the turn and all speech but the last token are followed
        by a token at ``place`` (B, T), the last by one at the end of the text."""
        x = join(prefix, prefix_lens, self.speech(q).to(prefix.dtype), lens)
        if not self.aligned:
            return x
        cue = read.gather(1, (place + 1).unsqueeze(-1).expand(-1, -1, read.shape[-1]))
        silent = cue.new_zeros(len(x), int(prefix_lens.max()) - 1, cue.shape[-1])
        return x + join(silent, prefix_lens - 1, cue.to(x.dtype), lens + 1)

    def forward(
        self,
        text: torch.Tensor,
        text_lens: torch.Tensor,
        language: torch.Tensor,
        voice: torch.Tensor | None,
        q: torch.Tensor,
        lens: torch.Tensor,
        place: torch.Tensor | None = None,
        style: torch.Tensor | None = None,
    ) -> LMOutput:
        """Teacher-forced, T + 1 rows: row t is about token t given q[:, :t]; row lens[b] should
        end. text: (B, L), text_lens: (B,), language: (B,), voice: (B, X), q: (B, T, Q), lens:
        (B,); with aligned reading place: (B, T) of each token in its text (see ``lm_places``);
        style: (B,) ids, 0 or None for none. q is that of ``reads``, here and in ``start`` and
        ``step``.
        """
        prefix, prefix_lens = self._prefix(text, text_lens, language, voice, style)
        read = None
        if self.aligned:
            read = self._read(text, text_lens)
            place = lm_places(place, lens, text_lens)
        x = self._join(prefix, prefix_lens, q, lens, read, place)
        x = self.trunk(x, positions=self._positions(prefix_lens, x.shape[1]))
        return self._out(cut(x, prefix_lens - 1, q.shape[1] + 1))

    def _out(self, x: torch.Tensor) -> LMOutput:
        return LMOutput(self.head(x), self.advance(x) if self.aligned else None)

    def start(
        self,
        text: torch.Tensor,
        text_lens: torch.Tensor,
        language: torch.Tensor,
        voice: torch.Tensor | None,
        prompt_q: torch.Tensor | None,
        max_tokens: int,
        prompt_place: torch.Tensor | None = None,
        style: torch.Tensor | None = None,
    ) -> "Decoding":
        """Read the prefix (and prompt_q (B, P, Q), the same P for all rows, at prompt_place
        (B, P)) and return the state from which at most ``max_tokens`` tokens can be decoded one
        at a time."""
        prefix, lens = self._prefix(text, text_lens, language, voice, style)
        if prompt_q is None:
            prompt_q = prefix.new_zeros(len(text), 0, self.speech.in_features)
        full = torch.full_like(lens, prompt_q.shape[1])
        read, place = None, None
        if self.aligned:
            read = self._read(text, text_lens)
            place = text_lens.new_full((len(text), 1), -1)
            if prompt_q.shape[1]:  # the first new token stands where the prompt's last one did
                place = lm_places(prompt_place, full, text_lens)
                place[:, -1] = prompt_place[:, -1]
        x, total = self._join(prefix, lens, prompt_q, full, read, place), lens + full
        positions = self._positions(lens, x.shape[1])
        x, first, source = pad_in_front(x, total)
        cache = KVCache(x.shape[1] + max_tokens)
        x = self.trunk(x, positions=positions.gather(1, source), cache=cache, first=first)
        state = Decoding(cache, first, positions.gather(1, (total - 1)[:, None]) + 1)
        if self.aligned:
            state.read, state.place = read, place[:, -1]
        state.out = self._out(x[:, -1])
        return state

    def step(
        self, state: "Decoding", q: torch.Tensor, place: torch.Tensor | None = None
    ) -> LMOutput:
        """Feed the embedding (B, Q) of the last token and, with aligned reading, the place (B,) of
        the next; returns what is said of the next."""
        x = self.speech(q)
        if self.aligned:
            rows = torch.arange(len(q), device=q.device)
            x = x + state.read[rows, place + 1].to(x.dtype)
            state.place = place
        x = self.trunk(x.unsqueeze(1), positions=state.positions, cache=state.cache,
                       first=state.first)
        state.positions = state.positions + 1
        state.out = self._out(x[:, -1])
        return state.out


class CodeHead(nn.Module):
    """Logits of every code and the end token. What a code is worth is the sum of its digits'
    worth and its own: codes that differ in one digit nearly are the same sound, and on few data
    most codes are too rare to be learned each by itself."""

    def __init__(self, dim: int, digits: torch.Tensor):
        super().__init__()
        levels = (digits.amax(0) + 1).tolist()
        one_hot = torch.cat([F.one_hot(digits[:, d], n) for d, n in enumerate(levels)], dim=-1)
        self.register_buffer("one_hot", one_hot.T.float(), persistent=False)
        self.codes = nn.Linear(dim, len(digits) + 1, bias=False)
        self.digits = nn.Linear(dim, sum(levels), bias=False)
        nn.init.normal_(self.codes.weight, std=0.02)
        nn.init.normal_(self.digits.weight, std=dim**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., V + 1)."""
        shared = self.digits(x)
        return self.codes(x) + F.pad(shared @ self.one_hot.to(shared.dtype), (0, 1))

    def joined(self) -> torch.Tensor:
        """(V + 1, D) one matrix that gives the same logits."""
        shared = self.one_hot.T @ self.digits.weight
        return self.codes.weight + F.pad(shared, (0, 0, 0, 1))


class Decoding:
    """State of lockstep decoding: KV cache, first valid position and next position by row; with
    aligned reading the encoded text and each row's place in it; tables of a ``PackedLM``."""

    def __init__(self, cache: KVCache, first: torch.Tensor, positions: torch.Tensor):
        self.cache, self.first, self.positions = cache, first, positions
        self.read: torch.Tensor | None = None
        self.place: torch.Tensor | None = None
        self.tables = None
        self.out: LMOutput

    def select(self, rows: torch.Tensor) -> None:
        """Keep rows (R,), in that order; a row may occur several times."""
        self.cache.reorder(rows)
        self.first, self.positions = self.first[rows], self.positions[rows]
        self.tables = None
        self.out = LMOutput(*(x if x is None else x[rows] for x in self.out))
        if self.read is not None:
            self.read, self.place = self.read[rows], self.place[rows]


def lm_targets(index: torch.Tensor, lens: torch.Tensor, end: int) -> torch.Tensor:
    """(B, T) tokens -> (B, T + 1) targets: tokens, the end token, then -100 (ignored)."""
    target = F.pad(index, (0, 1), value=-100).masked_fill(
        ~length_mask(lens, index.shape[1] + 1), -100)
    return target.scatter(1, lens[:, None], end)


def lm_places(place: torch.Tensor, lens: torch.Tensor, text_lens: torch.Tensor) -> torch.Tensor:
    """(B, T) places of tokens in their text, -1 before it, never falling -> (B, T + 1), those at
    which the rows of the LM stand: the first is before the text, the end and padding at its end."""
    valid = length_mask(lens, place.shape[1] + 1)
    out = torch.where(valid, F.pad(place, (0, 1)), text_lens[:, None] - 1)
    return torch.cat([torch.full_like(out[:, :1], -1), out[:, 1:]], dim=1)


def advance_targets(
    place: torch.Tensor, lens: torch.Tensor, text_lens: torch.Tensor, classes: int
) -> torch.Tensor:
    """(B, T) places -> (B, T + 1): by how much the place moves after each row; -100 (ignored)
    where no token follows, or where it moves by more than there are classes for."""
    at = lm_places(place, lens, text_lens)
    move = F.pad(at[:, 1:] - at[:, :-1], (0, 1))
    wanted = length_mask(lens - 1, move.shape[1]) & (move < classes)
    return move.masked_fill(~wanted, -100)


def lm_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over valid positions, in nats; 0 where there are none."""
    total = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100,
                            reduction="sum")
    return total / (targets >= 0).sum().clamp_min(1)
