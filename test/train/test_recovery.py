"""Loss spikes, collapse and non-finite steps in the training loop."""

import json

import pytest
import torch
from toy import (
    Reader,
    Regression,
    make_trainer,
    quick_spikes,
    records,
    stream,
    tensors_equal,
)

from e2etts.errors import UserError
from e2etts.train.config import HealthConfig, LossWeight
from e2etts.train.states import load_state

SPIKE = {"max_steps": 70, "health": quick_spikes()}


def large(start: int, end: int):
    """Batches from ``start`` to before ``end`` are 30 times too large."""
    return lambda n: 30.0 if start <= n < end else 1.0


def spiking(cursor, *ranks, on_batch=lambda n: None):
    return stream(cursor, on_batch=on_batch, scale=large(40, 46))


def test_a_spike_is_rolled_back_and_its_data_skipped(tmp_path):
    runs = {}
    for name, train, action in (("calm", stream, "off"), ("hurt", spiking, "off"),
                                ("healed", spiking, "recover")):
        options = {**SPIKE, "health": quick_spikes(action=action)}
        runs[name] = make_trainer(Regression(), tmp_path / name, train=train, **options).run()
    [done] = runs["healed"]["recoveries"]
    assert done["step"] == 44 and done["back_to"] == 32  # four of six steps are most of them
    assert "error went from" in done["reason"] and f"step {done['step']}" in done["reason"]
    assert done["data_left_out"] == [[6, 2], [8, 4]]  # epochs have five batches
    assert runs["hurt"]["recoveries"] == [] and runs["healed"]["steps"] == 70
    loss = {k: records(tmp_path / k, "dev")[-1]["loss"] for k in runs}
    assert loss["healed"] < loss["calm"] + 0.6 * (loss["hurt"] - loss["calm"])
    rate = {r["step"]: r["lr"] for r in records(tmp_path / "healed", "train")}
    calm = {r["step"]: r["lr"] for r in records(tmp_path / "calm", "train")}
    assert rate[30] == calm[30] and rate[60] == pytest.approx(0.7 * calm[60], abs=2e-6)
    [record] = records(tmp_path / "healed", "recovered")
    assert record["back_to"] == 32 and record["lr_scale"] == 0.7
    assert record["reason"] == done["reason"]


@pytest.mark.parametrize("at", [20, 41, 44, 55])
def test_resumed_run_equals_unbroken_run_across_a_recovery(tmp_path, at):
    whole = make_trainer(Regression(), tmp_path / "whole", train=spiking, **SPIKE)
    done = whole.run()["recoveries"]

    def train(cursor, *ranks):
        return spiking(cursor, on_batch=lambda n: setattr(trainer, "stop_requested", n >= at))

    trainer = make_trainer(Regression(), tmp_path / "broken", train=train, **SPIKE)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    resumed = make_trainer(Regression(), tmp_path / "broken", train=spiking, **SPIKE)
    assert resumed.run()["recoveries"] == done and len(done) == 1
    a, b = (load_state(tmp_path / run / "state")[0] for run in ("whole", "broken"))
    assert tensors_equal(a["model"], b["model"]) and a["cursor"] == b["cursor"]
    for x, y in zip(a["ema"]["average"], b["ema"]["average"], strict=True):
        assert torch.equal(x, y)
    assert a["recovery"] == b["recovery"]
    assert a["recovery"]["done"] == done and a["recovery"]["snapshots"] == []


def test_non_finite_steps_are_rolled_back_too(tmp_path):
    summary = make_trainer(Regression(), tmp_path, **SPIKE, train=lambda c, *r: stream(
        c, poison=lambda n: 30 <= n < 42)).run()
    assert summary["skipped_steps"] == 12 and summary["steps"] == 70
    [done] = summary["recoveries"]
    assert done["step"] == 40 and done["back_to"] == 24 and "not finite" in done["reason"]


def test_recoveries_are_limited_and_then_training_fails(tmp_path):
    def worse(n):
        return 30.0 ** max(0, n // 40)

    trainer = make_trainer(Regression(), tmp_path, train=lambda c, *r: stream(c, scale=worse),
                           max_steps=300, health=quick_spikes(recoveries=2))
    with pytest.raises(UserError, match=r"train: step \d+: error went from .* Stopped after 2 "
                                        r"recoveries: lower train\.lr"):
        trainer.run()
    assert len(trainer.recovery.done) == 2 and len(records(tmp_path, "recovered")) == 2


def test_a_warning_does_not_change_training(tmp_path):
    states = []
    for action in ("warn", "off"):
        folder = tmp_path / action
        summary = make_trainer(Regression(), folder, train=spiking, max_steps=70,
                               health=quick_spikes(action=action)).run()
        states.append(load_state(folder / "state")[0]["model"])
        assert [w["what"] for w in summary["warnings"]] == ["spike"] * (action == "warn")
    assert tensors_equal(*states)
    assert "error went from" in records(tmp_path / "warn", "warning")[0]["message"]


@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_measuring_gradients_at_q_does_not_change_training(tmp_path, precision):
    states = []
    for every in (1, 5, 1000):
        folder = tmp_path / str(every)
        make_trainer(Reader(), folder, precision=precision, accumulation=2,
                     health=HealthConfig(observe_every=every)).run()
        states.append(load_state(folder / "state")[0])
    for other in states[1:]:
        assert tensors_equal(states[0]["model"], other["model"])
    seen = [r for r in records(tmp_path / "5", "train") if "q_grad_error" in r]
    # With fp16 the first scale is too large, and the step not taken.
    assert [r["step"] for r in seen] == [1, 6, 11][precision == "fp16":]
    # d(2 mean q)/dq is 2/n in each of n places; its weight is 1, that of the other 0.1.
    n = 4 * 8 * 3
    tolerance = 1e-5 if precision == "no" else 1e-2
    assert seen[0]["q_grad_error"] == pytest.approx(2 / n ** 0.5, rel=tolerance)
    assert 0 < seen[0]["q_grad_fool"] < 0.1


@pytest.mark.parametrize("stop", [True, False])
def test_an_alarm_warns_once_or_stops_after_saving(tmp_path, stop):
    health = HealthConfig(grace_steps=4, stop_on=("collapse",) if stop else ())
    trainer = make_trainer(Reader(), tmp_path, health=health)
    if stop:
        with pytest.raises(UserError, match=r"train: step 7: codebook collapse.* 0\.1, below "
                                            r"train\.health\.collapse 0\.5: lower the weight"):
            trainer.run()
        assert load_state(tmp_path / "state")[1]["step"] == 7
        assert not (tmp_path / "summary.json").exists()
    else:
        [warning] = trainer.run()["warnings"]
        assert warning["what"] == "collapse" and warning["step"] == 7
        assert json.loads((tmp_path / "summary.json").read_text())["warnings"] == [warning]
    assert [r["what"] for r in records(tmp_path, "warning")] == ["collapse"]


class Speaker(Regression):
    def has_lm(self, disabled):
        return True

    def sample_metrics(self, batch, utts):
        frames = int(batch.mel_lens[:utts].sum())
        return {"length_ratio": torch.tensor(frames / 8.0)}


def test_samples_are_generated_at_the_start_and_at_every_validation(tmp_path):
    """For one dev batch, and again at the start when a run starts over."""
    health = HealthConfig(sampled_utts=3, length=None)
    for _ in range(2):
        make_trainer(Speaker(), tmp_path, health=health, max_steps=8).run()
        (tmp_path / "state/meta.json").unlink()
        (tmp_path / "summary.json").unlink()
    dev = records(tmp_path, "dev")
    assert [(r["step"], r["length_ratio"]) for r in dev] == [(0, 3.0), (4, 3.0), (8, 3.0)]
    assert "loss" not in dev[0]


def test_no_samples_are_generated_before_the_loss_of_the_lm_joins(tmp_path):
    class Later(Speaker):
        def has_lm(self, disabled):
            return "error" not in disabled

    weights = {"error": LossWeight(weight=1.0, delay=0.6), "fool": 0.1}
    make_trainer(Later(), tmp_path, max_steps=8, weights=weights,
                 health=HealthConfig(sampled_utts=3)).run()
    assert [(r["step"], r.get("length_ratio")) for r in records(tmp_path, "dev")] == [
        (4, None), (8, 3.0)]
