"""Optimiser, learning-rate schedule and weight averaging."""

import contextlib
import math
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from e2etts.nets.transformer import Transformer
from e2etts.train.config import TrainConfig


def learning_rate_ratio(step: int, progress: float, warmup_steps: int, final: float) -> float:
    """Multiplier of the peak learning rate: linear warm-up by step, times a cosine decay from 1 to
    ``final`` by progress in [0, 1] (arXiv 1608.03983, without restarts).
    """
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, progress))))
    return warm * (final + (1.0 - final) * cosine)


def make_optimizers(
    module: nn.Module, parameters: list[nn.Parameter], config: TrainConfig,
    scales: Mapping[int, float] | None = None,
) -> list[torch.optim.Optimizer]:
    """AdamW over ``parameters``; weight decay applies to matrices except embeddings. With "muon",
    Muon (arXiv 2502.16982) optimises the matrices inside transformers; its update is scaled to the
    RMS of AdamW's, so that both use the same learning rate.

    scales: id of a parameter -> multiplier of its learning rate, kept as "scale" of its group.
    """
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    hidden = {id(p) for m in module.modules() if isinstance(m, Transformer)
              for p in m.parameters() if p.ndim == 2}
    kinds: dict[str, dict[float, list[nn.Parameter]]] = {"muon": {}, "decay": {}, "rest": {}}
    for p in parameters:
        if config.optimizer == "muon" and id(p) in hidden:
            kind = "muon"
        else:
            kind = "decay" if p.ndim >= 2 and id(p) not in tables else "rest"
        kinds[kind].setdefault((scales or {}).get(id(p), 1.0), []).append(p)

    def groups(kind: str, weight_decay: float) -> list[dict]:
        return [{"params": ps, "weight_decay": weight_decay, "scale": scale}
                for scale, ps in kinds[kind].items()]

    out: list[torch.optim.Optimizer] = []
    if kinds["muon"]:
        out.append(torch.optim.Muon(groups("muon", config.weight_decay), lr=config.lr,
                                    adjust_lr_fn="match_rms_adamw"))
    if kinds["decay"] or kinds["rest"]:
        out.append(torch.optim.AdamW(groups("decay", config.weight_decay) + groups("rest", 0.0),
                                     lr=config.lr, betas=config.betas, fused=True))
    return out


class Ema:
    """Exponential moving average (EMA) of parameters.

    The decay warms up as (1 + n) / (10 + n) after n updates, to reduce the effect of the initial
    weights in short runs. decay 0 disables the average: the weights themselves are used.
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
        """Context manager that swaps the averaged weights into the module."""
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
