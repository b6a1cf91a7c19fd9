"""Optimiser, learning-rate schedule and weight averaging."""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import nn


def learning_rate_ratio(step: int, progress: float, warmup_steps: int, final: float) -> float:
    """Factor on the peak rate: linear warm-up by steps, times a cosine by progress in [0, 1].

    The cosine falls from 1 to ``final`` (arXiv:1608.03983 without restarts).
    """
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, progress))))
    return warm * (final + (1.0 - final) * cosine)


def make_adamw(
    module: nn.Module, parameters: list[nn.Parameter], *, lr: float,
    betas: tuple[float, float], weight_decay: float,
) -> torch.optim.AdamW:
    """AdamW over ``parameters``; only matrices that are not embeddings decay."""
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    decays = [p for p in parameters if p.ndim >= 2 and id(p) not in tables]
    chosen = {id(p) for p in decays}
    rest = [p for p in parameters if id(p) not in chosen]
    groups = [{"params": decays, "weight_decay": weight_decay},
              {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, fused=True)


class Ema:
    """Exponential moving average of parameters.

    The decay warms up as (1 + n) / (10 + n) after n updates, so that short runs are not held
    back by the initial weights. decay 0 switches it off: the average is the weights themselves.
    """

    def __init__(self, parameters: list[nn.Parameter], decay: float):
        self.parameters, self.decay, self.updates = parameters, decay, 0
        self.average = [p.detach().clone() for p in parameters] if decay else []

    @torch.no_grad()
    def update(self) -> None:
        if self.decay:
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
            self.updates += 1

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the module's parameters hold the average."""
        if not self.decay:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for i, parameter in enumerate(self.parameters):
            parameter.data, self.average[i] = self.average[i], parameter.data

    def state_dict(self) -> dict:
        return {"average": self.average, "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        for mine, stored in zip(self.average, state["average"], strict=True):
            mine.copy_(stored)
        self.updates = state["updates"]
