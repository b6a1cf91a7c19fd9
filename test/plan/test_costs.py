"""Estimates of ``e2etts plan`` against what real systems have, do and take."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from e2etts.bench.batches import made_vocab
from e2etts.bin.main import main
from e2etts.config import build
from e2etts.nets import transformer
from e2etts.plan.costs import StageEstimator, part_costs, saved_bytes, shape_batch
from e2etts.plan.resources import Cluster, CorpusSize
from e2etts.plan.shapes import Shapes
from e2etts.recipe import RecipeConfig, load_recipe
from e2etts.tasks.build import build_task
from e2etts.train.checkpoint import save_checkpoint
from e2etts.train.states import States
from e2etts.train.step import Stepper

PAPER = Path(__file__).resolve().parents[2] / "egs/libritts/conf/paper.yaml"
TRUNK = {"dim": 32, "layers": 2, "heads": 2, "head_dim": 16, "hidden_dim": 48}
TRAIN = {"max_steps": 100, "batch_seconds": 24, "precision": "no"}
FIRST = {"task": "first_order", "trainable": ["tokenizer", "lm", "fm", "rm", "speaker"],
         "weights": {"lm": 0.1, "fm": 1, "coarse": 1, "ctc": 1, "speaker": 0.1}, "train": TRAIN}
CONFIG = {
    "corpus": {}, "audio": {"mel_bands": 20}, "vocoder": {"dim": 16, "layers": 1},
    "model": {"tokenizer": {"encoder": TRUNK, "q_dim": 16}, "lm": {"trunk": TRUNK},
              "fm": {"trunk": TRUNK, "encoder_layers": 1},
              "rm": {"trunk": TRUNK, "decoder_layers": 1}},
    "stages": {
        "vocoder": {"task": "vocoder", "weights": {"mel": 1}, "train": TRAIN},
        "tokenizer": FIRST,
        "lm": {**FIRST, "init": "tokenizer", "trainable": ["lm"], "weights": {"lm": 1}},
        "joint": {**FIRST, "task": "second_order", "init": "lm", "trainable": ["lm"],
                  "weights": {"ce": 1, "kl": 0.1, "fm": 1, "ctc": 1, "attention": 1}}}}
WORK = CorpusSize(hours=10, utterance_seconds=4, text_tokens_a_second=5)
VOCAB = made_vocab()


def recipe(**train) -> RecipeConfig:
    stages = {k: {**v, "train": {**TRAIN, **train}} for k, v in CONFIG["stages"].items()}
    return build(RecipeConfig, {**CONFIG, "stages": stages})


@pytest.fixture
def plain_kernels(monkeypatch):
    """The same products and norms on the CPU and on shapes: kernels differ between devices."""
    def attend(q, k, v, mask, causal):
        score = q @ k.transpose(-1, -2)
        if mask is not None:
            score = score.masked_fill(~mask, -1e9)
        return score.softmax(-1).to(v.dtype) @ v

    def norm(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)
    monkeypatch.setattr(transformer, "attend", attend)
    monkeypatch.setattr(transformer.RMSNorm, "forward", norm)


def real_batch(config, name, rows):
    g = torch.Generator().manual_seed(0)
    batch = shape_batch(config, name, WORK, rows)
    for key in ("mel", "reference_mel"):
        object.__setattr__(batch, key, torch.randn(getattr(batch, key).shape, generator=g))
    return batch


def test_parameters_are_those_of_the_real_system():
    config = recipe()
    system = build_task(config, "tokenizer", VOCAB).system
    counts = {n: sum(p.numel() for p in m.parameters()) for n, m in system.named_children()}
    vocoder = build_task(config, "vocoder", VOCAB).vocoder
    counts["vocoder"] = sum(p.numel() for p in vocoder.parameters())
    parts = part_costs(config, VOCAB, Cluster())
    assert {name: part.parameters for name, part in parts.items()} == counts
    for part in parts.values():  # gradients, two moments and the average are float32 too
        assert part.frozen_bytes >= 4 * part.parameters
        states = part.learning_bytes - part.frozen_bytes
        assert states == pytest.approx(16 * part.parameters, rel=0.05) and states % 4 == 0
    shared = part_costs(config, VOCAB, Cluster(gpus=4, sharding="full"))
    assert shared["lm"].learning_bytes == parts["lm"].learning_bytes / 4


def test_parts_that_no_stage_trains_have_weights_alone():
    config = recipe()
    del config.stages["tokenizer"], config.stages["joint"], config.stages["vocoder"]
    parts = part_costs(config, VOCAB, Cluster())
    assert list(parts) == ["tokenizer", "lm", "fm", "rm", "speaker"]
    assert [bool(part.learning_bytes) for part in parts.values()] == [
        False, True, False, False, False]


@pytest.mark.parametrize("name", ["tokenizer", "lm", "joint"])
def test_operations_are_those_of_a_real_step(plain_kernels, name):
    config = recipe(accumulation=3)
    cost = StageEstimator(config, name, VOCAB, WORK, Cluster()).cost()
    task = build_task(config, name, VOCAB).train()
    weights = config.stage(name).weights
    with FlopCounterMode(display=False) as counter:
        terms = task(real_batch(config, name, 6)).terms
        sum(weights[k] * v for k, v in terms.items()).backward()
    assert cost.flops == 3 * counter.get_total_flops() > 0
    assert cost.batch_seconds == 24


@pytest.mark.parametrize("train", [{}, {"optimizer": "muon"}, {"ema_decay": 0}])
@pytest.mark.parametrize("name", ["tokenizer", "joint"])
def test_states_are_those_of_a_real_step(name, train):
    config = recipe(**train)
    planned = StageEstimator(config, name, VOCAB, WORK, Cluster()).states
    task = build_task(config, name, VOCAB).train()
    stepper = Stepper(task, config.stage(name).train, config.stage(name).weights, Accelerator(), "")
    for parameter in stepper.trainable:
        parameter.grad = torch.ones_like(parameter)
    for optimizer in stepper.optimizers["main"]:
        optimizer.step()

    def size(tensors):
        return sum(t.numel() * t.element_size() for t in tensors)
    states = [s for o in stepper.optimizers["main"] for s in o.state.values()]
    assert planned == {
        "weights": size([*task.parameters(), *task.buffers()]),
        "gradients": size(p.grad for p in stepper.trainable),
        "EMA": size(stepper.ema.average),
        "optimiser": size(t for s in states for t in s.values() if torch.is_tensor(t))}


@pytest.mark.parametrize(("name", "health", "states"), [
    ("tokenizer", {}, 3), ("joint", {"spike": {"snapshot_every": 300}}, 4),
    ("lm", {"spike": {"action": "warn"}}, 2)])
def test_disk_is_that_of_the_files_that_are_written(tmp_path, name, health, states):
    config = recipe(health=health, keep_every=30)
    planned = StageEstimator(config, name, VOCAB, WORK, Cluster()).cost()
    task = build_task(config, name, VOCAB).train()
    stage = config.stage(name)
    stepper = Stepper(task, stage.train, stage.weights, Accelerator(), "")
    for parameter in stepper.trainable:
        parameter.grad = torch.ones_like(parameter)
    for optimizer in stepper.optimizers["main"]:
        optimizer.step()
    States(tmp_path / "state", task, stepper).save({}, {"step": 1}, ())
    save_checkpoint(tmp_path / "best", task.state_to_save(), {"step": 1})
    state, weights = ((tmp_path / file).stat().st_size for file in (
        "state/1.pt", "best/model.safetensors"))
    assert saved_bytes(task, stage.train) == pytest.approx(state, rel=0.06)
    assert planned.host_bytes == pytest.approx(weights, abs=30e3)
    want = states * saved_bytes(task, stage.train) + (2 + 1 + 3) * planned.host_bytes
    assert planned.disk_bytes == want and state > 300e3


def test_sharding_divides_states_and_data_parallel_training_needs_buckets():
    alone, parallel, sharded, whole = (
        StageEstimator(recipe(), "lm", VOCAB, WORK, Cluster(gpus=g, sharding=s)).states
        for g, s in ((1, "none"), (4, "none"), (4, "optimizer"), (4, "full")))
    assert parallel == {**alone, "buckets": alone["gradients"]}
    assert sharded == {**alone, "optimiser": alone["optimiser"] / 4}
    assert whole == {k: v / 4 for k, v in alone.items()}


def peak_bytes(step) -> int:
    """Most bytes that torch had allocated for ``step`` at a time, by its profiler."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU],
                                profile_memory=True) as profile:
        step()
    held = peak = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize(("name", "precision"), [
    ("tokenizer", "no"), ("tokenizer", "bf16"), ("joint", "bf16")])
def test_activations_are_what_a_real_step_takes_within_3_percent(plain_kernels, name, precision):
    config, rows = recipe(precision=precision), 20
    planned = StageEstimator(config, name, VOCAB, WORK, Cluster()).cost(rows)
    task = build_task(config, name, VOCAB).train()
    batch = real_batch(config, name, rows)
    for parameter in task.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            terms = task(batch).terms
        sum(v.float() for v in terms.values()).backward()
    measured = peak_bytes(step)
    assert measured > 10e6
    assert planned.memory_bytes["activations"] == pytest.approx(measured, rel=0.03)


def test_roll_outs_are_planned_at_their_greatest_length():
    """In each of the rows, with every value that the policy's gradient needs."""
    stage = {**CONFIG["stages"]["joint"], "task": "grpo", "weights": {"policy": 1}}
    costs = []
    for group in (2, 4):
        options = {"group": group, "sampling": {"min_ratio": 1.0, "max_ratio": 2.0}}
        config = build(RecipeConfig, {**CONFIG, "stages": {
            **CONFIG["stages"], "joint": {**stage, "options": options}}})
        cost = StageEstimator(config, "joint", VOCAB, CorpusSize(
            hours=10, utterance_seconds=4, text_tokens_a_second=2), Cluster()).cost(2)
        costs.append(cost.memory_bytes["activations"])
    # Four roll-outs of 16 tokens and an end, by the classes of the LM.
    assert costs[0] > 3 * 4 * 17 * 4096 and 1.6 < costs[1] / costs[0] < 2.1


def test_time_and_passes_follow_from_rate_and_corpus():
    cluster = Cluster(gpus=5, tflops=2.0, utilisation=0.25)
    cost = StageEstimator(recipe(), "lm", VOCAB, WORK, cluster).cost()
    assert cost.days == pytest.approx(100 * cost.flops / 0.5e12 / 86400)
    assert cost.passes == pytest.approx(100 * 5 * 24 / 36000)


def test_integers_keep_their_values_and_floats_have_none():
    with Shapes() as shapes:
        lens = torch.tensor([0, 1, 2, 3, 4]) + 2
        x = torch.zeros(5, 7)
        picked = x[torch.arange(7) < lens[:, None]]
        assert lens.tolist() == [2, 3, 4, 5, 6] and x.is_meta and picked.shape == (20,)
        assert x.argmax(-1).tolist() == [0] * 5 and (x * lens[:, None]).is_meta
        del picked
        assert shapes.live_bytes == 4 * 35 and shapes.peak_bytes >= 4 * 70


# The command

@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = {k: v for k, v in CONFIG["stages"].items() if k in ("vocoder", "lm")}
    stages["lm"] = {**stages["lm"], "init": None}
    Path("small.yaml").write_text(yaml.safe_dump({**CONFIG, "stages": stages}))
    return tmp_path


def plan(*arguments: str) -> int:
    return main(["plan", "small.yaml", "--hours", "10", "--text_vocab", "50", *arguments])


def test_the_table_has_every_stage(here, capsys):
    assert plan("stages.lm.train.max_steps=null", "stages.lm.train.max_minutes=5") == 0
    out = capsys.readouterr().out
    for start in ("| vocoder | 0.", "| all | ", "| tokenizer | 0.", "| lm | 0.0 "):
        assert start in out
    assert "| ? | ? | ? |" in out and "days in all, without stages that minutes bound" in out


def test_what_does_not_fit_is_refused_with_what_would(here, capsys):
    needs = StageEstimator(recipe(), "lm", VOCAB, WORK, Cluster()).cost(3).total_gib
    limit = ("--gpu_gib", f"{needs / 0.9:.5f}", "--utterance_seconds", "4",
             "--text_tokens_a_second", "5", "--speakers", "12")
    assert plan(*limit) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    fitting = float(said.partition("stages.lm.train.batch_seconds=")[2].split()[0])
    assert 8 <= fitting <= 16
    config = recipe(batch_seconds=fitting)
    fits = StageEstimator(config, "lm", VOCAB, WORK, Cluster()).cost().total_gib
    assert fits <= needs
    assert plan("--gpu_gib", "0.001") == 2
    assert "not even one utterance fits" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [("--gpus", "0"), ("--gpu_gib", "-1"), ("--hours", "0")])
def test_senseless_numbers_are_refused(here, capsys, wrong):
    assert plan(*wrong) == 2
    assert f"{wrong[0]} {float(wrong[1]):g}" in capsys.readouterr().err.replace(".0:", ":")


def test_the_papers_configuration_has_the_papers_sizes():
    config = load_recipe(PAPER)
    vocab = made_vocab()
    object.__setattr__(vocab, "text_size", config.text.vocab_size)
    counts = {name: part.parameters for name, part in part_costs(config, vocab, Cluster()).items()}
    for part, billions in (("tokenizer", 0.6), ("lm", 0.6), ("rm", 0.6), ("fm", 0.5)):
        assert counts[part] / 1e9 == pytest.approx(billions, rel=0.03), part
    first, second = config.stage("tokenizer").train, config.stage("lm").train
    assert (first.lr, first.warmup_steps, second.lr) == (1e-4, 25000, 1e-5)
    assert config.stage("tokenizer").pretrained_lm == config.text.published
