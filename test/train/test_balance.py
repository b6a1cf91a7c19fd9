"""Shares of the losses in the gradient at q, and weights that follow from them."""

import json

import pytest
import torch
from toy import Reader, make_batch, make_trainer, records

from e2etts.errors import UserError
from e2etts.train.balance import Balance
from e2etts.train.config import HealthConfig, LossWeight, times_in_step
from e2etts.train.task import EVALUATION, Losses


def measured(weights, grads, lr=1.0, steps=1):
    balance = Balance(weights, "stage")
    now = {k: getattr(w, "weight", w) for k, w in weights.items()}
    for _ in range(steps):
        used = balance.applied(now)
        balance.add(lr, used, {k: used[k] * g for k, g in grads.items()})
    return balance, balance.applied(now)


def test_a_share_gives_the_weight_with_which_the_loss_has_it():
    weights = {"ctc": 2.0, "coarse": 1.0, "lm": LossWeight(weight=0.1, share=0.2),
               "fm": LossWeight(weight=1.0, share=0.3)}
    norms = {"ctc": 1.0, "coarse": 3.0, "lm": 0.01, "fm": 40.0}
    balance, used = measured(weights, norms)
    assert used["ctc"] == 2.0 and used["coarse"] == 1.0
    moved = {k: used[k] * norms[k] for k in norms}
    shares = {k: v / sum(moved.values()) for k, v in moved.items()}
    assert shares["lm"] == pytest.approx(0.2) and shares["fm"] == pytest.approx(0.3)
    assert shares["ctc"] / shares["coarse"] == pytest.approx(2 / 3)


def test_a_share_rises_with_the_ramp_of_its_weight_and_waits_for_its_delay():
    weights = {"ctc": 1.0, "lm": LossWeight(weight=0.1, delay=0.5, ramp=0.2, share=0.2)}
    balance, _ = measured(weights, {"ctc": 1.0, "lm": 5.0})
    half = balance.applied({"ctc": 1.0, "lm": 0.05})
    assert 5 * half["lm"] / (1 + 5 * half["lm"]) == pytest.approx(0.1)
    assert balance.applied({"ctc": 1.0, "lm": 0.0}) == {"ctc": 1.0, "lm": 0.0}


def test_an_unmeasured_loss_keeps_its_weight_and_is_measured_at_once():
    weights = {"ctc": 1.0, "lm": LossWeight(weight=0.1, share=0.2)}
    balance = Balance(weights, "stage")
    assert balance.applied({"ctc": 1.0, "lm": 0.1}) == {"ctc": 1.0, "lm": 0.1}
    assert balance.due(7, {"ctc": 1.0, "lm": 0.1}) and not balance.due(7, {"ctc": 1.0, "lm": 0.0})
    balance.add(1.0, {"ctc": 1.0, "lm": 0.1}, {"ctc": 1.0, "lm": 1.0})
    assert not balance.due(7, {"lm": 0.1}) and balance.due(40, {"lm": 0.1})
    assert not Balance({"ctc": 1.0}, "stage").due(40, {"ctc": 1.0})


def test_the_dose_is_the_sum_over_steps_of_rate_times_gradient():
    balance = Balance({"a": 1.0, "b": 1.0}, "stage")
    used = {"a": 1.0, "b": 1.0}
    balance.add(0.5, used, None)
    balance.add(0.5, used, {"a": 3.0})
    balance.add(2.0, used, {"a": 1.0, "b": 4.0})
    assert balance.doses == {"a": 5.0, "b": 8.0}
    assert balance.shares() == {"a": 5 / 13, "b": 8 / 13}
    assert balance.to_log() == {"q_share_a": 5 / 13}  # b: after a second measurement
    balance.add(1.0, used, {"a": 2.0, "b": 2.0})
    assert balance.to_log()["q_share_b"] == 10 / (10 + 2 + 2)  # since it joined, after 3.0


def test_shares_that_leave_nothing_and_a_loss_that_does_not_reach_q_are_refused():
    with pytest.raises(UserError, match="leave nothing"):
        Balance({"a": LossWeight(weight=1.0, share=0.5), "b": LossWeight(weight=1.0, share=0.5)},
                "stage")
    balance = Balance({"a": 1.0, "b": LossWeight(weight=1.0, share=0.5)}, "stage")
    with pytest.raises(UserError, match=r"weights\.b\.share"):
        balance.add(1.0, {"a": 1.0, "b": 1.0}, {"a": 1.0})
    with pytest.raises(ValueError, match="share"):
        LossWeight(weight=0.0, share=0.1)


def test_a_gradient_of_zero_is_no_measurement():
    """The flow's, in its first step: its output layer starts at zero."""
    weights = {"ctc": 1.0, "fm": LossWeight(weight=1.0, share=0.5)}
    balance, now = Balance(weights, "stage"), {"ctc": 1.0, "fm": 1.0}
    balance.add(1.0, now, {"ctc": 1.0, "fm": 0.0})
    assert balance.applied(now) == now and balance.due(1, now)
    balance.add(1.0, now, {"ctc": 1.0, "fm": 4.0})
    assert balance.applied(now)["fm"] == pytest.approx(0.25)


SHARED = {"error": 1.0, "fool": LossWeight(weight=0.1, share=0.25)}


def test_the_loop_gives_a_loss_its_share_and_says_so(tmp_path):
    summary = make_trainer(Reader(), tmp_path, weights=SHARED, max_steps=60, lr=1e-3).run()
    seen = [r for r in records(tmp_path, "train") if "q_grad_fool" in r]
    assert [r["step"] for r in seen] == [1, 21, 41] and seen[0]["weight_fool"] == 0.1
    for row in seen[1:]:
        share = row["q_grad_fool"] / (row["q_grad_fool"] + row["q_grad_error"])
        assert share == pytest.approx(0.25, abs=0.05) and row["weight_fool"] > 0.1
    assert sum(summary["q_shares"].values()) == pytest.approx(1)
    assert json.loads((tmp_path / "summary.json").read_text())["q_shares"] == summary["q_shares"]


def test_a_resumed_run_has_the_same_weights(tmp_path):
    whole = Reader()
    make_trainer(whole, tmp_path / "whole", weights=SHARED, max_steps=30).run()
    part = make_trainer(Reader(), tmp_path / "part", weights=SHARED, max_steps=30, save_every=10)

    def stop(*args):
        part.stop_requested = part.step == 10

    part._validate_if_due, validate = lambda: (stop(), validate()), part._validate_if_due
    with pytest.raises(KeyboardInterrupt):
        part.run()
    again = Reader()
    make_trainer(again, tmp_path / "part", weights=SHARED, max_steps=30, save_every=10).run()
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_hardly_moves_q_raises_an_alarm(tmp_path):
    weights = {"error": 1.0, "fool": 1e-5}
    summary = make_trainer(Reader(), tmp_path, weights=weights, max_steps=30,
                           health=HealthConfig(observe_every=1, grace_steps=5, collapse=None)).run()
    [warning] = summary["warnings"]
    assert warning["what"] == "idle_loss" and "of fool" in warning["message"]
    assert warning["step"] == 5


def test_a_loss_of_every_fourth_step_has_the_same_dose():
    """Weight and share are means over steps; a measurement in a step without it is made up for."""
    weights = {"ctc": 1.0, "lm": LossWeight(weight=0.1, share=0.2, every=4)}
    balance, dose = Balance(weights, "stage"), 0.0
    for number in range(37):
        mean = balance.applied({"ctc": 1.0, "lm": 0.1})
        times = times_in_step(weights["lm"], number)
        used = mean if times else {"ctc": mean["ctc"]}
        grads = {"ctc": 1.0} | ({"lm": 5.0 * mean["lm"]} if times else {})
        dose += 5.0 * mean["lm"] * times
        balance.add(1.0, used, grads if number % 3 == 0 else None)
    assert times_in_step(1.0, 3) == 1 and times_in_step(weights["lm"], 3) == 0
    assert balance.shares()["lm"] == pytest.approx(0.2, rel=0.05)
    # Ten steps, each a quarter of ctc's four; the first, not measured yet, has its own weight.
    assert dose == pytest.approx(9 * 0.25 * 4 + 5.0 * 0.1 * 4)


def test_a_loss_of_every_third_step_is_computed_there_alone(tmp_path):
    seen = []

    class Watched(Reader):
        def forward(self, batch, phase="main", info=EVALUATION):
            seen.append(sorted(info.disabled))
            out = super().forward(batch, phase, info)
            return Losses({k: v for k, v in out.terms.items() if k not in info.disabled},
                          out.metrics, out.embeddings)

    gradients = {}
    for every in (1, 3):
        weights = {"error": 1.0, "fool": LossWeight(weight=0.5, every=every)}
        trainer = make_trainer(Watched(), tmp_path / str(every), weights=weights, max_steps=1,
                               dev_batches=1, grad_clip=0)
        batch = [make_batch(0)]
        for number in range(every):
            outcome = trainer.stepper.step(batch, number, 0.0, lr_scale=0.0)
            gradients[every, number] = float(outcome.values["grad_norm"])
    assert seen == [[], [], ["fool"], ["fool"]]
    assert gradients[3, 1] == gradients[3, 2] < gradients[1, 0] < gradients[3, 0]
    with pytest.raises(ValueError, match="every"):
        LossWeight(weight=1.0, every=0)
