"""Guided attention: a loss that draws heads of a prefix LM to the text that is being spoken.

Legend: B batch, T speech tokens, S positions of prefix and speech, H heads, K head size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from e2etts.nets.sequence import cut, length_mask, masked_mean
from e2etts.nets.transformer import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class GuideConfig:
    """The attention that is guided. layers: of the LM's trunk, counted from 0; heads: how many of
    each, the first ones; width: how many text tokens on each side of the aligned one count as
    right too."""

    layers: tuple[int, ...] = (2, 3)
    heads: int = 1
    width: int = 1

    def __post_init__(self):
        if not self.layers or self.heads < 1 or self.width < 0:
            raise ValueError("guide needs one of layers, heads of at least 1, width of at least 0")

    def require_fit(self, trunk: TransformerConfig) -> None:
        """Raises ValueError for layers or heads that ``trunk`` lacks."""
        wrong = [i for i in self.layers if not 0 <= i < trunk.layers]
        if wrong:
            raise ValueError(f"guide.layers: the LM has no layer {wrong[0]}: choose from 0 to "
                             f"{trunk.layers - 1}")
        if self.heads > trunk.heads:
            raise ValueError(f"guide.heads: the LM has {trunk.heads} heads a layer")


class AttentionGuide:
    """Collects, in one ``LM.forward``, how much guided heads attend to the text token of the speech
    token that a row predicts. ``loss`` is then -log of that share of their attention, its mean over
    rows and heads. As guided attention (arXiv 1710.08969, section 4), with a known alignment
    instead of an assumed diagonal."""

    def __init__(self, config: GuideConfig, position: torch.Tensor, lens: torch.Tensor,
                 text_lens: torch.Tensor):
        """position: (B, T) of each speech token in its text, -1 before the text; lens, text_lens:
        (B,)."""
        self.config, self.lens, self.text_lens = config, lens, text_lens
        at_end = ~length_mask(lens, position.shape[1] + 1)
        last = text_lens[:, None] - 1
        # The end is read at the end of the text, silence before the text at its beginning.
        self.wanted = torch.where(at_end, last, F.pad(position, (0, 1)).clamp_min(0))
        self.terms: list[torch.Tensor] = []

    def watch(self, start: torch.Tensor) -> Callable[[int, torch.Tensor, torch.Tensor], None]:
        """What the trunk is to call; start: (B,) position of the start of speech, with the text
        right before it."""
        def see(layer: int, q: torch.Tensor, k: torch.Tensor) -> None:
            if layer in self.config.layers:
                self.terms.append(self._term(start, *(x[:, : self.config.heads] for x in (q, k))))
        return see

    @property
    def loss(self) -> torch.Tensor:
        """Mean of the guided layers, in nats."""
        return torch.stack(self.terms).mean()

    def _term(self, start: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        (b, heads, size, _), rows = k.shape, self.wanted.shape[1]
        q = cut(q.transpose(1, 2).flatten(2), start, rows).view(b, rows, heads, -1).transpose(1, 2)
        score = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
        key = torch.arange(size, device=k.device)
        seen = key <= start[:, None, None] + torch.arange(rows, device=k.device)[:, None]
        place = key - (start - self.text_lens)[:, None, None]  # in the text
        near = (place - self.wanted.unsqueeze(-1)).abs() <= self.config.width
        near &= (place >= 0) & (place < self.text_lens[:, None, None])
        share = [score.masked_fill(~mask.unsqueeze(1), -torch.inf).logsumexp(-1)
                 for mask in (near, seen)]
        return masked_mean((share[1] - share[0]).mean(1), length_mask(self.lens + 1, rows))
