"""Optimisation settings of a stage."""

from dataclasses import dataclass, field
from typing import Literal

LIMITS = ("max_steps", "max_minutes", "max_audio_seconds")  # stop criteria


@dataclass(frozen=True, kw_only=True)
class LossWeight:
    """A loss weight that is 0 until training progress ``delay``, then rises linearly to ``weight``
    over ``ramp`` of the stage. While it is 0, the model part of the loss is not run.

    until: of a loss that only helps to begin: from ``delay`` on, it is also multiplied by a factor
    that falls linearly from 1 to 0 at progress ``until``.
    share: of the gradient at the token embeddings q that this loss is to have in training
    (``train.balance.Balance``); ``weight`` then counts on the dev set and until it is measured.
    """

    weight: float
    delay: float = 0.0
    ramp: float = 0.0
    share: float | None = None
    until: float | None = None
    every: int = 1

    def __post_init__(self):
        if self.every < 1:
            raise ValueError("every must be at least 1")
        if not 0 <= self.delay < 1 or self.ramp < 0:
            raise ValueError("delay must be at least 0 and less than 1, ramp at least 0")
        if self.share is not None and (not 0 < self.share < 1 or self.weight <= 0):
            raise ValueError("share must be between 0 and 1, and weight more than 0 beside it")
        if self.until is not None and not self.delay < self.until <= 1:
            raise ValueError("until must be more than delay and at most 1")


def weight_at(weight: float | LossWeight, progress: float = 1.0) -> float:
    """Weight of a loss at a training progress in [0, 1] (default: at the end)."""
    if not isinstance(weight, LossWeight):
        return weight
    since = progress - weight.delay
    if since < 0:
        return 0.0
    value = weight.weight * min(1.0, since / weight.ramp) if weight.ramp else weight.weight
    if weight.until is None:
        return value
    return value * max(0.0, 1.0 - since / (weight.until - weight.delay))


def times_in_step(weight: float | LossWeight, number: int) -> int:
    """How often a loss counts in step ``number``: see ``LossWeight.every``."""
    every = getattr(weight, "every", 1)
    return 0 if number % every else every


@dataclass(frozen=True, kw_only=True)
class SpikeConfig:
    """Loss spike detection and recovery.

    The detector compares the median of each loss over the last ``sustained_steps`` with its median
    over up to ``window_steps`` before them. A spike is a rise by more than ``deviations`` robust
    standard deviations of a single step and by more than ``rise`` of the total weighted loss, or a
    fall of the token entropy by more than ``deviations`` and ``entropy_bits``. Ten consecutive
    non-finite steps are a spike too. A loss that joins resets the comparison.

    action: "recover" rolls back to the weights and optimiser state of ``snapshot_every`` to twice
    as many steps earlier, skips the data since then (as arXiv 2204.02311, section 5.1) and
    continues at ``lr_ratio`` of the learning rate; after ``recoveries`` rollbacks, training stops.
    Snapshots are training states in state/, which a run also resumes from; two are kept. They are
    taken less often where writing would take more than ``snapshot_share`` of the time (1: never).
    """

    action: Literal["recover", "warn", "off"] = "recover"
    window_steps: int = 200
    sustained_steps: int = 16
    deviations: float = 2.0
    rise: float = 0.05
    entropy_bits: float = 0.6
    snapshot_every: int = 100
    snapshot_share: float = 0.01
    recoveries: int = 3
    lr_ratio: float = 0.7

    def __post_init__(self):
        if not 0 < self.sustained_steps <= self.window_steps // 4:
            raise ValueError("spike.sustained_steps must be from 1 to a quarter of window_steps")
        if self.snapshot_every < 1 or not 0 < self.lr_ratio <= 1 or self.snapshot_share <= 0:
            raise ValueError("spike.snapshot_every must be at least 1, lr_ratio in (0, 1], "
                             "snapshot_share more than 0")


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """Health monitoring. Limits of the alarms; null disables one:

    collapse: minimum token entropy, as a share of log2 of the codebook size.
    dead_dimension: minimum of the same for the least used FSQ dimension.
    saturation: maximum share of pre-quantisation values where the bound is flat.
    reward_gap: maximum rise, since the start of the stage, of the judge's error rate on samples of
        the LM minus that of the reward model. Needs the stage's ``judge``.
    idle_loss: minimum share of a weighted loss in the gradient at q since it joined.
    length: maximum ratio of tokens of the LM's samples to tokens of the recordings; the minimum is
        1 / length.

    No alarm triggers before ``grace_steps``; for an LM that joins late, these count from its first
    samples. An alarm warns once until the value recovers; those in ``stop_on`` stop training.
    observe_every: steps between expensive measurements (gradient of each loss at q, LM entropy).
    sampled_utts: dev utterances for which the LM generates samples at each validation, 0 for none.
    """

    collapse: float | None = 0.5
    dead_dimension: float | None = 0.2
    saturation: float | None = 0.3
    idle_loss: float | None = 0.01
    reward_gap: float | None = 0.1
    length: float | None = 1.5
    stop_on: tuple[Literal["collapse", "dead_dimension", "saturation", "idle_loss", "reward_gap",
                           "length"], ...] = ()
    grace_steps: int = 100
    observe_every: int = 100
    sampled_utts: int = 16
    spike: SpikeConfig = field(default_factory=SpikeConfig)

    def __post_init__(self):
        if self.observe_every < 1:
            raise ValueError("health.observe_every must be at least 1")
        off = [name for name in self.stop_on if getattr(self, name) is None]
        if off:
            raise ValueError(f"health.stop_on names '{off[0]}', whose limit is null: set its limit")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimisation of one stage. Progress is the maximum of step / max_steps, elapsed time /
    max_minutes and audio used / max_audio_seconds; the learning-rate schedule follows it, and
    training stops at 1.

    batch_seconds: maximum padded audio of a batch; accumulation: batches per step.
    lr_scales: part -> multiplier of the learning rate of its parameters, for parts that learn.
    optimizer: "muon" uses Muon for the matrices inside transformers and AdamW for the rest.
    ema_decay, grad_clip: 0 disables. validate_every, save_every, log_every: in steps.
    validations: a stage is validated at least about so many times, at equal distances of progress:
        where validate_every is further apart, on a part of the dev set that is small enough; 0
        disables. By it the best weights of a short stage are chosen.
    keep_every: keep the EMA weights of every so many steps in kept/STEP; 0 disables.
    workers: data loading processes; 0 loads in the training process.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-3
    lr_scales: dict[str, float] = field(default_factory=dict)
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
    validations: int = 8
    save_every: int = 500
    keep_every: int = 0
    log_every: int = 20
    workers: int = 1
    health: HealthConfig = field(default_factory=HealthConfig)

    def __post_init__(self):
        if all(getattr(self, name) is None for name in LIMITS):
            raise ValueError(f"set at least one of {', '.join(LIMITS)}")
        if any(scale <= 0 for scale in self.lr_scales.values()):
            raise ValueError("lr_scales must be more than 0: leave a part out of trainable to "
                             "freeze it")
        positive = ("lr", "batch_seconds", "accumulation", "validate_every", "save_every",
                    "log_every", *LIMITS)
        for name in positive:
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.validations < 0:
            raise ValueError("validations must be at least 0")

    def progress(self, step: int, seconds: float, audio_seconds: float = 0.0) -> float:
        """Training progress: 0 at the start, 1 or more when training is complete."""
        used = zip((step, seconds / 60.0, audio_seconds), LIMITS, strict=True)
        return max(value / getattr(self, name) for value, name in used
                   if getattr(self, name) is not None)
