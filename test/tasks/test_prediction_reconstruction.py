"""Losses named ..._hat: FM and RM read what the LM predicts while the tokenizer learns; and an LM
that reads a part of the rows."""

import pytest
import torch
from tiny import make_batch, make_system, reached, wake

from e2etts.nets.bridge import bridge
from e2etts.nets.system import PARTS
from e2etts.tasks.first_order import FirstOrderOptions, FirstOrderTask
from e2etts.train.task import StepInfo

HATS = {"fm_hat", "coarse_hat", "ctc_hat", "attention_hat", "speaker_hat", "emotion_hat"}


def make(losses, trainable=PARTS, **options):
    torch.manual_seed(0)
    system = wake(make_system(text_input="prefix"), std=0.1)
    system.train_only(list(trainable))
    return FirstOrderTask(system, FirstOrderOptions(**options), set(losses)).train()


@pytest.mark.parametrize("name", sorted(HATS))
def test_the_gradient_goes_to_lm_and_tokenizer_alone(name):
    task = make({"lm", name})
    terms = task(make_batch()).terms
    assert set(terms) == {"lm", name}
    terms[name].backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == {"tokenizer", "lm"}
    assert all(p.requires_grad for p in task.system.parameters())  # as it was


def test_readers_still_learn_from_q_in_the_same_step():
    task = make({"lm", "ctc", "ctc_hat", "coarse", "coarse_hat"})
    apart = make({"lm", "ctc", "coarse"})
    for t in (task, apart):
        torch.manual_seed(0)
        terms = t.eval()(make_batch()).terms
        sum(terms.values()).backward()
    for part in ("rm", "fm"):
        pairs = zip(getattr(task.system, part).named_parameters(),
                    getattr(apart.system, part).parameters(), strict=True)
        for (name, a), b in pairs:
            if "estimator" not in name:  # its noise is drawn after that of the samples
                assert (a.grad is None) == (b.grad is None), name
    rm = [(a.grad, b.grad) for a, b in zip(task.system.rm.parameters(),
                                           apart.system.rm.parameters(), strict=True)
          if a.grad is not None]
    for a, b in rm:
        torch.testing.assert_close(a, b)


def test_without_the_lms_inputs_only_the_code_table_is_reached():
    task = make({"lm", "ctc_hat"}, lm_grad="none")
    task(make_batch()).terms["ctc_hat"].backward()
    tokenizer = task.system.tokenizer
    assert tokenizer.up.weight.grad.any() and not reached(tokenizer.encoder)
    assert reached(task.system.lm)


def test_the_value_is_that_of_the_rm_on_samples_of_the_lm():
    task, batch, seen = make({"lm", "ctc_hat"}), make_batch(), {}
    task.eval()
    task.system.lm.register_forward_hook(lambda m, i, out: seen.update(logits=out.logits))
    torch.manual_seed(3)
    got = task(batch).terms["ctc_hat"]
    system, lens = task.system, batch.mel_lens // 2
    torch.manual_seed(3)
    q_hat = bridge(seen["logits"][:, :-1, : system.lm.end], system.tokenizer.codebook(),
                   task.options.bridge)
    want = system.rm.losses(q_hat, lens, batch.text, batch.text_lens, batch.speaker, batch.emotion)
    torch.testing.assert_close(got, want["ctc"])


def test_a_hat_waits_for_its_delay_and_needs_an_lm():
    task = make({"lm", "ctc_hat"})
    seen = []
    task.system.rm.register_forward_hook(lambda *a: seen.append(a))
    info = StepInfo(disabled=frozenset({"ctc_hat"}))
    assert set(task(make_batch(), "main", info).terms) == {"lm"} and not seen
    with pytest.raises(ValueError, match="ctc_hat reads what the LM predicts"):
        make({"ctc", "ctc_hat"})
    with pytest.raises(ValueError, match="no such loss: lm_hat"):
        make({"lm", "lm_hat"})


def test_training_on_one_batch_lowers_the_loss_of_predictions():
    task = make({"lm", "ctc_hat"}, ["tokenizer", "lm"])
    optimizer = torch.optim.Adam([p for p in task.parameters() if p.requires_grad], lr=1e-2)
    batch, losses = make_batch(), []
    for step in range(80):
        torch.manual_seed(step)
        loss = task(batch).terms["ctc_hat"]
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_the_lm_reads_a_part_of_the_rows_in_training_and_all_in_evaluation():
    batch = make_batch()
    part = make({"lm", "ctc"}, lm_rows=0.5)
    seen = []
    part.system.lm.register_forward_pre_hook(lambda m, args: seen.append(args[2].tolist()))
    torch.manual_seed(1)
    rows = torch.randperm(3)[:2]
    torch.manual_seed(1)
    got = part(batch).terms["lm"]
    assert seen == [(batch.mel_lens[rows] // 2).tolist()]
    assert got.isfinite()
    part.eval()(batch)
    assert len(seen[-1]) == 3
    one = make({"lm"}, lm_rows=0.01)
    one.system.lm.register_forward_pre_hook(lambda m, args: seen.append(args[2].tolist()))
    one(batch)
    assert len(seen[-1]) == 1
    with pytest.raises(ValueError, match="lm_rows"):
        FirstOrderOptions(lm_rows=0.0)
