import math

import pytest
import torch
from tiny import LEVELS, make_batch, make_system, wake

from e2etts.nets.lm import lm_targets
from e2etts.nets.tokenizer import Tokens
from e2etts.nets.tokenizers.fsq import Config
from e2etts.tasks import metrics
from e2etts.tasks.first_order import FirstOrderOptions, FirstOrderTask
from e2etts.tasks.metrics import ctc_error, lm_metrics, token_metrics, with_usage
from e2etts.tasks.second_order import SecondOrderOptions, SecondOrderTask
from e2etts.train.logging import Means
from e2etts.train.task import StepInfo

LOSSES = {"lm", "fm", "ctc", "speaker"}


def first_order(losses=LOSSES):
    return FirstOrderTask(wake(make_system(), std=0.1), FirstOrderOptions(), losses).train()


def fsq_tokenizer(levels):
    return Config(levels=levels, q_dim=4).build(mel_bands=4, frames_per_token=2)


def bits(*shares):
    return -sum(p * math.log2(p) for p in shares if p)


def test_usage_of_a_worked_example():
    """Levels 2 and 3: index = first digit + 2 * second."""
    tokenizer = fsq_tokenizer((2, 3))
    tokens = Tokens(torch.zeros(2, 4, 1), torch.tensor([[0, 0, 1, 2], [2, 0, 5, 5]]),
                    torch.tensor([4, 2]), torch.tensor([0.5, 0.99]).view(2, 1, 1).expand(2, 4, 2))
    tokenizer.fsq.mean.fill_(3.0)
    tokenizer.fsq.var.fill_(7.0)
    seen = token_metrics(tokens, tokenizer)
    assert seen["saturated"] == pytest.approx(2 / 6) and seen["pre_quant_rms"] == 4
    got = with_usage({"loss": torch.tensor(1.0), **seen}, tokenizer)
    assert "token_shares" not in got and got["loss"] == 1
    want = {"token_entropy_bits": bits(3 / 6, 1 / 6, 2 / 6), "used_share": 3 / 6,
            "token_entropy_bits_0": bits(5 / 6, 1 / 6), "token_entropy_bits_1": bits(4 / 6, 2 / 6)}
    want["token_entropy_share"] = want["token_entropy_bits"] / math.log2(6)
    want["least_dimension_share"] = want["token_entropy_bits_1"] / math.log2(3)
    assert {k: float(got[k]) for k in want} == pytest.approx(want)
    assert with_usage({"loss": torch.tensor(1.0)}, tokenizer) == {"loss": 1}


def test_every_dimension_is_told_apart():
    tokenizer = fsq_tokenizer(LEVELS)
    index = torch.randint(0, tokenizer.codebook_size, (1, 500), generator=torch.manual_seed(3)) ** 2
    index %= tokenizer.codebook_size
    tokens = Tokens(index, index, torch.tensor([500]), torch.zeros(1, 500, 3))
    got = with_usage(token_metrics(tokens, tokenizer), tokenizer)
    digits = tokenizer.digits()[index[0]]
    for d in range(len(LEVELS)):
        shares = torch.bincount(digits[:, d]).double() / 500
        assert float(got[f"token_entropy_bits_{d}"]) == pytest.approx(bits(*shares.tolist()))


def test_entropy_of_a_record_is_that_of_all_its_tokens_together():
    """Not the mean of batches that have one code each: 0 bits."""
    tokenizer, means = fsq_tokenizer((2, 2)), Means()
    for code in (0, 3):
        index = torch.full((1, 5), code)
        tokens = Tokens(index, index, torch.tensor([5]), torch.zeros(1, 5, 2))
        means.add(token_metrics(tokens, tokenizer))
    joined = Means.joined([means.plain(), means.plain()])
    for some in (means, joined):
        got = some.take(lambda m: with_usage(m, tokenizer))
        assert got["token_entropy_bits"] == pytest.approx(1)


def test_metrics_of_the_lm():
    targets = lm_targets(torch.tensor([[1, 0], [1, 9]]), torch.tensor([2, 1]), end=2)
    p = torch.tensor([[[.1, .8, .1], [.2, .5, .3], [.2, .2, .6]],
                      [[.3, .6, .1], [.1, .1, .8], [.9, .05, .05]]])
    got = {k: float(v) for k, v in lm_metrics(p.log(), targets, 2).items()}
    assert got["end_probability"] == pytest.approx(0.7)
    assert got["early_end_probability"] == pytest.approx(0.5 / 3)
    assert got["lm_accuracy"] == pytest.approx(4 / 5)
    rows = [(.1, .8, .1), (.2, .5, .3), (.2, .2, .6), (.3, .6, .1), (.1, .1, .8)]
    assert got["lm_entropy"] == pytest.approx(sum(bits(*r) for r in rows) * math.log(2) / 5)


def test_costly_metrics_are_left_out_where_nobody_asks():
    task, batch = first_order(), make_batch()
    cheap = {"token_shares", "saturated", "pre_quant_rms"}
    assert set(task(batch).metrics) == cheap | {
        "lm_accuracy", "lm_entropy", "end_probability", "early_end_probability"}
    out = task(batch, "main", StepInfo(measure=False))
    assert set(out.metrics) == cheap and not any(m.requires_grad for m in out.metrics.values())


def test_embeddings_are_what_every_reader_reads():
    task = first_order()
    out = task(make_batch())
    for term in out.terms.values():
        [grad] = torch.autograd.grad(term, out.embeddings, retain_graph=True)
        assert grad.abs().sum() > 0
    task.system.train_only(["lm"])
    assert task(make_batch()).embeddings == ()
    second = SecondOrderTask(task.system, SecondOrderOptions(), {"ce", "ctc"}).train()
    out = second(make_batch())
    ctc, ce = (torch.autograd.grad(out.terms[k], out.embeddings, retain_graph=True,
                                   allow_unused=True)[0] for k in ("ctc", "ce"))
    assert ctc.abs().sum() > 0 and ce is None


def certain_rm(rm, readings: list[list[int]]):
    """An RM whose CTC head recognises ``readings``, one label a frame."""
    logits = torch.full((len(readings), len(readings[0]), rm.blank + 1), -9.0)
    logits.scatter_(2, torch.tensor(readings).unsqueeze(-1), 9.0)
    rm.encode = lambda q, lens: q
    rm.ctc_logits = lambda h: logits
    return rm


def test_errors_of_a_greedy_reading():
    rm = make_system(decoder_layers=0).rm
    blank = rm.blank
    certain_rm(rm, [[1, 1, blank, 1, 2, 2], [3, blank, 4, 4, 5, 5]])
    q, lens = torch.zeros(2, 3, 1), torch.tensor([3, 2])
    text, text_lens = torch.tensor([[1, 1, 2], [3, 5, 0]]), torch.tensor([3, 2])
    # Row 0 is right; row 1 ends before its last two frames and has 3 4 for 3 5.
    assert float(ctc_error(rm, q, lens, text, text_lens)) == pytest.approx(1 / 5)


def test_samples_are_held_against_recordings_and_heard_by_both_listeners(monkeypatch):
    system, batch = wake(make_system(), std=0.1), make_batch()
    system.train_only(["lm"])
    task = SecondOrderTask(system, SecondOrderOptions(), {"ce", "ctc"}).eval()
    generated = [torch.tensor([1, 2, 3]), torch.tensor([], dtype=torch.long)]
    monkeypatch.setattr(metrics, "sample_tokens",
                        lambda system, given, *a: generated[: len(given.text)])
    got = task.sample_metrics(batch, 2)
    assert float(got["length_ratio"]) == pytest.approx((3 + 1) / (12 + 8))
    assert set(got) == {"length_ratio", "rm_nats", "rm_error", "rm_error_recording"}
    task.judge = make_system(seed=5).rm.train()
    assert not task.train().judge.training
    both = task.sample_metrics(batch, 2)
    assert {k for k in both if k not in got} == {"judge_error", "judge_error_recording"}
    task.judge = system.rm
    same = task.sample_metrics(batch, 2)
    assert same["judge_error"] == same["rm_error"] == got["rm_error"]


def test_the_lm_speaks_where_it_learns():
    task, batch = first_order(), make_batch()
    none = frozenset()
    assert task.has_lm(none) and first_order({"lm"}).has_lm(none)
    assert not first_order({"ctc"}).has_lm(none) and not task.has_lm(frozenset({"lm"}))
    with torch.no_grad():
        got = task.eval().sample_metrics(batch, 2)
    assert got["length_ratio"] > 0 and got["rm_error"] >= 0 and got["rm_nats"].isfinite()
    task.system.train_only(["rm"])
    assert not task.has_lm(none)
