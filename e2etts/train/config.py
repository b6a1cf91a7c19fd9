"""How a stage is optimised."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class LossWeight:
    """A weight that is 0 until training progress ``delay`` and then rises to ``weight`` over
    ``ramp`` of the stage. While it is 0, the part that gives the loss is not run."""

    weight: float
    delay: float = 0.0
    ramp: float = 0.0

    def __post_init__(self):
        if not 0 <= self.delay < 1 or self.ramp < 0:
            raise ValueError("delay must be at least 0 and less than 1, ramp at least 0")


def weight_at(weight: float | LossWeight, progress: float = 1.0) -> float:
    """The weight of a loss at a training progress, 0 to 1 (default: at the end)."""
    if not isinstance(weight, LossWeight):
        return weight
    since = progress - weight.delay
    if since < 0:
        return 0.0
    return weight.weight * min(1.0, since / weight.ramp) if weight.ramp else weight.weight


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimisation of one stage. Progress is max(step / max_steps, elapsed / max_minutes);
    the schedule follows it and training stops at 1.

    batch_seconds: padded seconds of audio a batch may hold; accumulation: batches a step.
    optimizer: "muon" gives the matrices inside transformers to Muon and the rest to AdamW.
    ema_decay, grad_clip: 0 is off. validate_every, save_every, log_every: in steps.
    workers: processes that load data; 0 loads in the training process.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-3
    warmup_steps: int = 100
    final_lr_ratio: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    accumulation: int = 1
    batch_seconds: float = 60.0
    precision: Literal["bf16", "fp16", "no"] = "bf16"
    max_steps: int | None = None
    max_minutes: float | None = None
    ema_decay: float = 0.999
    validate_every: int = 500
    save_every: int = 500
    log_every: int = 20
    workers: int = 1

    def __post_init__(self):
        if self.max_steps is None and self.max_minutes is None:
            raise ValueError("set max_steps, max_minutes or both")
        positive = ("lr", "batch_seconds", "accumulation", "validate_every", "save_every",
                    "log_every", "max_steps", "max_minutes")
        for name in positive:
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 or more when training is over."""
        parts = [step / self.max_steps] if self.max_steps is not None else []
        if self.max_minutes is not None:
            parts.append(seconds / (60.0 * self.max_minutes))
        return max(parts)
