import json

import pytest
import torch

from e2etts.train.logging import Means, RunLog


def test_weighted_means_and_joining():
    means = Means()
    means.add({"a": torch.tensor(1.0), "b": 5.0}, weight=1.0)
    means.add({"a": torch.tensor(4.0)}, weight=3.0)
    joined = Means.joined([means.plain(), ({"a": 8.0}, {"a": 4.0})])
    assert means.take() == {"a": 3.25, "b": 5.0}
    assert means.take() == {}
    assert joined.take() == {"a": pytest.approx((13 + 8) / 8), "b": 5.0}


def test_records_after_the_resumed_step_and_partial_lines_are_dropped(tmp_path):
    log = RunLog(tmp_path, "stage")
    for step in (1, 2, 3):
        log.write(step, 0.5, "train", {"loss": 1.0 / step, "odd": float("nan")})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as f:
        f.write('{"step": 4, "lo')
    log = RunLog(tmp_path, "stage", step=2)
    log.write(3, 1.5, "skipped", {"loss": float("inf")}, utts=["a"])
    log.show(0.5, 3, {"loss": 1.0}, 20.0, 61.0)
    log.close()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [1, 2, 3]
    assert records[0] == {"step": 1, "seconds": 0.5, "split": "train", "loss": 1.0, "odd": None}
    assert records[2] == {"step": 3, "seconds": 1.5, "split": "skipped", "loss": None,
                          "utts": ["a"]}


def test_progress_of_a_resumed_run_is_shown_from_its_first_steps_on(tmp_path, capsys):
    log = RunLog(tmp_path, "stage", step=80)
    log.bar.mininterval = 0.0
    for step in (81, 82, 83):
        log.show(step / 100, step, {"loss": 1.0}, 20.0, 61.0)
    log.close()
    drawn = capsys.readouterr().err
    assert all(f"step {step} " in drawn for step in (81, 82, 83))


def test_silent_process_writes_nothing(tmp_path):
    log = RunLog(None, "stage")
    log.write(1, 0.0, "train", {"loss": 1.0})
    log.show(0.5, 1, {}, 1.0, 1.0)
    log.say("text")
    log.close()
    assert list(tmp_path.iterdir()) == []
