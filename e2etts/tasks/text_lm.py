"""A small text LM, trained on the texts of a prepared set, from which a recipe's LM can start.

Legend: N text tokens of all texts, B rows, W tokens of a window, V text vocabulary.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from e2etts.nets.transformer import Transformer, TransformerConfig
from e2etts.text.tokenizer import END
from e2etts.train.config import TrainConfig
from e2etts.train.optim import learning_rate_ratio, make_optimizers


class TextLM(nn.Module):
    """Next text token by the trunk of the LM, its text embedding, and a head of its own."""

    def __init__(self, trunk: TransformerConfig, text_vocab: int):
        super().__init__()
        self.text = nn.Embedding(text_vocab, trunk.dim)
        nn.init.normal_(self.text.weight, std=0.5)  # as that of the LM
        self.trunk = Transformer(trunk, causal=True)
        self.head = nn.Linear(trunk.dim, text_vocab, bias=False)

    def loss(self, window: torch.Tensor) -> torch.Tensor:
        """(B, W) ids -> mean cross-entropy of all but the first, in nats."""
        logits = self.head(self.trunk(self.text(window[:, :-1])))
        return F.cross_entropy(logits.flatten(0, 1).float(), window[:, 1:].flatten())


def stream(texts: Iterable[list[int]]) -> torch.Tensor:
    """(N,) the ids of texts one after the other, each followed by the end token."""
    return torch.tensor([i for text in texts for i in (*text, END)])


def train_steps(model: TextLM, ids: torch.Tensor, *, steps: int, seed: int, rows: int = 32,
                window: int = 128, lr: float = 1e-3) -> Iterable[float]:
    """Train on random windows of ``ids`` (N,); yields the loss of each step."""
    config = TrainConfig(lr=lr, max_steps=steps, weight_decay=0.1,
                         warmup_steps=min(100, steps // 10))
    optimizers = make_optimizers(model, list(model.parameters()), config)
    random = torch.Generator().manual_seed(seed)
    size = min(window + 1, len(ids))
    for step in range(steps):
        start = torch.randint(0, len(ids) - size + 1, (rows, 1), generator=random)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(ids[start + torch.arange(size)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        ratio = learning_rate_ratio(step, step / steps, config.warmup_steps, config.final_lr_ratio)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * ratio
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        yield float(loss.detach())


@torch.no_grad()
def mean_loss(model: TextLM, ids: torch.Tensor, window: int = 128) -> float:
    """Nats per token of ``ids`` (N,), in windows one after the other."""
    model.eval()
    parts = [part for part in ids.split(window) if len(part) > 1]
    total = sum(float(model.loss(part[None])) * (len(part) - 1) for part in parts)
    return total / sum(len(part) - 1 for part in parts)
