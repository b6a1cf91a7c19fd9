import math

import pytest
import torch
from tiny import make_batch, make_system, reached, unreached, wake

from e2etts.nets.system import PARTS
from e2etts.synthesis_config import SamplingConfig
from e2etts.tasks import rollouts
from e2etts.tasks.dpo import DPOOptions, DPOTask
from e2etts.tasks.policy import pairs

SHORT = SamplingConfig(min_ratio=1.0, max_tokens_per_text_token=2)
LOSSES = {"dpo", "kl", "ce", "advance"}


def make(losses=LOSSES, trainable=("lm",), text_input="aligned", **options):
    losses = losses if text_input == "aligned" else losses - {"advance"}
    system = wake(make_system(text_input=text_input), std=0.1)
    system.train_only(list(trainable))
    task = DPOTask(system, DPOOptions(**{"sampling": SHORT, **options}), set(losses))
    return task.train(text_input == "aligned")


@pytest.mark.parametrize("text_input", ["aligned", "prefix"])
def test_at_the_start_the_loss_is_log_2_and_teaches_all_of_the_lm(text_input):
    task = make(text_input=text_input)
    out = task(make_batch())
    assert set(out.terms) == task.losses and abs(float(out.terms["kl"].detach())) < 1e-6
    assert float(out.terms["dpo"].detach()) == pytest.approx(math.log(2), abs=1e-6)
    assert out.metrics["preferred"] == 0 and "reward" in out.metrics
    out.terms["dpo"].backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == {"lm"}
    assert not unreached(task.system.lm) and not reached(task.reference)


def test_loss_by_hand():
    """-log sigmoid(beta (difference of log ratios of the LM to its reference)), by the LM's own
    distribution, whatever has decoded."""
    task, batch = make({"dpo"}, beta=0.3, packed=False), make_batch()
    wake(task.system.lm, seed=5, std=0.05)
    torch.manual_seed(0)
    got = task(batch).terms["dpo"].detach()
    torch.manual_seed(0)
    rolled = task.roll_outs(task.recordings(batch))
    lm, total, scores = task.system.lm, 0.0, []
    for rows in pairs(rolled):
        history = rolled.history.select(rows)
        sums = []
        for net in (lm, task.reference):
            out = history.predicted_by(net)
            log_q, log_a = out.logits.log_softmax(-1), out.advance.log_softmax(-1)
            each = []
            for b, n in enumerate(history.lens.tolist()):
                at = [-1, *history.position[b, 1:n].tolist(), int(history.given.text_lens[b]) - 1]
                last, total = at[-1], 0.0
                for t in range(n + 1):
                    row = log_q[b, t]
                    early = at[t] < last or t < last + 1
                    # An end that is impossible is left out; one that is certain is no choice.
                    row = row[:-1].log_softmax(-1) if early else row
                    stay = sum(at[i] == at[t] for i in range(t))
                    if t == n:
                        total += 0.0 if stay >= 2 else row[-1]
                        continue
                    total += row[history.index[b, t]]
                    move, left = at[t + 1] - at[t], last - at[t]
                    reach = torch.arange(5).clamp_min(int(stay + 1 >= 2)).clamp_max(left)
                    total += log_a[b, t][reach == move].logsumexp(0)
                each.append(total)
            sums.append(torch.stack(each))
        scores.append(sums[0] - sums[1])
    want = -torch.nn.functional.logsigmoid(0.3 * (scores[0] - scores[1])).mean()
    torch.testing.assert_close(got, want.detach())


def test_a_step_prefers_the_better_of_each_pair(monkeypatch):
    task, batch = make({"dpo"}), make_batch()
    torch.manual_seed(0)
    rolled = task.roll_outs(task.recordings(batch))
    monkeypatch.setattr(task, "roll_outs", lambda recorded: rolled)
    task(batch).terms["dpo"].backward()
    with torch.no_grad():
        for p in task.system.lm.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
    out = task(batch)
    assert out.terms["dpo"] < math.log(2) and out.metrics["preferred"] == 1


def test_without_pairs_there_is_no_loss(monkeypatch):
    task, batch = make(), make_batch()
    monkeypatch.setattr(task.system.rm, "row_losses",
                        lambda q, *a: {"ctc": torch.ones(len(q))})
    assert set(task(batch).terms) == {"ce", "advance"}
    task.losses = {"dpo"}
    out = task(batch)
    assert set(out.terms) == {"dpo"} and out.terms["dpo"] == 0 and "preferred" not in out.metrics
    out.terms["dpo"].backward()
    assert not reached(task.system.lm)


def test_on_the_dev_set_roll_outs_that_do_not_end_are_compared_too(monkeypatch):
    task, batch = make(text_input="prefix").eval(), make_batch()
    real = rollouts.roll_out
    monkeypatch.setattr(rollouts, "roll_out", lambda *a, **k: real(*a, **k)._replace(
        ended=torch.zeros(12, dtype=torch.bool)))
    out = task(batch)
    assert out.metrics["rollouts_kept"] == 1 and out.terms["dpo"].isfinite()


@pytest.mark.parametrize(("losses", "trainable", "options", "message"), [
    ({"kl"}, ["lm"], {}, "learns by the loss 'dpo'"),
    ({"dpo", "policy"}, ["lm"], {}, "no such loss: policy"),
    ({"dpo"}, ["fm"], {}, "trainable: fm: dpo trains lm"),
    ({"dpo"}, ["lm"], {"group": 1}, "options.group"),
    ({"dpo"}, ["lm"], {"beta": 0.0}, "beta must be more than 0")])
def test_senseless_options_are_refused(losses, trainable, options, message):
    with pytest.raises(ValueError, match=message):
        make(losses, trainable, **options)
