import itertools
import json
import os
import signal
import socket

import pytest
import torch
from toy import (
    Regression,
    TwoPhases,
    make_batch,
    make_trainer,
    records,
    shared_stream,
    stream,
    tensors_equal,
    train_as_rank,
)

from e2etts.errors import UserError
from e2etts.train.checkpoint import load_checkpoint
from e2etts.train.config import HealthConfig, SpikeConfig, TrainConfig
from e2etts.train.states import load_state


def constant_stream(cursor, *ranks):
    for n in itertools.count(cursor[1]):
        yield make_batch(3), (0, n + 1)


def interrupted(make_task, folder, at, **options):
    """Train until batch ``at`` was drawn, then be asked to stop."""
    def train(cursor, *ranks):
        return stream(cursor, on_batch=lambda n: setattr(trainer, "stop_requested", n >= at))

    trainer = make_trainer(make_task(), folder, train=train, **options)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()


def test_overfits_one_batch(tmp_path):
    trainer = make_trainer(Regression(noise=0.0, depth=64), tmp_path, train=constant_stream,
                           max_steps=150, lr=3e-2, weight_decay=0.0, validate_every=1000)
    summary = trainer.run()
    losses = [r["loss"] for r in records(tmp_path, "train")]
    assert losses[-1] < losses[0] / 10
    assert summary["steps"] == 150
    assert summary["audio_seconds"] == pytest.approx(150 * 4 * 8 / 50)
    assert 0 < summary["peak_gib"] < 8
    assert (tmp_path / "tb").is_dir()


def test_budget_in_audio_seconds_and_kept_checkpoints(tmp_path):
    summary = make_trainer(Regression(), tmp_path, max_steps=None, max_audio_seconds=4.5,
                           keep_every=3).run()  # a batch is 4 rows of 8 frames at 50 Hz
    assert summary["steps"] == 8 and summary["audio_seconds"] >= 4.5
    kept = [load_checkpoint(tmp_path / "kept" / step) for step in ("3", "6")]
    assert {p.name for p in (tmp_path / "kept").iterdir()} == {"3", "6"}
    assert kept[0][1]["step"] == 3 and 0 <= kept[0][1]["seconds"] <= kept[1][1]["seconds"]
    assert not tensors_equal(kept[0][0], kept[1][0])


@pytest.mark.parametrize("make_task", [Regression, TwoPhases])
@pytest.mark.parametrize("accumulation,at", [(1, 6), (3, 13)])
def test_resumed_run_equals_unbroken_run_bit_for_bit(tmp_path, make_task, accumulation, at):
    options = {"accumulation": accumulation}
    whole = make_trainer(make_task(), tmp_path / "whole", **options)
    whole.run()
    interrupted(make_task, tmp_path / "broken", at, **options)
    resumed = make_trainer(make_task(), tmp_path / "broken", **options)
    resumed.run()
    assert resumed.step == whole.step == 12
    a, _ = load_state(tmp_path / "whole/state")
    b, _ = load_state(tmp_path / "broken/state")
    assert tensors_equal(a["model"], b["model"])
    assert a["cursor"] == b["cursor"]
    for x, y in zip(a["ema"]["average"], b["ema"]["average"], strict=True):
        assert torch.equal(x, y)
    for name in ("best", "last"):
        x, y = (load_checkpoint(tmp_path / run / name) for run in ("whole", "broken"))
        assert tensors_equal(x[0], y[0])
        assert x[1]["step"] == y[1]["step"]
        assert x[1]["metrics"] == y[1]["metrics"]
    changing = ("seconds", "audio_seconds_per_second")
    logs = [[{k: v for k, v in r.items() if k not in changing}
             for r in records(tmp_path / run, "train")] for run in ("whole", "broken")]
    assert logs[0] == logs[1]


def test_saved_weights_are_the_average_and_state_holds_the_raw_ones(tmp_path):
    trainer = make_trainer(Regression(), tmp_path)
    trainer.run()
    last, meta = load_checkpoint(tmp_path / "last")
    assert torch.equal(last["net.0.weight"], trainer.ema.average[0])
    assert not torch.equal(last["net.0.weight"], trainer.task.net[0].weight)
    assert meta["step"] == 12


def test_accumulation_equals_one_large_batch(tmp_path):
    def halves(cursor, *ranks):
        for batch, at in stream(cursor, count=6):
            for i, rows in enumerate((slice(0, 2), slice(2, 4))):
                yield batch.select(rows), (at[0], 2 * at[1] + i)

    task = [Regression(noise=0.0) for _ in range(2)]
    make_trainer(task[0], tmp_path / "a", train=lambda c, *r: stream(c, count=6), max_steps=6).run()
    make_trainer(task[1], tmp_path / "b", train=halves, max_steps=6, accumulation=2).run()
    for a, b in zip(task[0].net.parameters(), task[1].net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_step_that_is_not_finite_is_skipped_and_counted(tmp_path):
    task = Regression()
    trainer = make_trainer(task, tmp_path,
                           train=lambda c, *r: stream(c, poison=lambda n: n in (2, 3)))
    summary = trainer.run()
    assert summary["skipped_steps"] == 2
    assert all(bool(v.isfinite().all()) for v in task.state_dict().values())
    skipped = records(tmp_path, "skipped")
    assert [r["step"] for r in skipped] == [2, 3]
    assert skipped[0]["loss"] is None and skipped[0]["utts"][0] == "utt9-0"
    assert records(tmp_path, "train")[-1]["skipped"] == 2


@pytest.mark.parametrize(("recoveries", "skipped"), [(0, 10), (2, 30)])
def test_ten_skipped_steps_in_a_row_are_an_error_naming_utterances(tmp_path, recoveries, skipped):
    health = HealthConfig(spike=SpikeConfig(recoveries=recoveries))
    trainer = make_trainer(Regression(), tmp_path, max_steps=100, health=health,
                           train=lambda c, *r: stream(c, poison=lambda n: n >= 3))
    with pytest.raises(UserError, match=r"10 steps in a row.*utt\d+-0.*after "
                                        rf"{recoveries} recoveries"):
        trainer.run()
    assert trainer.skipped == skipped


def test_validation_repeats_exactly_and_keeps_the_best(tmp_path):
    trainer = make_trainer(Regression(), tmp_path, validate_every=2)
    trainer.run()
    dev = records(tmp_path, "dev")
    assert [r["step"] for r in dev] == [2, 4, 6, 8, 10, 12]
    best = min(dev, key=lambda r: r["loss"])
    assert load_checkpoint(tmp_path / "best")[1]["step"] == best["step"]
    trainer.log.file = None
    trainer._validate()
    assert trainer.last_metrics["loss"] == pytest.approx(dev[-1]["loss"], abs=1e-6)


def test_finished_stage_says_so_and_a_longer_one_goes_on(tmp_path, capsys):
    first = make_trainer(Regression(), tmp_path).run()
    again = make_trainer(Regression(), tmp_path)
    assert again.run() == first
    assert "finished at step 12" in capsys.readouterr().out
    longer = make_trainer(Regression(), tmp_path, max_steps=15)
    assert longer.run()["steps"] == 15
    assert [r["step"] for r in records(tmp_path, "train")] == list(range(1, 16))
    with pytest.raises(UserError, match="max_steps: 15 != 12"):
        make_trainer(Regression(), tmp_path, max_steps=12).run()


def test_state_of_another_configuration_is_refused_with_the_keys(tmp_path):
    make_trainer(Regression(), tmp_path, identity={"model": {"dim": 4}}).run()
    with pytest.raises(UserError, match=r"model\.dim: 4 != 5; train\.lr: 0\.01 != 0\.5.*--tag"):
        make_trainer(Regression(), tmp_path, identity={"model": {"dim": 5}}, lr=0.5).run()


def test_time_limit_counts_the_earlier_part(tmp_path):
    summary = make_trainer(Regression(), tmp_path, max_steps=None, max_minutes=0.02).run()
    assert 1.2 <= summary["seconds"] < 3
    again = make_trainer(Regression(), tmp_path, max_steps=None, max_minutes=0.03).run()
    assert 1.8 <= again["seconds"] < 4
    assert again["steps"] > summary["steps"]


def test_limit_is_required_and_loss_without_weight_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="max_minutes"):
        TrainConfig()
    with pytest.raises(UserError, match="no weight for the loss 'error'"):
        make_trainer(Regression(), tmp_path, weights={"other": 1.0}).run()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("make_task", [Regression, TwoPhases])
def test_half_precision_trains(tmp_path, precision, make_task):
    trainer = make_trainer(make_task(), tmp_path, precision=precision,
                           train=constant_stream, max_steps=40)
    trainer.run()
    losses = [r["loss"] for r in records(tmp_path, "train")]
    assert losses[-1] < losses[0] and trainer.skipped < 10
    assert all(p.dtype == torch.float32 for p in trainer.task.parameters())


def test_two_processes_equal_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(train_as_rank, (str(tmp_path), port), nprocs=2,
                                          start_method="fork")
    task = Regression(noise=0.0)
    make_trainer(task, tmp_path / "alone", train=shared_stream).run()
    together, meta = load_checkpoint(tmp_path / "one/last")
    alone, alone_meta = load_checkpoint(tmp_path / "alone/last")
    for name in ("net.0.weight", "net.2.bias"):
        torch.testing.assert_close(together[name], alone[name], rtol=1e-4, atol=1e-6)
    assert meta["metrics"]["loss"] == pytest.approx(alone_meta["metrics"]["loss"], rel=1e-4)
    summaries = [json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "alone")]
    assert summaries[0]["audio_seconds"] == summaries[1]["audio_seconds"]
    assert records(tmp_path / "two", "train")[-1]["critic"] > 0
    # The gradient of a mean over half of the rows is larger by the root of two.
    assert records(tmp_path / "seam", "train")[0]["q_grad_error"] == pytest.approx(2 / 48 ** 0.5)
    summary = json.loads((tmp_path / "spike/summary.json").read_text())
    assert len(summary["recoveries"]) == 1
    ranks = [torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1)]
    assert tensors_equal(*ranks)


def test_sigterm_saves_and_the_run_goes_on(tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)

    def train(cursor, *ranks):
        return stream(cursor, on_batch=lambda n: n == 5 and [
            os.kill(os.getpid(), signal.SIGTERM) for _ in range(2)])  # as timeout(1) does

    with pytest.raises(KeyboardInterrupt):
        make_trainer(Regression(), tmp_path, train=train).run()
    assert signal.getsignal(signal.SIGTERM) is before
    assert load_state(tmp_path / "state")[1]["step"] == 6
    assert load_checkpoint(tmp_path / "last")[1]["step"] == 6
    assert not (tmp_path / "summary.json").exists()
    assert make_trainer(Regression(), tmp_path).run()["steps"] == 12
    assert "going on from step 6" in capsys.readouterr().out


def test_stop_during_validation_is_made_up_for(tmp_path):
    def stopping():
        yield make_batch(1000)
        trainer.stop_requested = trainer.step == 8
        yield make_batch(1001)

    trainer = make_trainer(Regression(), tmp_path)
    trainer.evaluator.batches = stopping
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert load_state(tmp_path / "state")[1]["step"] == 8
    assert [r["step"] for r in records(tmp_path, "dev")] == [4]
    make_trainer(Regression(), tmp_path).run()
    assert [r["step"] for r in records(tmp_path, "dev")] == [4, 8, 12]
    whole = tmp_path / "whole"
    make_trainer(Regression(), whole).run()
    assert [r["loss"] for r in records(whole, "dev")] == [
        r["loss"] for r in records(tmp_path, "dev")]


def test_run_killed_between_saves_repeats_the_lost_steps(tmp_path):
    def train(cursor, *ranks):
        return stream(cursor, on_batch=lambda n: 1 / (n != 8))

    with pytest.raises(ZeroDivisionError):
        make_trainer(Regression(), tmp_path, train=train, save_every=5).run()
    assert records(tmp_path, "train")[-1]["step"] == 8
    make_trainer(Regression(), tmp_path, save_every=5).run()
    assert [r["step"] for r in records(tmp_path, "train")] == list(range(1, 13))
    assert [r["step"] for r in records(tmp_path, "dev")] == [4, 8, 12]


def test_damaged_state_names_the_remedy(tmp_path):
    make_trainer(Regression(), tmp_path).run()
    (tmp_path / "state/12.pt").write_bytes(b"not a state")
    with pytest.raises(UserError, match="state: cannot resume .*delete this folder"):
        make_trainer(Regression(), tmp_path).run()


def test_phase_without_parameters_is_an_error(tmp_path):
    with pytest.raises(UserError, match="phase 'main' has no trainable parameters"):
        make_trainer(Regression().requires_grad_(False), tmp_path)
