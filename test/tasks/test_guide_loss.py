"""The loss "guide" of a first-order stage: who it teaches, when it is run, what it needs."""

from pathlib import Path

import pytest
import torch
from test_first_order import make
from tiny import make_batch, make_system, reached

from e2etts.config import build
from e2etts.errors import UserError
from e2etts.nets.system import PARTS
from e2etts.recipe import load_recipe
from e2etts.tasks.first_order import FirstOrderOptions, FirstOrderTask
from e2etts.train.task import StepInfo

MINI = Path(__file__).resolve().parents[2] / "egs/mini/conf/default.yaml"
GUIDE = {"guide": {"layers": [1], "heads": 2}}


def options(**changes) -> FirstOrderOptions:
    return build(FirstOrderOptions, {**GUIDE, **changes})


def task_of(losses, trainable=PARTS, **changes) -> FirstOrderTask:
    plain = make(losses - {"guide"}, trainable, **changes)
    return FirstOrderTask(plain.system, options(), losses).train()


@pytest.mark.parametrize(("trainable", "wanted"), [
    (PARTS, {"tokenizer", "lm"}), (("lm",), {"lm"}), (("lm", "rm"), {"lm"})])
def test_it_teaches_the_lm_and_what_the_lm_reads_and_not_the_rm(trainable, wanted):
    task = task_of({"lm", "guide", "ctc"}, trainable)
    terms = task(make_batch()).terms
    assert set(terms) == {"lm", "guide", "ctc"} and terms["guide"].shape == ()
    terms["guide"].backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == wanted
    attention = task.system.lm.trunk.layers[1].self_attn
    assert reached(attention.q_proj) and reached(attention.k_proj)
    assert not reached(attention.v_proj) and not reached(task.system.lm.head)


def test_nothing_is_aligned_while_it_is_off(monkeypatch):
    task, batch, calls = task_of({"lm", "guide"}, ["lm"]), make_batch(), []
    align = task.system.rm.align
    monkeypatch.setattr(task.system.rm, "align", lambda *a: calls.append(1) or align(*a))
    off = task(batch, "main", StepInfo(disabled=frozenset({"guide"}))).terms
    assert set(off) == {"lm"} and not calls
    on = task(batch).terms
    assert set(on) == {"lm", "guide"} and calls
    assert torch.equal(on["lm"], off["lm"])  # it only watches
    assert set(task.eval()(batch).terms) == {"lm", "guide"}  # on dev always


def test_one_batch_is_learnt_by_heart():
    torch.manual_seed(0)
    system = make_system(text_input="prefix", text_stride=1.5)
    system.train_only(["lm"])
    task, batch = FirstOrderTask(system, options(), {"lm", "guide"}).train(), make_batch()
    optimiser = torch.optim.AdamW(task.parameters_of("main"), lr=1e-2)
    history = []
    for _ in range(60):
        terms = task(batch).terms
        optimiser.zero_grad()
        (terms["lm"] + terms["guide"]).backward()
        optimiser.step()
        history.append(float(terms["guide"].detach()))
    assert history[0] > 0.8 and max(history[-5:]) < 0.2, (history[0], history[-5:])


def test_bf16_gives_a_finite_loss():
    task = task_of({"lm", "guide"})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = task(make_batch()).terms["guide"]
    plain = task(make_batch()).terms["guide"]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain, atol=0.05, rtol=0.05)


def test_what_cannot_be_guided_is_refused():
    with pytest.raises(ValueError, match="'guide' here, because model.lm.text_input is aligned"):
        FirstOrderTask(make_system(text_input="aligned"), options(), {"lm", "advance", "guide"})
    with pytest.raises(ValueError, match=r"options\.guide\.layers: the LM has no layer 2"):
        FirstOrderTask(make_system(), FirstOrderOptions(), {"lm", "guide"})
    FirstOrderTask(make_system(), FirstOrderOptions(), {"lm"})  # a guide that is off guides nothing


def test_a_guided_lm_needs_a_trained_rm():
    prefix = ["model.lm.text_input=prefix", "stages.lm.weights={lm: 1, advance: 0, guide: 1}"]
    load_recipe(MINI, prefix)
    with pytest.raises(UserError, match=r"stages\.lm\.init: the LM is guided \(weights\.guide\)"):
        load_recipe(MINI, [*prefix, *(f"stages.{s}.weights.ctc=0" for s in ("tokenizer", "rm"))])
    load_recipe(MINI, [prefix[0], *(f"stages.{s}.weights.ctc=0" for s in ("tokenizer", "rm"))])
