"""Losses of a system whose tokens come from files."""

import pytest
import torch
from tiny import make_batch, make_system, reached, wake

from e2etts.nets.system import PARTS
from e2etts.tasks.first_order import FirstOrderOptions, FirstOrderTask
from e2etts.tasks.second_order import LOSSES, SecondOrderOptions, SecondOrderTask

FIRST = {"lm", "advance", "fm", "coarse", "ctc", "attention", "speaker", "emotion"}
BATCH = make_batch(codes=True)


def system(trainable, **changes):
    net = wake(make_system(kind="codes", text_input="aligned", **changes), std=0.1)
    net.train_only(list(trainable))
    return net


def first_order(trainable=PARTS, losses=FIRST, options=None, **changes) -> FirstOrderTask:
    return FirstOrderTask(system(trainable, **changes), FirstOrderOptions(**options or {}),
                          set(losses)).train()


def used_rows(task) -> list[int]:
    """Codes whose embedding has a gradient."""
    grad = task.system.tokenizer.table.weight.grad
    return (grad.abs().sum(1) > 0).nonzero().flatten().tolist()


def codes_of(batch) -> list[int]:
    counts = (batch.mel_lens // 2).tolist()
    return sorted({int(c) for row, n in zip(batch.codes, counts, strict=True) for c in row[:n]})


@pytest.mark.parametrize("name", sorted(FIRST))
def test_each_first_order_loss_is_finite_and_reaches_the_table(name):
    task = first_order()
    terms = task(BATCH).terms
    assert set(terms) == FIRST and all(t.isfinite() for t in terms.values())
    terms[name].backward()
    used, wanted = used_rows(task), codes_of(BATCH)
    assert used and set(used) <= set(wanted)
    if name in ("ctc", "speaker"):  # the FM drops its condition in some rows
        assert used == wanted


def test_the_fm_may_teach_the_table_alone():
    task = first_order(["tokenizer", "fm", "speaker"], {"fm", "coarse"})
    sum(task(BATCH).terms.values()).backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == {"tokenizer", "fm", "speaker"}
    assert used_rows(task) == codes_of(BATCH)


def test_a_frozen_table_gets_no_gradient():
    task = first_order(["lm"], {"lm", "advance"}, {"lm_grad": "targets"})
    sum(task(BATCH).terms.values()).backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == {"lm"}


@pytest.mark.parametrize("way", ["targets", "inputs+soft-targets"])
def test_there_are_no_soft_targets(way):
    with pytest.raises(ValueError, match="this kind of tokenizer has no soft targets: choose none "
                                         "or inputs"):
        first_order(options={"lm_grad": way})


def test_a_batch_without_tokens_is_refused():
    with pytest.raises(ValueError, match="come from files"):
        first_order()(make_batch())


def test_metrics_are_those_of_the_codes():
    task = first_order().eval()
    found = task.summarise(task(BATCH).metrics)
    assert found["used_share"] == len(codes_of(BATCH)) / 36
    assert {"token_entropy_bits", "token_entropy_bits_2", "least_dimension_share"} <= set(found)
    assert "saturated" not in found
    sampled = task.sample_metrics(BATCH, 2)
    assert sampled["rm_error_recording"].isfinite() and sampled["length_ratio"] > 0


@pytest.mark.parametrize("history", ["teacher-forced", "free-running"])
@pytest.mark.parametrize("lm_input", ["q", "table"])
def test_every_second_order_loss_is_finite_and_reaches_the_lm(history, lm_input):
    free = history == "free-running"
    losses = LOSSES - {"fm", "coarse", "fm_q", "coarse_q"} if free else LOSSES
    net = system(["lm"] if free else ["lm", "fm"], lm_input=lm_input)
    task = SecondOrderTask(net, SecondOrderOptions(history=history, group=4), losses)
    task.train(not free)  # in evaluation every roll-out is kept
    terms = task(BATCH).terms
    assert set(terms) == losses and all(t.isfinite() for t in terms.values())
    wake(net.lm, seed=5)  # away from the reference, so that kl has a gradient
    for name in sorted(losses - {"fm_q", "coarse_q"}):
        net.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        task(BATCH).terms[name].backward()
        assert reached(net.lm) and net.tokenizer.table.weight.grad is None, name
