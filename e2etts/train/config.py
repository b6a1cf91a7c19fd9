"""How a stage is optimised."""

from dataclasses import dataclass
from typing import Literal

LIMITS = ("max_steps", "max_minutes", "max_audio_seconds")  # where training ends


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimisation of one stage. Progress is the greatest of step / max_steps, elapsed /
    max_minutes, audio used / max_audio_seconds; the schedule follows it and training stops at 1.

    batch_seconds: padded seconds of audio a batch may hold; accumulation: batches a step.
    optimizer: "muon" gives the matrices inside transformers to Muon and the rest to AdamW.
    ema_decay, grad_clip: 0 is off. validate_every, save_every, log_every: in steps.
    keep_every: steps after which the averaged weights are kept for good, in kept/STEP; 0 is off.
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
    max_audio_seconds: float | None = None
    ema_decay: float = 0.999
    validate_every: int = 500
    save_every: int = 500
    keep_every: int = 0
    log_every: int = 20
    workers: int = 1

    def __post_init__(self):
        if all(getattr(self, name) is None for name in LIMITS):
            raise ValueError(f"set one of {', '.join(LIMITS)}, or more")
        positive = ("lr", "batch_seconds", "accumulation", "validate_every", "save_every",
                    "log_every", *LIMITS)
        for name in positive:
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")

    def progress(self, step: int, seconds: float, audio_seconds: float = 0.0) -> float:
        """0 at the start, 1 or more when training is over."""
        used = zip((step, seconds / 60.0, audio_seconds), LIMITS, strict=True)
        return max(value / getattr(self, name) for value, name in used
                   if getattr(self, name) is not None)
