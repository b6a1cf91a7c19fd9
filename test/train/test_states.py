"""Training states on disk: what is kept, what an interrupted write leaves, and what they hold."""

import json
import time
from fractions import Fraction

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from toy import Regression, make_trainer, quick_spikes, records, stream, tensors_equal

from e2etts.errors import UserError
from e2etts.train import states
from e2etts.train.config import SpikeConfig, TrainConfig
from e2etts.train.recovery import Recovery
from e2etts.train.states import load_snapshot, load_state, save_state
from e2etts.train.step import Stepper

SPIKE = {"max_steps": 70, "health": quick_spikes()}


def files(folder) -> set[str]:
    return {p.name for p in (folder / "state").iterdir()}


def state_of(number: int) -> dict:
    return {"model": {"a": torch.full((2,), float(number))}, "step": number}


def test_states_that_are_needed_stay_and_others_go(tmp_path):
    folder = tmp_path / "state"
    assert load_state(folder) is None
    for step, needed in ((0, [0]), (10, [0, 10]), (15, [0, 10]), (20, [10, 20])):
        save_state(folder, state_of(step), {"step": step, "seconds": 1.0}, needed)
        assert files(tmp_path) == {"meta.json", *(f"{s}.pt" for s in {step, *needed})}
        state, meta = load_state(folder)
        assert (state["step"], meta["step"], meta["format"]) == (step, step, states.FORMAT)
    assert load_snapshot(folder, 10)["model"]["a"].tolist() == [10, 10]


def test_a_write_that_is_cut_off_does_no_harm(tmp_path, monkeypatch):
    """Before its file is whole, and before meta.json names it."""
    folder = tmp_path / "state"
    save_state(folder, state_of(4), {"step": 4}, [4])

    def halves(state, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt
    for module, name, fails in ((torch, "save", halves), (states, "write_text", halves)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda a, b, fails=fails: fails(a, folder / "8.part"))
            with pytest.raises(KeyboardInterrupt):
                save_state(folder, state_of(8), {"step": 8}, [4, 8])
        assert load_state(folder)[0]["step"] == 4 and "8.part" in files(tmp_path)
    save_state(folder, state_of(9), {"step": 9}, [4, 9])
    assert files(tmp_path) == {"meta.json", "4.pt", "9.pt"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"),
                                   RuntimeError("unexpected pos 64 vs 0")])
def test_a_full_disk_is_one_line_and_leaves_the_former_state(tmp_path, monkeypatch, error):
    folder = tmp_path / "state"
    save_state(folder, state_of(4), {"step": 4})

    def full(state, path):
        path.write_bytes(b"half")
        raise error
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"8\.pt: cannot write: .*free space") as e:
        save_state(folder, state_of(8), {"step": 8})
    assert "\n" not in str(e.value)
    assert load_state(folder)[0]["step"] == 4 and files(tmp_path) == {"meta.json", "4.pt"}


def test_state_holds_no_code(tmp_path):
    folder = tmp_path / "state"
    save_state(folder, {"cursor": (1, 2)}, {"step": 4})
    assert load_state(folder)[0]["cursor"] == (1, 2)
    torch.save({"hook": Fraction(1, 2)}, folder / "4.pt")
    with pytest.raises(UserError, match="cannot resume"):
        load_state(folder)
    (folder / "meta.json").write_text(json.dumps({"format": 99, "step": 4}))
    with pytest.raises(UserError, match="format 99, this program reads 4"):
        load_state(folder)


class HalfFrozen(Regression):
    """Its first layer does not learn."""

    def __init__(self):
        super().__init__(depth=64)
        self.net[0].requires_grad_(False)
        self.copy = nn.Linear(64, 64).requires_grad_(False)


def stopped(folder, at: int, error=KeyboardInterrupt, task=HalfFrozen, **options):
    """A run that is asked to stop, or fails, when batch ``at`` is drawn."""
    def train(cursor, *ranks):
        return stream(cursor, on_batch=lambda n: ask(n))

    def ask(n):
        if n >= at and error is KeyboardInterrupt:
            trainer.stop_requested = True
        elif n >= at:
            raise error
    trainer = make_trainer(task(), folder, train=train, **options)
    with pytest.raises(error):
        trainer.run()


def test_frozen_weights_are_not_saved_and_the_run_goes_on_as_if_unbroken(tmp_path):
    make_trainer(HalfFrozen(), tmp_path / "whole").run()
    stopped(tmp_path / "broken", 6)
    state = load_state(tmp_path / "broken/state")[0]
    assert "norm.running_mean" in state["model"]
    assert {k.rpartition(".")[0] for k in state["model"]} == {"net.2", "norm"}
    make_trainer(HalfFrozen(), tmp_path / "broken").run()
    a, b = (load_state(tmp_path / run / "state")[0] for run in ("whole", "broken"))
    assert tensors_equal(a["model"], b["model"])


def test_a_run_that_dies_goes_on_from_the_last_snapshot(tmp_path):
    """Not from the last save: what it repeats is what the snapshots are apart."""
    make_trainer(HalfFrozen(), tmp_path / "whole", **SPIKE).run()
    stopped(tmp_path / "broken", 37, ZeroDivisionError, **SPIKE)
    assert files(tmp_path / "broken") == {"meta.json", "24.pt", "32.pt"}
    resumed = make_trainer(HalfFrozen(), tmp_path / "broken", **SPIKE)
    resumed.resume()
    assert resumed.step == 32 and resumed.recovery.snapshots == [24, 32]
    resumed.run()
    assert [r["step"] for r in records(tmp_path / "broken", "train")] == list(range(1, 71))
    assert files(tmp_path / "broken") == {"meta.json", "70.pt"}  # no snapshots of a finished run
    a, b = (load_state(tmp_path / run / "state")[0] for run in ("whole", "broken"))
    assert tensors_equal(a["model"], b["model"]) and a["recovery"] == b["recovery"]


def test_a_save_between_snapshots_keeps_both(tmp_path):
    stopped(tmp_path, 36, **SPIKE)
    assert files(tmp_path) == {"meta.json", "24.pt", "32.pt", "37.pt"}
    stopped(tmp_path, 42, **SPIKE)
    assert files(tmp_path) == {"meta.json", "32.pt", "40.pt", "43.pt"}


def make_old(folder):
    """The state in ``folder`` as versions before format 4 wrote it."""
    path = folder / "state"
    state, meta = load_state(path)
    task = HalfFrozen()
    old = {**state, "model": {**task.state_dict(), **state["model"]}, "recovery": {
        "copies": [{"model": task.state_dict(), "step": 1}], "done": [], "history": {}}}
    for file in path.glob("*.pt"):
        file.unlink()
    torch.save(old, path / "state.pt")
    (path / "meta.json").write_text(json.dumps({**meta, "format": 3}))


def test_states_of_earlier_versions_are_read(tmp_path, capsys):
    make_trainer(HalfFrozen(), tmp_path / "whole").run()
    stopped(tmp_path / "broken", 6)
    make_old(tmp_path / "broken")
    make_trainer(HalfFrozen(), tmp_path / "broken").run()
    assert "going on from step 7" in capsys.readouterr().out
    assert files(tmp_path / "broken") == {"meta.json", "12.pt"}
    a, b = (load_state(tmp_path / run / "state")[0] for run in ("whole", "broken"))
    assert tensors_equal(a["model"], b["model"])
    make_old(tmp_path / "broken")
    make_trainer(HalfFrozen(), tmp_path / "broken").run()
    assert "finished at step 12, nothing to do" in capsys.readouterr().out


def make_recovery(**changes) -> Recovery:
    task = Regression()
    config = TrainConfig(max_steps=1, precision="no")
    return Recovery(SpikeConfig(snapshot_every=10, **changes), task,
                    Stepper(task, config, {"error": 1.0}, Accelerator(), "train"))


def test_snapshots_are_spaced_where_writing_takes_long():
    recovery = make_recovery()
    assert recovery.due(3)  # the first one, wherever a run begins
    recovery.keep(3)
    recovery.note_writing(1e-9)
    assert recovery.due(10) and not recovery.due(11) and not recovery.due(3)
    recovery.note_writing(60.0)  # a minute: a hundred must pass
    assert not recovery.due(10) and recovery.due(10, saving=True)
    recovery.written = time.perf_counter() - 5990
    assert not recovery.due(10)
    recovery.written -= 20
    assert recovery.due(10)
    for step in (10, 20):
        recovery.keep(step)
    assert recovery.snapshots == [10, 20]
    recovery.end()
    assert not recovery.due(30) and recovery.snapshots == []
    always, never = make_recovery(snapshot_share=1.0), make_recovery(action="warn")
    always.keep(0)
    always.note_writing(60.0)
    assert always.due(10) and not never.due(0) and not never.due(10, saving=True)
