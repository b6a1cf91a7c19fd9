"""The benchmark counts, alternates and compares as it says. Speeds themselves are not tested."""

import itertools
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from e2etts.bench import peers, steps, suite, timing
from e2etts.bench.batches import made_batches
from e2etts.bench.peers import PAIRS, Pair
from e2etts.bench.steps import counted_work, net_step, stage_step
from e2etts.bin.main import main
from e2etts.errors import UserError
from e2etts.nets.transformer import Transformer
from e2etts.recipe import load_recipe

CONF = Path(__file__).resolve().parents[2] / "egs/mini/conf"
SMALL = [f"stages.{name}.train.batch_seconds=12"
         for name in ("vocoder", "tokenizer", "lm", "fm", "rm", "joint")]


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(CONF / "smoke.yaml", SMALL)


def quiet(_):
    pass


def test_cases_take_turns_and_short_ones_are_repeated(monkeypatch):
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.02)
    calls: list[str] = []

    def case(name, seconds):
        calls.append(name)
        time.sleep(seconds)
    timings = timing.in_turns({"long": lambda: case("long", 0.03),
                               "short": lambda: case("short", 0.002)}, 3, quiet)
    turns = [name for name, _ in itertools.groupby(calls)]
    assert turns == ["long", "short"] * 4
    assert calls.count("long") == 2 + 3  # once more in the warm-up
    assert calls.count("short") >= 2 + 3 * 5
    assert 0.002 <= timings["short"].median < 0.02 <= timings["long"].median
    for t in timings.values():
        assert 0 <= t.least <= t.median <= t.most


def test_flops_of_a_step_by_hand():
    net = torch.nn.Linear(8, 4, bias=False)
    x = torch.randn(16, 8)
    # Forward and weight gradient: x needs no gradient of its own.
    step = net_step(net, lambda: net(x).square().mean())
    assert counted_work(step).flops == 2 * 2 * 16 * 8 * 4
    before = net.weight.detach().clone()
    step()
    assert not torch.equal(before, net.weight)


def test_traffic_counts_what_other_operations_read_and_write():
    a, b = torch.randn(16, 8), torch.randn(8, 4)
    work = counted_work(lambda: (a @ b).t().view(4, 2, 8).relu_().add(1.0))
    assert work.flops == 2 * 16 * 8 * 4
    assert work.traffic_bytes == 4 * 16 * 4 * (2 + 2)  # relu_ and add, each read and write


def test_products_are_timed_alone_with_their_own_shapes(monkeypatch):
    a, b, called = torch.randn(16, 8), torch.randn(4, 8), []

    def timed(run, repeats):
        called.append(run())
        return 1.5
    monkeypatch.setattr(steps, "median_seconds", timed)
    work = counted_work(lambda: [a @ b.t(), (a + 1) @ b.t(), torch.addmm(a, a, a[:8])])
    assert sorted(work.products.values()) == [1, 2]  # the same shapes and strides: timed once
    assert work.products_seconds() == 3 * 1.5
    assert sorted(x.shape for x in called) == [(16, 4), (16, 8)]


def test_made_batches_are_those_of_the_stages_sampler(recipe):
    batches, padding = made_batches(recipe, "tokenizer", 2)
    assert len(batches) == 2 and 0 <= padding < 0.2
    for b in batches:
        assert b.mel.shape[:2] == (len(b.utts), int(b.mel_lens.max()))
        assert b.mel.shape[0] * b.mel.shape[1] <= 12 * recipe.audio.frame_rate_hz
        assert (b.mel_lens % recipe.audio.frames_per_token == 0).all()
        assert b.text.shape[1] == b.text_lens.max()


def test_padding_of_the_default_joint_step_is_under_six_per_cent():
    assert made_batches(load_recipe(CONF / "default.yaml"), "tokenizer", 1)[1] < 0.06


def test_larger_configuration_has_about_fifty_million_parameters():
    case = stage_step(load_recipe(CONF / "larger.yaml", SMALL), "tokenizer", batches=1)
    assert 45e6 < case.parameters < 60e6


def test_measured_whole_and_a_missing_peer_is_reported(recipe, monkeypatch):
    def absent(_):
        raise ImportError("No module named 'nowhere'")
    monkeypatch.setitem(PAIRS, "fm_step", (absent, "nobody", "pip install nowhere"))
    results = suite.run_suite({"smoke": recipe}, 1, {"steps", "peers", "synthesis"},
                          ["fm_step", "log_mel_torchaudio", "input_pipeline"], quiet)
    assert set(results["steps"]) == {f"smoke/{s}" for s in suite.STEPS}
    assert all(0 < share < 1 for share in results["share_of_limit"].values())
    assert set(results["ratios"]) == {"log_mel_torchaudio", "input_pipeline"}
    assert "nowhere" in results["missing"]["fm_step"]
    assert all(r > 0 for r in results["ratios"].values())
    for batch in ("1", "16"):
        r = results["rtf"][batch]
        assert r["first_audio_seconds"] >= sum(r["parts"].values()) > 0
        assert r["rtf"] == pytest.approx(r["first_audio_seconds"] / (int(batch) * 3.0))
    text = suite.suite_table(results)
    assert "missing: fm_step: nobody" in text and "| smoke/joint |" in text


@pytest.mark.parametrize("name", ["encoder_step", "lm_step", "lm_decode_1", "fm_step", "vocoder",
                                  "log_mel_librosa", "joint_step"])
def test_peers_that_are_installed_run_on_the_same_shapes(recipe, name):
    try:
        pair = PAIRS[name][0](recipe)
    except ImportError as e:
        pytest.skip(f"{PAIRS[name][1]} is not installed: {e}")
    assert isinstance(pair, Pair)
    pair.ours()
    pair.theirs()


def test_peers_have_as_many_parameters(recipe):
    pytest.importorskip("transformers")
    trunk = replace(recipe.model.lm.trunk, layers=3)
    ours = sum(p.numel() for p in Transformer(trunk, causal=False).parameters())
    encoder, _ = peers.whisper(trunk, 80, 2, 10)
    assert sum(p.numel() for p in encoder.layers.parameters()) == pytest.approx(ours, rel=0.05)
    theirs = peers.qwen3(trunk, 30).model
    assert sum(p.numel() for p in theirs.parameters()) - 30 * trunk.dim == ours


def test_bad_requests_name_themselves(capsys, monkeypatch):
    monkeypatch.chdir(CONF.parent)
    with pytest.raises(UserError, match="no part 'step' to measure"):
        suite.run_suite({}, 1, {"step"}, [], quiet)
    with pytest.raises(UserError, match="no comparison 'lm' to measure; there are: joint_step"):
        suite.run_suite({}, 1, {"peers"}, ["lm"], quiet)
    assert main(["bench", "--rounds", "0"]) == 2
    assert main(["bench", "--floor", "lm_step"]) == 2
    assert "expected NAME=RATIO" in capsys.readouterr().err


def test_a_ratio_below_its_floor_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(CONF.parent)
    call = ["bench", "--config", "conf/smoke.yaml", "--part", "peers", "--pair",
            "log_mel_torchaudio", "--rounds", "1", "--out", str(tmp_path / "b.json")]
    assert main([*call, "--floor", "log_mel_torchaudio=0.001"]) == 0
    assert "log_mel_torchaudio" in (tmp_path / "b.json").read_text()
    with pytest.raises(SystemExit) as stop:
        main([*call, "--floor", "log_mel_torchaudio=1000"])
    assert stop.value.code == 1 and "floor 1000" in capsys.readouterr().err
    assert main([*call, "--floor", "lm_step=1"]) == 2
