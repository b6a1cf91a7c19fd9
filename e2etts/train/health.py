"""Is training well? Jumps of the losses, and trip-wires on what is logged."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from e2etts.train.config import HealthConfig, SpikeConfig

ENTROPY = "token_entropy_bits"
# Of a normal distribution: standard deviation by median absolute deviation.
_ROBUST = 1.4826


@dataclass(frozen=True)
class Jump:
    """name: of the loss; usual and now: medians before and after."""

    name: str
    usual: float
    now: float

    def __str__(self) -> str:
        return f"{self.name} went from {self.usual:.4g} to {self.now:.4g}"


class SpikeDetector:
    """Holds what the losses are now against what they were; see ``SpikeConfig``.

    weights: of the losses; what a loss may rise by is a share of the weighted sum of all.
    watched: losses that can jump (default: all); the others only start the comparison anew."""

    def __init__(self, config: SpikeConfig, weights: dict[str, float],
                 watched: Collection[str] | None = None):
        self.config, self.weights = config, weights
        self.watched = {*(watched or weights), ENTROPY}
        self.history: dict[str, list[float]] = {}

    def add(self, values: dict[str, float]) -> Jump | None:
        """All losses of one step, and the entropy of its tokens where there are any; the largest
        jump in standard deviations, if there is one. After it the comparison starts anew."""
        if values.keys() - self.history.keys():
            # What the other losses give up for one that joins is no accident.
            self.history = {name: [] for name in values}
        c = self.config
        for name, past in self.history.items():
            past.append(values[name] if name in values else past[-1])  # some are absent at times
            del past[: -(c.window_steps + c.sustained_steps)]
        names = [name for name in self.history if name in self.watched]
        if not names or len(self.history[names[0]]) < c.window_steps // 4 + c.sustained_steps:
            return None
        entropy = np.array([name == ENTROPY for name in names])
        sign = np.where(entropy, -1.0, 1.0)  # up is worse
        past = sign[:, None] * np.array([self.history[name] for name in names])
        before, last = past[:, : -c.sustained_steps], past[:, -c.sustained_steps :]
        # Of an even number the lower one: half of the steps are not yet most of them.
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
    """A trip-wire of ``HealthConfig``. measure: from logged values, None where they do not say;
    low: trips below its limit, not above; of_samples: is about what the LM says on the dev set: it
    may begin to learn late, and has its grace from when it first speaks. The others are about
    tokens of the train set: a dev set may have too few for the entropy of a large codebook."""

    measure: Callable[[dict[str, float]], float | None]
    sign: str
    remedy: str
    low: bool = False
    of_samples: bool = False


def _excess_length(values: dict[str, float]) -> float | None:
    ratio = values.get("length_ratio")
    return None if ratio is None else max(ratio, 1 / ratio)


def _reward_gap(values: dict[str, float]) -> float | None:
    both = values.get("judge_error"), values.get("rm_error")
    return None if None in both else both[0] - both[1]


# Remedies: those for the failure modes of arXiv 2606.09234 and its relatives.
WIRES = {
    "collapse": Wire(
        lambda v: v.get("token_entropy_share"), "codebook collapse: share of token entropy",
        "lower the weight of lm (at most 0.1) or let it join later (its delay), keep "
        "options.lm_grad from the targets, lower train.lr", low=True),
    "dead_dimension": Wire(
        lambda v: v.get("least_dimension_share"),
        "an FSQ dimension is hardly used: its share of entropy",
        "lower train.lr, or take fewer dimensions (model.tokenizer.levels)", low=True),
    "saturation": Wire(
        lambda v: v.get("saturated"), "FSQ saturation: share of values where the bound is flat",
        "lower train.lr, or set model.tokenizer.bound to sigmoid"),
    "reward_gap": Wire(
        _reward_gap, "reward hacking: the reward model hears the samples better than the judge "
        "does; gap of error rates since the start",
        "keep the RM frozen, raise the weights of kl and ce, lower those of the RM's losses, or "
        "end the stage earlier", of_samples=True),
    "length": Wire(
        _excess_length, "samples of the LM have another length than the recordings: by a factor",
        "keep the cross-entropy on the end token (weight of ce or lm), lower the RM's weights; "
        "synthesis.sampling.max_ratio bounds what is spoken", of_samples=True),
}


@dataclass(frozen=True)
class Trip:
    """A wire that has just tripped. stop: whether training is to end."""

    wire: str
    value: float
    message: str
    stop: bool


class TripWires:
    """Says when a logged value crosses its limit, once until it is back.

    first: values that later ones are held against; since: steps at which the LM's samples were
    first measured; tripped: wires that are over their limit.
    """

    def __init__(self, config: HealthConfig):
        self.config = config
        self.first: dict[str, float] = {}
        self.since: dict[str, int] = {}
        self.tripped: list[str] = []

    def check(self, step: int, values: dict[str, float], dev: bool = False) -> list[Trip]:
        """Trips of one record of the log, of the dev set or else of the train set."""
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
                out.append(Trip(name, value, (
                    f"{wire.sign} {value:.3g}, {side} train.health.{name} {limit:g}: "
                    f"{wire.remedy}"), name in self.config.stop_on))
                self.tripped.append(name)
            # Well again is a tenth inside: what lies about its limit would warn all the time.
            well = value > 1.1 * limit if wire.low else value < 0.9 * limit
            if well and name in self.tripped:
                self.tripped.remove(name)
        return out

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first, "since": self.since, "tripped": self.tripped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first, self.tripped = state["first"], state["tripped"]
        self.since = state.get("since", {})  # older runs did not keep it
