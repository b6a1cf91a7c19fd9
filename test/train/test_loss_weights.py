"""Loss weights with delay and ramp; parts with weight 0 are not run."""

import json

import pytest
import torch
from accelerate import Accelerator
from tiny import make_batch, make_system
from toy import Regression, make_trainer

from e2etts.config import build
from e2etts.errors import UserError
from e2etts.recipe import StageConfig
from e2etts.tasks.first_order import FirstOrderOptions, FirstOrderTask
from e2etts.train.config import LossWeight, TrainConfig, weight_at
from e2etts.train.step import Stepper


def test_weight_by_progress():
    assert weight_at(0.3, 0.0) == weight_at(0.3) == 0.3
    step, ramp = LossWeight(weight=0.4, delay=0.5), LossWeight(weight=0.4, delay=0.5, ramp=0.2)
    assert [weight_at(step, x) for x in (0, 0.49, 0.5, 1.3)] == [0, 0, 0.4, 0.4]
    got = [weight_at(ramp, x) for x in (0.49, 0.5, 0.55, 0.7, 1.0)]
    assert got == pytest.approx([0, 0, 0.1, 0.4, 0.4]) and weight_at(ramp) == 0.4
    for bad in ({"delay": 1.0}, {"delay": -0.1}, {"ramp": -1.0}):
        with pytest.raises(ValueError, match="delay"):
            LossWeight(weight=1.0, **bad)


def test_a_weight_that_only_helps_to_begin_falls_to_zero():
    help_ = LossWeight(weight=2.0, until=0.4)
    assert [weight_at(help_, x) for x in (0, 0.4, 0.7)] == [2, 0, 0] and weight_at(help_) == 0
    assert weight_at(help_, 0.1) == pytest.approx(1.5)
    late = LossWeight(weight=2.0, delay=0.2, ramp=0.1, until=0.6)
    got = [weight_at(late, x) for x in (0.1, 0.2, 0.25, 0.3, 0.5, 0.6, 1.0)]
    assert got == pytest.approx([0, 0, 2 * 0.5 * 0.875, 1.5, 0.5, 0, 0]) and got[-2:] == [0, 0]
    for bad in ({"until": 0.0}, {"until": 1.1}, {"delay": 0.5, "until": 0.5}):
        with pytest.raises(ValueError, match="until"):
            LossWeight(weight=1.0, **bad)
    assert stage(guide={"weight": 1.0, "until": 0.4}).weight("guide") == 1  # on, for a time
    assert stage(guide={"weight": 0.0, "until": 0.4}).weight("guide") == 0


def stage(**weights):
    return build(StageConfig, {"task": "first_order", "weights": weights,
                               "train": {"max_steps": 1}}, "stages.tokenizer")


def test_a_weight_in_yaml_is_a_number_or_a_schedule():
    got = stage(ctc=1, lm={"weight": 0.1, "delay": 0.8}).weights
    assert got == {"ctc": 1.0, "lm": LossWeight(weight=0.1, delay=0.8)}
    for bad, message in (({"weight": 1, "from": 0.8}, r"'stages.tokenizer.weights.lm.from'; near"),
                         ({"delay": 0.8}, r"stages.tokenizer.weights.lm"),
                         ("much", r"stages.tokenizer.weights.lm")):
        with pytest.raises(UserError, match=message):
            stage(lm=bad)


def test_before_its_delay_a_part_is_neither_run_nor_trained():
    system, runs = make_system(), []
    system.lm.register_forward_hook(lambda *a: runs.append(1))
    weights = {"lm": LossWeight(weight=1.0, delay=0.5, ramp=0.2), "ctc": 1.0}
    task = FirstOrderTask(system, FirstOrderOptions(), {"lm", "ctc"}).train()
    config = TrainConfig(max_steps=10, lr=1e-2, warmup_steps=0, precision="no", weight_decay=0.1)
    stepper = Stepper(task, config, weights, Accelerator(), "tokenizer")
    start = {k: v.clone() for k, v in system.lm.state_dict().items()}

    def step(progress):
        outcome = stepper.step([make_batch()], int(10 * progress), progress)
        moved = any(not torch.equal(v, start[k]) for k, v in system.lm.state_dict().items())
        return outcome.values, len(runs), moved
    for progress in (0.0, 0.49, 0.5):  # a ramp begins at 0
        values, count, moved = step(progress)
        assert "lm" not in values and count == 0 and not moved
        assert values["loss"] == pytest.approx(float(values["ctc"]))
    values, count, moved = step(0.6)
    assert count == 1 and moved
    assert float(values["loss"]) == pytest.approx(float(values["ctc"] + 0.5 * values["lm"]), 1e-4)


def test_validation_uses_the_final_weights_and_resuming_keeps_the_current_ones(tmp_path):
    late = LossWeight(weight=0.5, delay=0.4)
    trainer = make_trainer(Regression(), tmp_path, weights={"error": late}, max_steps=8)
    trainer.run()
    assert trainer.last_metrics["loss"] == pytest.approx(0.5 * trainer.last_metrics["error"])
    path = tmp_path / "state/meta.json"
    meta = json.loads(path.read_text())
    assert meta["identity"]["weights"]["error"].pop("until") is None
    path.write_text(json.dumps(meta))  # of a run before there was "until"
    make_trainer(Regression(), tmp_path, weights={"error": late}, max_steps=9).run()
    other = LossWeight(weight=0.5, delay=0.5)
    with pytest.raises(UserError, match="weights.error.delay"):
        make_trainer(Regression(), tmp_path, weights={"error": other}, max_steps=9).run()
