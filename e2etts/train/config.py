"""How a stage is optimised."""

from dataclasses import dataclass, field
from typing import Literal

LIMITS = ("max_steps", "max_minutes", "max_audio_seconds")  # where training ends


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
class SpikeConfig:
    """When training is taken to have jumped, and what is done then.

    The median of each loss over the last ``sustained_steps`` is held against its median over up
    to ``window_steps`` before them. It has jumped when it is higher by ``deviations`` of a single
    step's robust standard deviation, and by at least ``rise`` of the whole weighted loss; or
    when the entropy of the tokens is lower by ``deviations`` and by ``entropy_bits``. A loss that
    joins starts the comparison anew.

    action: "recover" goes back to the weights and optimiser of ``snapshot_every`` to twice as many
    steps before and goes on with later data (as arXiv 2204.02311, section 5.1) at ``lr_ratio`` of
    the learning rate; after ``recoveries`` of these, training stops. Ten steps in a row that are
    not finite are a jump too. It keeps two copies of the training state in memory, and in state/.
    """

    action: Literal["recover", "warn", "off"] = "recover"
    window_steps: int = 200
    sustained_steps: int = 16
    deviations: float = 2.0
    rise: float = 0.05
    entropy_bits: float = 0.6
    snapshot_every: int = 100
    recoveries: int = 3
    lr_ratio: float = 0.7

    def __post_init__(self):
        if not 0 < self.sustained_steps <= self.window_steps // 4:
            raise ValueError("spike.sustained_steps must be from 1 to a quarter of window_steps")
        if self.snapshot_every < 1 or not 0 < self.lr_ratio <= 1:
            raise ValueError("spike.snapshot_every must be at least 1, lr_ratio in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """What is watched during training. Limits of the trip-wires, each null to switch it off:

    collapse: entropy of the tokens, as a share of log2 of the codebook, below this.
    dead_dimension: the same of the least used FSQ dimension.
    saturation: share of pre-quantisation values where the bound is flat, above this.
    reward_gap: error rate of the LM's samples by the judge minus that by the reward model, risen
        by more than this since the stage began. Needs the stage's ``judge``.
    length: tokens of the LM's samples by tokens of the recordings, above this or below 1 / this.

    Before ``grace_steps`` none trips; of an LM that joins late, from when it has first spoken. One
    that trips warns once, until it is well again; those named in ``stop_on`` end training.
    observe_every: steps between measurements that cost time (gradient of each loss at q, LM
    entropy). sampled_utts: dev utterances that the LM speaks at each validation, 0 for none.
    """

    collapse: float | None = 0.5
    dead_dimension: float | None = 0.2
    saturation: float | None = 0.3
    reward_gap: float | None = 0.1
    length: float | None = 1.5
    stop_on: tuple[Literal["collapse", "dead_dimension", "saturation", "reward_gap", "length"],
                   ...] = ()
    grace_steps: int = 100
    observe_every: int = 100
    sampled_utts: int = 16
    spike: SpikeConfig = field(default_factory=SpikeConfig)

    def __post_init__(self):
        if self.observe_every < 1:
            raise ValueError("health.observe_every must be at least 1")
        off = [name for name in self.stop_on if getattr(self, name) is None]
        if off:
            raise ValueError(f"health.stop_on names '{off[0]}', whose limit is null: give it one")


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
    health: HealthConfig = field(default_factory=HealthConfig)

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
