"""Flow matching: the objective and the ODE solver. The velocity estimator is any callable
``estimator(x, time, condition, lens)``.

Legend: B batch, N positions, C channels; x and targets are (B, N, C), time is (B,).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from e2etts.nets.options import training_option
from e2etts.nets.sequence import length_mask, masked_mean

Estimator = Callable[..., torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """The training objective. sigma: width left at t = 1; loss: of the velocity; cfg_dropout:
    share of training samples without condition, for classifier-free guidance."""

    sigma: float = 0.0
    loss: Literal["mse", "l1"] = training_option("mse")
    cfg_dropout: float = training_option(0.2)

    def __post_init__(self):
        if not 0 <= self.sigma < 1 or not 0 <= self.cfg_dropout <= 1:
            raise ValueError("sigma must be in [0, 1), cfg_dropout in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class SolverConfig:
    """How the ODE is solved at inference. steps: of Euler's method, 0 for the coarse mel alone;
    cfg_scale: weight w in (1 + w) v_cond - w v_uncond; temperature: scale of the initial noise;
    start: time in [0, 1) at which integration begins where there is a coarse prediction."""

    steps: int = 10
    cfg_scale: float = 0.7
    temperature: float = 1.0
    start: float = 0.0

    def __post_init__(self):
        if not 0 <= self.start < 1:
            raise ValueError(f"start must be at least 0 and less than 1, got {self.start}")
        if self.steps < 0 or self.cfg_scale < 0 or self.temperature < 0:
            raise ValueError("steps, cfg_scale and temperature must be at least 0")


def cosine_time(u: torch.Tensor) -> torch.Tensor:
    """[0, 1] -> [0, 1], slow near 0 (arXiv 2412.10117, section 2.3)."""
    return 1 - torch.cos(u * math.pi / 2)


def flow_loss(
    estimator: Estimator,
    config: FlowConfig,
    target: torch.Tensor,
    condition: object,
    lens: torch.Tensor,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Conditional flow matching on the optimal-transport path (arXiv 2210.02747, eq. 22-23).

    weight: (B, N) bool, positions that count (default: the valid ones)."""
    noise = torch.randn_like(target)
    time = cosine_time(torch.rand(len(target), device=target.device))
    t = time[:, None, None]
    x = (1 - (1 - config.sigma) * t) * noise + t * target
    velocity = target - (1 - config.sigma) * noise
    error = estimator(x, time, condition, lens).float() - velocity
    error = error.square() if config.loss == "mse" else error.abs()
    valid = length_mask(lens, target.shape[1])
    return masked_mean(error, valid if weight is None else valid & weight)


@torch.no_grad()
def flow_sample(
    estimator: Estimator,
    solver: SolverConfig,
    shape: tuple[int, int, int],
    condition: object,
    lens: torch.Tensor,
    generator: torch.Generator | None = None,
    known: tuple[torch.Tensor, torch.Tensor] | None = None,
    coarse: torch.Tensor | None = None,
    sigma: float = 0.0,
) -> torch.Tensor:
    """Euler integration from noise to data in ``solver.steps`` cosine-spaced steps, with
    classifier-free guidance (arXiv 2207.12598) unless cfg_scale is 0.

    condition: of B rows; with cfg_scale of 2 B, the second half without condition, so that one
    call of the estimator gives both velocities.
    known: data (B, N, C) and mask (B, N), True where they are given: there x is held on the path
    to the data, as in training, where the loss leaves these positions out.
    coarse: a prediction (B, N, C) of the data; with ``solver.start`` the integration begins at
    that time, on the path from the noise to the prediction (shallow flow matching, arXiv
    2505.12226). sigma: that of training."""
    noise = torch.randn(shape, generator=generator, device=lens.device) * solver.temperature
    start = solver.start if coarse is not None else 0.0
    x = noise if start == 0 else (1 - (1 - sigma) * start) * noise + start * coarse
    times = cosine_time(torch.linspace(0, 1, solver.steps + 1, device=lens.device))
    times = start + (1 - start) * times
    for now, then in zip(times[:-1], times[1:], strict=True):
        if known is not None:
            path = (1 - (1 - sigma) * now) * noise + now * known[0]
            x = torch.where(known[1].unsqueeze(-1), path, x)
        if solver.cfg_scale:
            v, free = estimator(torch.cat([x, x]), now.expand(2 * len(x)), condition,
                                torch.cat([lens, lens])).float().chunk(2)
            v = v + solver.cfg_scale * (v - free)
        else:
            v = estimator(x, now.expand(len(x)), condition, lens).float()
        x = x + (then - now) * v
    return x
