"""What rewards of roll-outs teach the LM: timing and content, within a few dozen steps; and that a
run that was interrupted goes on as if it had not been."""

import itertools

import pytest
import torch
from test_reward_teaches import taught
from tiny import make_batch, make_system, wake

from e2etts.synthesis_config import SamplingConfig
from e2etts.tasks.dpo import DPOOptions, DPOTask
from e2etts.tasks.grpo import GRPOOptions, GRPOTask
from e2etts.tasks.second_order import PolicyConfig, SecondOrderOptions, SecondOrderTask
from e2etts.train.config import TrainConfig
from e2etts.train.loop import Trainer
from e2etts.train.states import load_state

OPEN = {"top_p": 1.0, "top_k": 0, "repeat_window": 0, "min_ratio": 1.0}


def learned(task, name, lr):
    """Mean reward of fresh roll-outs before and after learning from one loss alone."""
    batch = make_batch(frames=(16, 16), letters=(4, 4))
    batch.text[0], batch.text[1] = 1, 2

    @torch.no_grad()
    def reward():
        torch.manual_seed(99)
        return float(sum(task.eval()(batch).metrics["reward"] for _ in range(2)) / 2)
    before = reward()
    optimiser = torch.optim.AdamW(task.train().parameters_of("main"), lr=lr)
    for step in range(20):
        torch.manual_seed(step)
        optimiser.zero_grad()
        terms = task(batch).terms
        if name in terms:
            terms[name].backward()
            optimiser.step()
    return before, reward()


def make(kind, system, losses, **options):
    cls, config = {"second_order": (SecondOrderTask, SecondOrderOptions),
                   "grpo": (GRPOTask, GRPOOptions), "dpo": (DPOTask, DPOOptions)}[kind]
    kept = {"advance"} if system.lm.aligned else set()
    return cls(system, config(**options), losses | {"ce"} | kept)


@pytest.mark.parametrize("text_input", ["prefix", "aligned"])
@pytest.mark.parametrize("kind", ["second_order", "grpo", "dpo"])
def test_the_reward_of_lengths_rises(kind, text_input, monkeypatch):
    """A reward that wants two tokens a text token, no matter which; the second order teaches it by
    end and advance alone."""
    system = wake(make_system(text_input=text_input), std=0.05)
    system.train_only(["lm"])
    monkeypatch.setattr(system.rm, "row_losses", lambda q, lens, text, text_lens, *a: {
        "ctc": (lens - 2 * text_lens).abs() / text_lens})
    name = "dpo" if kind == "dpo" else "policy"
    task = make(kind, system, {name}, group=8, sampling=SamplingConfig(**OPEN, max_ratio=4.0))
    before, after = learned(task, name, lr=2e-2)
    assert before < -1 and after > 0.6 * before, (before, after)


@pytest.mark.parametrize("text_input", ["prefix", "aligned"])
@pytest.mark.parametrize(("kind", "lr"), [("second_order", 2e-2), ("grpo", 2e-2), ("dpo", 1e-2)])
def test_the_reward_of_content_rises(kind, lr, text_input):
    """An RM that hears the first digit of each code: the LM says more of its text."""
    name = "dpo" if kind == "dpo" else "policy"
    options = {"policy": PolicyConfig(tokens=True)} if kind == "second_order" else {}
    task = make(kind, taught(text_input), {name}, group=16, **options, sampling=SamplingConfig(
        **OPEN, max_ratio=4.0, max_tokens_per_text_token=2))
    before, after = learned(task, name, lr)
    assert after > 0.5 * before, (before, after)


# In the training loop

def batches(cursor, rank=0, ranks=1, on_batch=lambda n: None):
    for n in itertools.count(cursor[1]):
        on_batch(n)
        yield make_batch(n), (0, n + 1)


def trainer(kind, folder, stop=None):
    system = wake(make_system(text_input="aligned"), std=0.1)
    system.train_only(["lm"])
    options = {"sampling": SamplingConfig(min_ratio=1.0, max_tokens_per_text_token=2), "group": 3,
               "rollout_rows": 0.5}
    if kind == "grpo":
        options |= {"updates": 2, "clip": 0.2}
    name = "dpo" if kind == "dpo" else "policy"
    losses = {name, "kl"}
    if kind == "second_order":
        losses, options = losses | {"ctc"}, {**options, "history": "mixed", "packed": True}
    task = make(kind, system, losses, **options)

    def train(cursor, *ranks):
        return batches(cursor, on_batch=lambda n: n == stop and setattr(
            made, "stop_requested", True))
    config = TrainConfig(lr=1e-3, warmup_steps=2, max_steps=4, accumulation=2, log_every=1,
                         validate_every=4, precision="bf16", batch_seconds=1.0)
    made = Trainer(task, config, folder=folder, train=train, dev=lambda: [make_batch(1000)],
                   weights=dict.fromkeys(task.losses, 1.0), frame_rate_hz=50.0, seed=1)
    return made


@pytest.mark.parametrize("kind", ["second_order", "grpo", "dpo"])
def test_resumed_run_equals_unbroken_run(kind, tmp_path):
    summary = trainer(kind, tmp_path / "whole").run()
    assert summary["steps"] == 4 and summary["skipped_steps"] == 0
    with pytest.raises(KeyboardInterrupt):
        trainer(kind, tmp_path / "broken", stop=3).run()
    assert load_state(tmp_path / "broken/state")[0]["step"] == 2
    trainer(kind, tmp_path / "broken").run()
    whole, broken = (load_state(tmp_path / name / "state")[0] for name in ("whole", "broken"))
    assert whole["model"].keys() == broken["model"].keys()
    assert all(torch.equal(v, broken["model"][k]) for k, v in whole["model"].items())
    for a, b in zip(whole["ema"]["average"], broken["ema"]["average"], strict=True):
        assert torch.equal(a, b)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "broken")]
    assert all('"reward"' in log and '"rollout_length_ratio"' in log and '"length_ratio"' in log
               for log in logs)
