"""Training health: loss spike detection and alarms on logged metrics."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from e2etts.train.config import HealthConfig, SpikeConfig

ENTROPY = "token_entropy_bits"
# Standard deviation over median absolute deviation, for a normal distribution.
_ROBUST = 1.4826


@dataclass(frozen=True)
class Jump:
    """A loss spike. name: the loss; usual, now: medians before and after."""

    name: str
    usual: float
    now: float

    def __str__(self) -> str:
        return f"{self.name} went from {self.usual:.4g} to {self.now:.4g}"


class SpikeDetector:
    """Compares recent losses with earlier ones; see ``SpikeConfig``.

    weights: loss weights; the allowed rise of a loss is a share of the weighted sum of all.
    watched: losses that can trigger (default: all); others only reset the history when they
    join."""

    def __init__(self, config: SpikeConfig, weights: dict[str, float],
                 watched: Collection[str] | None = None):
        self.config, self.weights = config, weights
        self.watched = {*(watched or weights), ENTROPY}
        self.history: dict[str, list[float]] = {}

    def add(self, values: dict[str, float]) -> Jump | None:
        """Add all losses of one step, and its token entropy if it has tokens. Returns the largest
        spike in standard deviations, if any, and then resets the history."""
        if values.keys() - self.history.keys():
            # Other losses may rise when a new loss joins: not a spike.
            self.history = {name: [] for name in values}
        c = self.config
        for name, past in self.history.items():
            past.append(values[name] if name in values else past[-1])  # absent at times
            del past[: -(c.window_steps + c.sustained_steps)]
        names = [name for name in self.history if name in self.watched]
        if not names or len(self.history[names[0]]) < c.window_steps // 4 + c.sustained_steps:
            return None
        entropy = np.array([name == ENTROPY for name in names])
        sign = np.where(entropy, -1.0, 1.0)  # up is worse
        past = sign[:, None] * np.array([self.history[name] for name in names])
        before, last = past[:, : -c.sustained_steps], past[:, -c.sustained_steps :]
        # The lower median of an even number: half of the steps are not a majority.
        usual, now = np.median(before, 1), np.sort(last, 1)[:, (c.sustained_steps - 1) // 2]
        noise = _ROBUST * np.median(np.abs(before - usual[:, None]), 1)
        weight = np.array([self.weights.get(name, 0.0) for name in names])
        worse = now - usual
        score = worse / np.maximum(noise, 1e-12)
        jumped = (score > c.deviations) & np.where(
            entropy, worse > c.entropy_bits,
            weight * worse > c.rise * (weight * np.abs(usual)).sum())
        if not jumped.any():
            return None
        worst = int(np.where(jumped, score, -np.inf).argmax())
        usual, now = sign * usual, sign * now
        jump = Jump(names[worst], float(usual[worst]), float(now[worst]))
        self.history = {}
        return jump


@dataclass(frozen=True)
class Wire:
    """An alarm of ``HealthConfig``. measure: metric from logged values, None if not logged;
    subject: which of several things it concerns, for the message; low: triggers below its limit
    instead of above; of_samples: concerns samples of the LM on the dev set; the LM may join late,
    so the grace period begins with its first samples. The others use tokens of the train set: a
    dev set may have too few for the entropy of a large codebook."""

    measure: Callable[[dict[str, float]], float | None]
    sign: str
    remedy: str
    low: bool = False
    of_samples: bool = False
    subject: Callable[[dict[str, float]], str] = lambda values: ""


def _excess_length(values: dict[str, float]) -> float | None:
    ratio = values.get("length_ratio")
    return None if ratio is None else max(ratio, 1 / ratio)


def _reward_gap(values: dict[str, float]) -> float | None:
    both = values.get("judge_error"), values.get("rm_error")
    return None if None in both else both[0] - both[1]


def _least_share(values: dict[str, float]) -> tuple[float, str] | None:
    """The smallest share of a loss in the gradient at q, and the loss."""
    prefix = "q_share_"
    return min(((v, k.removeprefix(prefix)) for k, v in values.items() if k.startswith(prefix)),
               default=None)


# Remedies for the failure modes described in arXiv 2606.09234 and related work.
WIRES = {
    "collapse": Wire(
        lambda v: v.get("token_entropy_share"), "codebook collapse: share of token entropy",
        "lower the weight of lm (at most 0.1) or increase its delay, exclude the targets from "
        "options.lm_grad, lower train.lr", low=True),
    "dead_dimension": Wire(
        lambda v: v.get("least_dimension_share"),
        "an FSQ dimension is hardly used: its share of entropy",
        "lower train.lr, or use fewer dimensions (model.tokenizer.levels)", low=True),
    "saturation": Wire(
        lambda v: v.get("saturated"), "FSQ saturation: share of values where the bound is flat",
        "lower train.lr, or set model.tokenizer.bound to sigmoid"),
    "idle_loss": Wire(
        lambda v: (_least_share(v) or (None,))[0],
        "a loss hardly moves the tokens: share of the gradient at q",
        "raise its weight, give it a share (weights.X: {weight: ..., share: 0.05}) or an earlier "
        "delay, or switch it off", low=True, subject=lambda v: f" of {_least_share(v)[1]}"),
    "reward_gap": Wire(
        _reward_gap, "reward hacking: error rate of the judge on samples minus that of the reward "
        "model, rise since the start",
        "keep the RM frozen, raise the weights of kl and ce, lower those of the RM's losses, or "
        "end the stage earlier", of_samples=True),
    "length": Wire(
        _excess_length, "samples of the LM differ in length from the recordings: by a factor of",
        "keep the cross-entropy on the end token (weight of ce or lm), lower the RM's weights; "
        "synthesis.sampling.max_ratio limits the generated length", of_samples=True),
}


@dataclass(frozen=True)
class Trip:
    """A triggered alarm. stop: whether training stops."""

    wire: str
    value: float
    message: str
    stop: bool


class TripWires:
    """Reports when a logged value crosses its limit, once until it recovers.

    first: reference values for later ones; since: steps at which the LM's samples were first
    measured; tripped: alarms that are active.
    """

    def __init__(self, config: HealthConfig):
        self.config = config
        self.first: dict[str, float] = {}
        self.since: dict[str, int] = {}
        self.tripped: list[str] = []

    def check(self, step: int, values: dict[str, float], dev: bool = False) -> list[Trip]:
        """New alarms for one log record, of the dev set (``dev``) or of the train set."""
        out = []
        for name, wire in WIRES.items():
            limit, value = getattr(self.config, name), wire.measure(values)
            if limit is None or value is None or wire.of_samples != dev:
                continue
            if name == "reward_gap":
                value -= self.first.setdefault(name, value)
            since = self.since.setdefault(name, step) if dev else 0
            if step < since + self.config.grace_steps:
                continue
            beyond = value < limit if wire.low else value > limit
            if beyond and name not in self.tripped:
                side = "below" if wire.low else "above"
                what = f"{wire.sign}{wire.subject(values)} {value:.3g}"
                out.append(Trip(name, value, f"{what}, {side} train.health.{name} {limit:g}: "
                                f"{wire.remedy}", name in self.config.stop_on))
                self.tripped.append(name)
            # Hysteresis of a tenth: values near the limit would warn all the time.
            well = value > 1.1 * limit if wire.low else value < 0.9 * limit
            if well and name in self.tripped:
                self.tripped.remove(name)
        return out

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first, "since": self.since, "tripped": self.tripped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first, self.tripped = state["first"], state["tripped"]
        self.since = state.get("since", {})  # older runs did not keep it
