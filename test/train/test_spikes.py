"""Loss spike detection, and when a health alarm triggers."""

import numpy as np
import pytest

from e2etts.config import build
from e2etts.errors import UserError
from e2etts.train.config import HealthConfig, SpikeConfig, TrainConfig
from e2etts.train.health import ENTROPY, SpikeDetector, TripWires

WEIGHTS = {"fm": 1.0, "coarse": 1.0, "ctc": 1.0, "lm": 0.3, "kl": 0.1}


def jumps(series: dict[str, np.ndarray], entropy: np.ndarray | None = None, **changes):
    """(step, spike) for all spikes in named series; NaN means absent."""
    detector, found = SpikeDetector(SpikeConfig(**changes), WEIGHTS), []
    for step in range(max(map(len, series.values()))):
        terms = {k: float(v[step]) for k, v in series.items() if np.isfinite(v[step])}
        if entropy is not None:
            terms[ENTROPY] = float(entropy[step])
        jump = detector.add(terms)
        if jump:
            found.append((step, jump))
    return found


def losses(steps: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Falling losses with noise as large as that of single steps of egs/mini's tokenizer stage,
    some of them far out."""
    random, t = np.random.default_rng(seed), np.arange(steps)
    made = {}
    for name, level, noise in (("fm", 0.6, 0.2), ("coarse", 0.35, 0.08), ("ctc", 1.5, 0.25)):
        spread = noise * random.standard_t(3, steps).clip(-8, 8)
        made[name] = level * (1 + 4 * np.exp(-t / 150)) * np.exp(spread)
    return made


@pytest.mark.parametrize("seed", [0, 1])
def test_normal_noise_is_no_spike(seed):
    entropy = np.random.default_rng(seed).normal(8.4, 0.25, 2500)
    assert jumps(losses(2500, seed), entropy) == []


def test_an_observed_spike_is_detected_while_it_happens():
    """Within 100 steps the entropy of tokens fell from 8.4 to 7.5 bits and the coarse loss
    doubled."""
    series, random = losses(800), np.random.default_rng(1)
    rise = np.clip((np.arange(800) - 600) / 100, 0, 1)
    series["coarse"] *= 1 + rise
    step, jump = jumps(series)[0]
    assert jump.name == "coarse" and 600 < step < 700 and jump.now > jump.usual
    entropy = random.normal(8.4, 0.25, 800) - 0.9 * rise
    step, jump = jumps(losses(800), entropy)[0]
    assert jump.name == "token_entropy_bits" and 600 < step < 720 and jump.now < jump.usual - 0.6


def test_a_few_bad_batches_are_no_spike():
    series = losses(600)
    for start in range(100, 600, 50):
        series["ctc"][start : start + 5] *= 10
    assert jumps(series) == []


def test_a_loss_that_joins_late_is_no_spike_but_a_later_rise_is():
    series, steps = losses(900), np.arange(900)
    series["lm"] = np.where(steps < 400, np.nan, 8.0)
    series["coarse"] *= np.where(steps < 400, 1.0, 1.4)
    assert jumps(series) == []
    series["coarse"] *= np.where(steps < 700, 1.0, 2.0)
    assert [700 < step < 720 for step, _ in jumps(series)] == [True]


def test_a_loss_that_is_absent_at_times_hides_no_spike():
    series, absent = losses(700), np.random.default_rng(0).random(700) < 0.3
    series["lm"] = np.where(absent, np.nan, 4.0)
    series["lm"][0] = 4.0
    series["coarse"][500:] *= 2.5
    assert [(500 < step < 520, jump.name) for step, jump in jumps(series)][:1] == [(True, "coarse")]


def test_a_loss_that_rises_steadily_is_no_spike():
    """Even if steep relative to its noise: recent values are close to the last earlier ones."""
    series = losses(500)
    series["ctc"] = np.linspace(1.0, 9.0, 500)
    assert jumps(series) == []


def test_an_unwatched_loss_resets_the_history_when_it_joins():
    """For example the adversarial loss of a vocoder, which raises the other losses."""
    detector, series = SpikeDetector(SpikeConfig(), WEIGHTS, ["ctc"]), losses(500)["ctc"]
    for step, value in enumerate(series):
        values = {"ctc": value} if step < 300 else {"ctc": 2 * value, "adversarial": step}
        assert detector.add(values) is None


def test_a_small_loss_that_grows_from_zero_is_no_spike():
    """For example KL during the learning-rate warm-up."""
    series = losses(400)
    series["kl"] = 0.1 * np.clip(np.arange(400) / 200, 0, 1) ** 4
    assert jumps(series) == []


def test_limits_are_configurable():
    series = losses(500)
    series["ctc"][300:] *= 3
    assert len(jumps(series)) == 1
    assert jumps(series, deviations=100.0) == [] and jumps(series, rise=5.0) == []
    with pytest.raises(UserError, match="sustained_steps"):
        build(TrainConfig, {"max_steps": 1, "health": {"spike": {"sustained_steps": 100}}})
    with pytest.raises(UserError, match="'health.colapse'; nearest known key: 'health.collapse'"):
        build(TrainConfig, {"max_steps": 1, "health": {"colapse": 0.5}})
    with pytest.raises(UserError, match="stop_on names 'length', whose limit is null"):
        build(TrainConfig, {"max_steps": 1, "health": {"length": None, "stop_on": ["length"]}})


@pytest.mark.parametrize(("name", "well", "ill", "remedy"), [
    ("collapse", {"token_entropy_share": 0.7}, {"token_entropy_share": 0.4}, "weight of lm"),
    ("dead_dimension", {"least_dimension_share": 0.5}, {"least_dimension_share": 0.1}, "levels"),
    ("saturation", {"saturated": 0.02}, {"saturated": 0.5}, "bound to sigmoid"),
    ("reward_gap", {"rm_error": 0.3, "judge_error": 0.35}, {"rm_error": 0.1, "judge_error": 0.3},
     "raise the weights of kl"),
    ("length", {"length_ratio": 1.1}, {"length_ratio": 1.8}, "end token"),
    ("length", {"length_ratio": 0.9}, {"length_ratio": 0.5}, "end token")])
def test_an_alarm_triggers_once_with_a_remedy_and_again_after_recovery(name, well, ill, remedy):
    wires, dev = TripWires(HealthConfig(stop_on=(name,))), name in ("reward_gap", "length")
    assert wires.check(0, well, dev) == [] == wires.check(200, well, dev)
    assert wires.check(210, ill, not dev) == []
    [trip] = wires.check(220, ill, dev)
    assert trip.wire == name and trip.stop and remedy in trip.message
    assert f"train.health.{name}" in trip.message
    again = TripWires(HealthConfig())
    again.load_state_dict(wires.state_dict())
    for values in (ill, {}, well):
        assert again.check(240, values, dev) == []
    assert [t.stop for t in again.check(280, ill, dev)] == [False]
    off = TripWires(HealthConfig(**{name: None}))
    assert off.check(0, well, dev) == [] == off.check(200, ill, dev)


def test_the_grace_period_of_a_late_lm_begins_with_its_first_samples():
    wires = TripWires(HealthConfig())
    assert wires.check(900, {"length_ratio": 0.5}, dev=True) == []  # first samples
    again = TripWires(HealthConfig())
    again.load_state_dict(wires.state_dict())
    assert again.check(999, {"length_ratio": 0.5}, dev=True) == []
    assert [t.wire for t in again.check(1000, {"length_ratio": 0.5}, dev=True)] == ["length"]
    old = {k: v for k, v in wires.state_dict().items() if k != "since"}
    again.load_state_dict(old)
    assert again.since == {}


def test_a_value_near_its_limit_warns_once():
    wires = TripWires(HealthConfig())
    trips = [wires.check(200 + i, {"saturated": 0.3 + 0.02 * (-1) ** i}) for i in range(6)]
    assert [len(t) for t in trips] == [1, 0, 0, 0, 0, 0]


def test_error_rates_that_change_together_are_no_reward_hacking():
    wires = TripWires(HealthConfig())
    for step, (rm, judge) in enumerate([(0.5, 0.6), (0.2, 0.3), (0.7, 0.8)]):
        assert wires.check(500 * step, {"rm_error": rm, "judge_error": judge}, dev=True) == []
    assert wires.check(99, {"saturated": 1.0}) == [] != wires.check(100, {"saturated": 1.0})
