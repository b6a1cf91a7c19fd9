"""Reward model: one trunk over q; speech recognition, emotion and speaker heads.

Legend: B batch, T tokens, L text tokens, Q size of q, V text vocabulary, D trunk size, S steps,
X size of a speaker embedding.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torchaudio.functional import forced_align

from e2etts.nets.options import training_option
from e2etts.nets.sequence import cut, join, length_mask, pad_in_front
from e2etts.nets.speaker_match import SpeakerMatch
from e2etts.nets.transformer import KVCache, Transformer, TransformerConfig

MOST_CLASSES = 10_000  # speakers that a softmax over all of them is made for


@dataclass(frozen=True, kw_only=True)
class RMConfig:
    """labels_per_token: CTC frames a speech token (at 25 tokens a second fast speech needs two);
    decoder_layers: layers of the attention decoder, 0 for CTC alone. label_smoothing: share of the
    target spread over all classes of the attention decoder and of both classifiers; it also makes
    a reward that is harder to hack (0.1 in arXiv 2512.04552). speaker_loss: "classes", one for each
    of at most MOST_CLASSES speakers of the train set; "embedding", which speaker embedding of the
    batch belongs to an utterance (``SpeakerMatch``), for any number, with many in a batch."""

    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    labels_per_token: int = 2
    decoder_layers: int = 0
    label_smoothing: float = training_option(0.0)
    speaker_loss: Literal["classes", "embedding"] = "classes"

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise ValueError("label_smoothing must be at least 0 and below 1")


class AttentionPool(nn.Module):
    """(B, T, D) -> (B, D), weights learned, one pool a task (arXiv 2507.05911)."""

    def __init__(self, dim: int):
        super().__init__()
        self.score = nn.Linear(dim, 1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weight = self.score(x).float().masked_fill(~mask.unsqueeze(-1), -torch.inf).softmax(1)
        return (weight * x.float()).sum(1)


class RM(nn.Module):
    """Recognition of text, emotion and speaker from q (arXiv 2606.09234, section 2)."""

    def __init__(
        self, config: RMConfig, *, q_dim: int, text_vocab: int, speakers: int, emotions: int,
        speaker_dim: int,
    ):
        """speaker_dim: X. no_speaker_loss: why there is none to train with, or None."""
        super().__init__()
        dim = config.trunk.dim
        self.config = config
        self.blank = text_vocab
        self.stem = nn.Linear(q_dim, dim)
        self.trunk = Transformer(config.trunk, causal=False)
        self.split = nn.Linear(dim, config.labels_per_token * dim)
        self.ctc = nn.Linear(dim, text_vocab + 1)
        self.decoder = None
        if config.decoder_layers:
            self.decoder = Transformer(replace(config.trunk, layers=config.decoder_layers),
                                       causal=True)
            # Row V starts the text; class V ends it.
            self.text = nn.Embedding(text_vocab + 1, dim)
            self.head = nn.Linear(dim, text_vocab + 1)
        self.pools = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        for task, classes in (("emotion", emotions), ("speaker", speakers)):
            if classes > 1:
                embeds = task == "speaker" and config.speaker_loss == "embedding"
                self.pools[task] = AttentionPool(dim)
                self.heads[task] = (SpeakerMatch(dim, speaker_dim) if embeds
                                    else nn.Linear(dim, classes))
        self.no_speaker_loss = None if speakers > 1 else "the data have one speaker"
        if speakers > MOST_CLASSES and self.classifies("speaker"):
            self.no_speaker_loss = (f"{speakers} speakers are too many classes (at most "
                                    f"{MOST_CLASSES}; model.rm.speaker_loss: embedding has none)")

    def encode(self, q: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        """q: (B, T, Q), lens: (B,) -> (B, T, D)."""
        return self.trunk(self.stem(q), lens=lens)

    def ctc_logits(self, h: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T * labels_per_token, V + 1); the last class is the blank."""
        b, t, d = h.shape
        return self.ctc(F.gelu(self.split(h)).reshape(b, t * self.config.labels_per_token, d))

    def ctc_loss(
        self,
        h: torch.Tensor,
        lens: torch.Tensor,
        text: torch.Tensor,
        text_lens: torch.Tensor,
        impossible: float = 0.0,
    ) -> torch.Tensor:
        """(B,) negative log-likelihood of the text, in nats a text token; ``impossible`` where
        the text cannot fit into its frames (0: such a row does not train)."""
        log_p = self.ctc_logits(h).float().log_softmax(-1).transpose(0, 1)
        loss = F.ctc_loss(log_p, text, lens * self.config.labels_per_token, text_lens,
                          blank=self.blank, reduction="none", zero_infinity=True)
        # Equal neighbours need a blank between them.
        inside = length_mask(text_lens - 1, text.shape[1] - 1)
        repeats = ((text[:, 1:] == text[:, :-1]) & inside).sum(1)
        too_short = lens * self.config.labels_per_token < text_lens + repeats
        loss = loss.masked_fill(too_short, impossible)
        return loss / text_lens.clamp_min(1)

    @torch.no_grad()
    def align(
        self, q: torch.Tensor, lens: torch.Tensor, text: torch.Tensor, text_lens: torch.Tensor
    ) -> torch.Tensor:
        """(B, T) text position, 0..L-1, of the last text token that the best CTC path has
        emitted by the end of each speech token; -1 before the first. A row whose text cannot fit,
        or whose logits are not finite (its losses will not be either), is spread evenly."""
        size = self.config.labels_per_token
        log_p = self.ctc_logits(self.encode(q, lens)).float().log_softmax(-1).cpu()
        position = torch.full(q.shape[:2], -1)
        for row, (t, n) in enumerate(zip(lens.tolist(), text_lens.tolist(), strict=True)):
            labels = text[row, :n].cpu()
            fits = t * size >= n + int((labels[1:] == labels[:-1]).sum())
            # Given what is not finite, the library reads outside of its memory.
            if not fits or not bool(log_p[row, : t * size].isfinite().all()):
                position[row, :t] = torch.arange(1, t + 1) * n // t - 1
                continue
            # The library takes one row at a time.
            path = forced_align(log_p[row : row + 1, : t * size], labels[None],
                                blank=self.blank)[0][0]
            begins = (path != self.blank) & (path != F.pad(path, (1, 0), value=self.blank)[:-1])
            position[row, :t] = (begins.cumsum(0) - 1)[size - 1 :: size]
        return position.to(q.device)

    def losses(
        self,
        q: torch.Tensor,
        lens: torch.Tensor,
        text: torch.Tensor,
        text_lens: torch.Tensor,
        speaker: torch.Tensor,
        emotion: torch.Tensor,
        speaker_embedding: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Named losses of the heads; labels of -1 are masked, a head all of whose labels are
        missing gives 0. speaker_embedding: (B, X) of other speech of each row's speaker, which the
        speaker loss "embedding" compares with."""
        h = self.encode(q, lens)
        ctc = self.ctc_loss(h, lens, text, text_lens)
        # A row whose text cannot fit is exactly 0: it must not flatter the mean.
        losses = {"ctc": ctc.sum() / (ctc != 0).sum().clamp_min(1)}
        if self.decoder is not None:
            losses["attention"] = self._attention_loss(h, lens, text, text_lens)
        for task, label in (("speaker", speaker), ("emotion", emotion)):
            if task in self.heads and not self.classifies(task):
                losses[task] = self.heads[task].loss(self.summary(task, h, lens), label,
                                                     speaker_embedding)
            elif task in self.heads:
                logits = self.classify(task, h, lens)
                known = (label >= 0).sum().clamp_min(1)
                losses[task] = F.cross_entropy(
                    logits, label, ignore_index=-1, reduction="sum",
                    label_smoothing=self.config.label_smoothing) / known
        return losses

    def classifies(self, task: str) -> bool:
        """Whether ``task``, "speaker" or "emotion", has a head of classes."""
        return isinstance(self.heads[task], nn.Linear) if task in self.heads else False

    @torch.no_grad()
    def row_losses(
        self,
        q: torch.Tensor,
        lens: torch.Tensor,
        text: torch.Tensor,
        text_lens: torch.Tensor,
        speaker: torch.Tensor,
        emotion: torch.Tensor,
        speaker_embedding: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """The losses of each row, (B,), without gradient: "ctc" and "attention" in nats a text
        token, "ctc" inf where the text cannot fit; 0 where a label is missing (-1). That of a
        speaker loss "embedding" is the distance from ``speaker_embedding`` (B, X): the other rows
        of a group are no rivals."""
        h, smoothing = self.encode(q, lens), self.config.label_smoothing
        losses = {"ctc": self.ctc_loss(h, lens, text, text_lens, impossible=torch.inf)}
        if self.decoder is not None:
            logits, target = self._attention(h, lens, text, text_lens)
            each = F.cross_entropy(logits.transpose(1, 2), target, ignore_index=-100,
                                   reduction="none", label_smoothing=smoothing)
            losses["attention"] = each.sum(1) / (text_lens + 1)
        for task, label in (("speaker", speaker), ("emotion", emotion)):
            if task in self.heads and not self.classifies(task):
                losses[task] = self.heads[task].distance(self.summary(task, h, lens),
                                                         speaker_embedding)
            elif task in self.heads:
                losses[task] = F.cross_entropy(self.classify(task, h, lens), label, ignore_index=-1,
                                               reduction="none", label_smoothing=smoothing)
        return losses

    def classify(self, task: str, h: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, classes) logits of ``task``: "speaker" or "emotion"."""
        return self.heads[task](self.summary(task, h, lens)).float()

    def summary(self, task: str, h: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, D): what the head of ``task`` looks at, one vector an utterance."""
        return self.pools[task](h, length_mask(lens, h.shape[1]))

    def speaker_vector(self, h: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, X or D) what tells the speaker of an utterance, to compare by cosine:
        the predicted speaker embedding, or what the classifier looks at."""
        summary = self.summary("speaker", h, lens)
        return summary if self.classifies("speaker") else self.heads["speaker"](summary)

    @torch.no_grad()
    def read_ctc(self, h: torch.Tensor, lens: torch.Tensor) -> list[torch.Tensor]:
        """Text tokens (S,) of the likeliest CTC path of each row."""
        path = self.ctc_logits(h).argmax(-1)
        rows = (row[:n] for row, n in zip(
            path, (lens * self.config.labels_per_token).tolist(), strict=True))
        merged = (torch.unique_consecutive(row) for row in rows)
        return [row[row != self.blank] for row in merged]

    @torch.no_grad()
    def read_attention(
        self, h: torch.Tensor, lens: torch.Tensor, longest: torch.Tensor
    ) -> list[torch.Tensor]:
        """Text tokens (S,) of each row, greedily by the attention decoder, at most longest (B,)."""
        start = self.text(torch.full_like(lens, self.blank)[:, None]).to(h.dtype)
        x, total = join(h, lens, start, torch.ones_like(lens)), lens + 1
        x, first, source = pad_in_front(x, total)
        cache = KVCache(x.shape[1] + int(longest.max()))
        y = self.decoder(x, positions=source, cache=cache, first=first)
        generated = []
        done = longest <= 0
        for step in range(int(longest.max())):
            token = self.head(y[:, -1]).argmax(-1)
            done = done | (token == self.blank) | (step >= longest)
            if bool(done.all()):
                break
            generated.append(token.masked_fill(done, -1))
            y = self.decoder(self.text(token)[:, None].to(h.dtype), cache=cache, first=first,
                             positions=(total + step)[:, None])
        text = torch.stack(generated, dim=1) if generated else lens.new_zeros(len(lens), 0)
        return [row[row >= 0] for row in text]

    def _attention_loss(self, h, lens, text, text_lens):
        logits, target = self._attention(h, lens, text, text_lens)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100,
                               label_smoothing=self.config.label_smoothing)

    def _attention(self, h, lens, text, text_lens):
        """Logits (B, L + 1, V + 1) of the attention decoder given the text so far, and targets
        (B, L + 1), -100 for none."""
        start = text.new_full((len(text), 1), self.blank)
        given = self.text(torch.cat([start, text], dim=1))
        x = self.decoder(join(h, lens, given.to(h.dtype), text_lens + 1))
        logits = self.head(cut(x, lens, text.shape[1] + 1))
        valid = length_mask(text_lens, text.shape[1] + 1)
        target = F.pad(text, (0, 1)).masked_fill(~valid, -100)
        return logits.float(), target.scatter(1, text_lens[:, None], self.blank)
