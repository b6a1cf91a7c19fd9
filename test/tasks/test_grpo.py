import pytest
import torch
from tiny import make_batch, make_system, reached, trunk, unreached, wake

from e2etts.nets.lm import LM
from e2etts.nets.system import PARTS
from e2etts.synthesis_config import SamplingConfig
from e2etts.tasks import rollouts
from e2etts.tasks.grpo import GRPOOptions, GRPOTask
from e2etts.tasks.policy import advantages
from e2etts.tasks.rollouts import RewardConfig
from e2etts.train.task import StepInfo

SHORT = SamplingConfig(min_ratio=1.0, max_tokens_per_text_token=2, top_p=1.0, top_k=0)
LOSSES = {"policy", "kl", "ce", "advance"}


def make(losses=LOSSES, trainable=("lm",), text_input="aligned", **options):
    losses = losses if text_input == "aligned" else losses - {"advance"}
    system = wake(make_system(text_input=text_input), std=0.1)
    system.train_only(list(trainable))
    task = GRPOTask(system, GRPOOptions(**{"sampling": SHORT, **options}), set(losses))
    # In evaluation no roll-out is discarded; those of an untrained prefix LM may not end.
    return task.train(text_input == "aligned")


@pytest.mark.parametrize("text_input", ["aligned", "prefix"])
@pytest.mark.parametrize("name", sorted(LOSSES - {"advance"}))
def test_each_loss_reaches_all_of_the_lm_and_nothing_else(name, text_input):
    task, batch = make(text_input=text_input), make_batch()
    wake(task.system.lm, seed=5, std=0.05)  # away from the reference
    out = task(batch)
    assert set(out.terms) == task.losses
    out.terms[name].backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == {"lm"}
    assert not reached(task.reference)
    assert all(n.startswith("advance.") and name == "ce" for n in unreached(task.system.lm))
    assert {"reward", "reward_spread", "rollouts_kept", "rollout_length_ratio"} <= set(out.metrics)


def test_policy_covers_end_advance_and_token():
    """At the heads of these: each has gradient of its own."""
    task, seen = make({"policy"}), {}
    lm = task.system.lm

    def watch(module, inputs, out):
        if out.requires_grad:
            out.retain_grad()
            seen[module] = out
    lm.head.register_forward_hook(watch)
    lm.advance.register_forward_hook(watch)
    task(make_batch()).terms["policy"].backward()
    grad = seen[lm.head].grad
    assert grad[..., : lm.end].any() and grad[..., lm.end].any() and seen[lm.advance].grad.any()


def test_the_gradient_is_that_of_the_papers_objective():
    """-1/G sum 1/|o| sum A grad log pi, with advantages over the standard deviation."""
    task, batch = make({"policy"}, packed=False), make_batch()
    torch.manual_seed(0)
    task(batch).terms["policy"].backward()
    got = [p.grad.clone() for p in task.system.lm.parameters() if p.grad is not None]
    task.system.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    rolled = task.roll_outs(task.recordings(batch))
    history = rolled.history
    log_p = history.log_probs(history.predicted_by(task.system.lm), task.decoding).joint()
    total = (advantages(rolled, std=True) * log_p.sum(1) / (history.lens + 1)).mean()
    (-total).backward()
    want = [p.grad for p in task.system.lm.parameters() if p.grad is not None]
    torch.testing.assert_close(got, want)
    assert float(task(batch).terms["policy"].detach()) == pytest.approx(
        -float(task(batch).metrics["reward"]), rel=0.3)


def test_several_updates_read_the_same_roll_outs_with_a_ratio(monkeypatch):
    task, batches = make(updates=3, clip=0.02), [make_batch(0), make_batch(1)]
    decoded = []
    real = rollouts.roll_out
    monkeypatch.setattr(rollouts, "roll_out", lambda *a, **k: decoded.append(1) or real(*a, **k))
    assert task.phases == ("main", "update_2", "update_3")
    optimiser, seen = torch.optim.SGD(task.system.lm.parameters(), lr=0.3), {}
    for step in range(2):
        info = StepInfo(progress=step / 2)
        for phase in task.phases:
            outs = [task(batch, phase, info) for batch in batches]
            for out in outs:
                out.terms["policy"].backward()
            seen[phase] = outs
            optimiser.step()
            optimiser.zero_grad()
        assert len(decoded) == 2 * (step + 1) and not task.again
    for main, later in zip(seen["main"], seen["update_3"], strict=True):
        assert set(later.terms) == {"policy", "kl"} and "clipped" not in main.metrics
        torch.testing.assert_close(later.terms["policy"], main.terms["policy"])
        assert later.metrics["clipped"] > 0 and later.terms["kl"] > main.terms["kl"]
    # A step that ended early leaves nothing to the next one.
    task(batches[0], "main", StepInfo(progress=0.7))
    task(batches[1], "main", StepInfo(progress=0.8))
    assert len(task.again) == 1
    task.again.clear()
    task.eval()(batches[0])
    assert not task.again


def test_before_an_update_the_ratio_is_one_and_nothing_clipped():
    task, batch = make({"policy"}, updates=2, clip=0.2), make_batch()
    info, grads = StepInfo(progress=0.1), []
    for phase in task.phases:
        task.system.zero_grad(set_to_none=True)
        out = task(batch, phase, info)
        out.terms["policy"].backward()
        grads.append([p.grad.clone() for p in task.system.lm.parameters() if p.grad is not None])
    assert out.metrics["clipped"] == 0
    torch.testing.assert_close(*grads)


def test_a_batch_without_roll_outs_teaches_nothing(monkeypatch):
    task, batch = make({"policy", "kl"}, updates=2, clip=0.2), make_batch()
    real = rollouts.roll_out
    monkeypatch.setattr(rollouts, "roll_out", lambda *a, **k: real(*a, **k)._replace(
        ended=torch.zeros(12, dtype=torch.bool)))
    for phase in task.phases:
        out = task(batch, phase, StepInfo(progress=0.5))
        assert set(out.terms) == {"policy"} and out.terms["policy"] == 0
        out.terms["policy"].backward()
    assert not reached(task.system.lm)
    task = make()
    assert set(task(batch, "main", StepInfo(progress=0.5)).terms) == {"ce", "advance"}


def test_what_is_off_is_not_run(monkeypatch):
    task, batch = make(), make_batch()
    calls = []
    monkeypatch.setattr(task, "roll_outs", lambda *a: calls.append("roll_outs"))
    out = task(batch, "main", StepInfo(0.5, frozenset({"policy", "kl"}), False))
    assert set(out.terms) == {"ce", "advance"} and out.metrics == {} and not calls
    task = make()
    forward = LM.forward
    monkeypatch.setattr(LM, "forward", lambda *a, **k: calls.append("lm") or forward(*a, **k))
    task(batch, "main", StepInfo(0.5, frozenset({"ce", "advance", "kl"}), False))
    assert calls == ["lm"]  # the roll-outs alone


def test_bf16_and_the_default_sampling_have_finite_gradients():
    task = make(sampling=SamplingConfig(min_ratio=1.0, max_tokens_per_text_token=3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = task(make_batch())
    sum(v.float() for v in out.terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


@pytest.mark.parametrize(("losses", "trainable", "options", "message"), [
    ({"kl", "ce", "advance"}, ["lm"], {}, "learns by the loss 'policy'"),
    ({"policy", "ctc"}, ["lm"], {}, "weights: no such loss: ctc"),
    ({"policy"}, ["lm", "fm"], {}, "trainable: fm: grpo trains lm"),
    ({"policy"}, ["lm"], {"group": 1}, "options.group: .*2 or more"),
    ({"policy"}, ["lm"], {"sampling": SamplingConfig(min_ratio=0.4)},
     "options.sampling.min_ratio"),
    ({"policy"}, ["lm"], {"sampling": SamplingConfig(min_ratio=1.0, temperature=0.0)},
     "options.sampling.temperature"),
    ({"policy"}, ["lm"], {"updates": 2}, "clip bounds the ratio of several"),
    ({"policy"}, ["lm"], {"clip": 0.2}, "clip bounds the ratio of several"),
    ({"policy"}, ["lm"], {"updates": 2, "clip": 1.5}, "clip must be more than 0"),
    ({"policy"}, ["lm"], {"updates": 0}, "updates must be at least 1")])
def test_senseless_options_are_refused(losses, trainable, options, message):
    with pytest.raises(ValueError, match=message):
        make(losses, trainable, **options)


def test_rewards_that_the_rm_lacks_and_dropout_are_refused():
    def build(reward, **changes):
        system = make_system(decoder_layers=0, **changes)
        system.train_only(["lm"])
        GRPOTask(system, GRPOOptions(reward=reward), {"policy"})
    with pytest.raises(ValueError, match="options.reward: no loss 'attention' here"):
        build(RewardConfig(attention=1.0))
    system = make_system()
    system.train_only(["lm"])
    object.__setattr__(system.config.lm, "trunk", trunk(dropout=0.1))
    with pytest.raises(ValueError, match="dropout.*set it to 0"):
        GRPOTask(system, GRPOOptions(), {"policy"})
