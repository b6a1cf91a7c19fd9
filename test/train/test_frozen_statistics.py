"""The statistics of FSQ freeze at a point of training that the loop knows and the net does not."""

import itertools

import pytest
from tiny import make_batch, make_system
from toy import tensors_equal

from e2etts.tasks.first_order import FirstOrderOptions, FirstOrderTask
from e2etts.train.config import TrainConfig
from e2etts.train.loop import Trainer

WEIGHTS = {"ctc": 1.0, "coarse": 1.0}


def make_trainer(folder, on_batch=lambda n: None) -> Trainer:
    def batches(cursor, *ranks):
        for n in itertools.count(cursor[1]):
            on_batch(n)
            yield make_batch(n), (0, n + 1)
    task = FirstOrderTask(make_system(), FirstOrderOptions(frozen_statistics=0.5), set(WEIGHTS))
    config = TrainConfig(lr=1e-2, warmup_steps=3, max_steps=12, precision="no", log_every=1,
                         validate_every=4, save_every=100, ema_decay=0.9)
    return Trainer(task, config, folder=folder, train=batches, dev=lambda: [make_batch(100)],
                   weights=WEIGHTS, frame_rate_hz=50.0)


@pytest.mark.parametrize("at", [3, 8])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path, at):
    whole = make_trainer(tmp_path / "whole")
    whole.run()
    broken = make_trainer(tmp_path / "broken",
                          lambda n: setattr(broken, "stop_requested", n >= at))
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = make_trainer(tmp_path / "broken")
    resumed.run()
    assert resumed.step == whole.step == 12
    assert whole.task.system.tokenizer.fsq.updates == 6
    assert tensors_equal(whole.task.state_dict(), resumed.task.state_dict())
