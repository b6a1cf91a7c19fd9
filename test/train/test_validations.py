"""How often a stage is validated, and on how much of the dev set."""

import json

import pytest
import torch
from test_states import files, stopped
from torch import nn
from toy import Regression, make_batch, make_trainer, records, tensors_equal

from e2etts.seeds import mix
from e2etts.train import evaluation
from e2etts.train.checkpoint import load_checkpoint
from e2etts.train.states import load_state
from e2etts.train.task import EVALUATION, Losses, Task

# Batches of four rows of 8 frames at 50 Hz: 0.64 s, and as long as batch_seconds.
OPTIONS = {"max_steps": 48, "validate_every": 500, "validations": 8, "batch_seconds": 0.64,
           "dev_batches": 9, "task": Regression}


def train(folder, **changes):
    options = {**OPTIONS, **changes}
    return make_trainer(options.pop("task")(), folder, **options)


def steps(folder, split: str) -> list[int]:
    return [r["step"] for r in records(folder, split)]


@pytest.fixture
def third(monkeypatch):
    """Six steps between evaluations: a part of two or three batches."""
    monkeypatch.setattr(evaluation, "PART", 0.5)


def test_a_short_stage_is_compared_on_a_part_and_validated_at_its_end(tmp_path, third):
    trainer = train(tmp_path)
    trainer.run()
    part, [dev] = records(tmp_path, "part"), records(tmp_path, "dev")
    assert [r["step"] for r in part] == [6, 12, 18, 24, 30, 36, 42] and dev["step"] == 48
    assert trainer.evaluator.part == 3
    losses = [r["loss"] for r in part]
    numbers, common = [1, 4, 7], []  # spread over the nine
    trainer.task.eval()
    with trainer.ema.applied(), torch.no_grad():
        for number in numbers:  # the last weights, on the batches of the part and no others
            torch.manual_seed(mix(1, "dev", number))
            common.append(float(trainer.task(make_batch(1000 + number)).terms["error"]))
    common = sum(common) / 3
    assert trainer.best_loss == pytest.approx(min([*losses, common]), abs=1e-6)
    meta = load_checkpoint(tmp_path / "best")[1]
    assert meta["step"] == trainer.best_step
    assert dev["loss"] != pytest.approx(common, abs=1e-6)  # that of all nine batches
    assert json.loads((tmp_path / "summary.json").read_text())["best_step"] == trainer.best_step


class Overshoots(Task):
    """Its training moves a weight past where the dev loss is least."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, batch, phase="main", info=EVALUATION):
        return Losses({"error": -self.weight if self.training else (self.weight - 0.1).square()})


def test_the_best_of_a_stage_that_gets_worse_is_not_its_last(tmp_path, third):
    for folder, validations in (("some", 8), ("one", 0)):
        train(tmp_path / folder, task=Overshoots, validations=validations, ema_decay=0.0).run()
    best = {f: load_checkpoint(tmp_path / f / "best") for f in ("some", "one")}
    assert best["one"][1]["step"] == 48 and best["one"][0]["weight"] > 0.2
    assert 6 <= best["some"][1]["step"] <= 18
    assert best["some"][0]["weight"] == pytest.approx(0.1, abs=0.04)


def test_where_the_part_would_be_all_the_whole_set_is_compared(tmp_path):
    trainer = train(tmp_path, dev_batches=1)
    trainer.run()
    assert steps(tmp_path, "dev") == [6, 12, 18, 24, 30, 36, 42, 48]
    assert steps(tmp_path, "part") == [] and trainer.evaluator.part == 1


def test_a_long_stage_is_validated_as_often_as_before(tmp_path):
    for folder, validations in (("now", 8), ("before", 0)):
        train(tmp_path / folder, max_steps=60, validate_every=5, validations=validations).run()
    assert steps(tmp_path / "now", "dev") == steps(tmp_path / "before", "dev") == [
        5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60]
    assert steps(tmp_path / "now", "part") == []


def test_validations_of_both_kinds_share_the_distance(tmp_path, third):
    train(tmp_path, validate_every=20).run()
    assert steps(tmp_path, "dev") == [20, 40, 48]
    assert steps(tmp_path, "part") == [6, 12, 18, 26, 32, 38, 46]


def test_samples_are_drawn_at_whole_validations_alone(tmp_path, third):
    class Speaker(Regression):
        def has_lm(self, disabled):
            return True

        def sample_metrics(self, batch, utts):
            return {"length_ratio": torch.tensor(1.0)}
    train(tmp_path, task=Speaker, validate_every=20).run()
    assert all("length_ratio" in r for r in records(tmp_path, "dev"))
    assert not any("length_ratio" in r for r in records(tmp_path, "part"))


@pytest.mark.parametrize("at", [13, 17, 18])
def test_resumed_run_equals_unbroken_run(tmp_path, third, at):
    """Stopped before, at and after a comparison."""
    train(tmp_path / "whole").run()
    stopped(tmp_path / "broken", at, **OPTIONS)
    train(tmp_path / "broken").run()
    for split in ("part", "dev"):
        a, b = ([(r["step"], r["loss"]) for r in records(tmp_path / run, split)]
                for run in ("whole", "broken"))
        assert a == b
    for name in ("best", "last"):
        x, y = (load_checkpoint(tmp_path / run / name) for run in ("whole", "broken"))
        assert tensors_equal(x[0], y[0]) and x[1]["step"] == y[1]["step"]
    a, b = (load_state(tmp_path / run / "state")[0]["evaluation"] for run in ("whole", "broken"))
    assert {k: a[k] for k in ("part", "evaluated")} == {k: b[k] for k in ("part", "evaluated")}
    assert "48.pt" in files(tmp_path / "broken")


def test_a_longer_limit_continues_to_compare(tmp_path, third):
    train(tmp_path).run()
    train(tmp_path, max_steps=96).run()
    assert steps(tmp_path, "part") == [6, 12, 18, 24, 30, 36, 42, 61, 73, 85]


def test_stages_bounded_by_minutes_spend_little_of_them(tmp_path):
    """At most 4 % of the time so far, the next comparison included."""
    minutes = train(tmp_path / "a", max_steps=None, max_minutes=2).evaluator
    bounded = train(tmp_path / "b").evaluator
    assert minutes.due(0.125, 15.0) and not minutes.due(0.1, 15.0)
    for evaluator in (minutes, bounded):
        evaluator.note_between(1.0)
        evaluator.evaluated = 0.125
    assert not minutes.due(0.25, 49.0) and minutes.due(0.26, 51.0)
    assert bounded.due(0.25, 1.0)  # what is done by steps does not depend on the clock
    minutes.note_between(0.2)
    assert not minutes.due(0.26, 44.0) and minutes.due(0.26, 46.0)  # 1.2 s and 0.6 s to come
    assert not minutes.due(1.0, 120.0)  # the end of a stage is validated as a whole
