import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_experiment import ABLATION, Stand, make_experiment, make_folder

from e2etts.ablation.experiment import load_experiment
from e2etts.ablation.session import Session, TimeIsUp, in_process_of_its_own, locked
from e2etts.ablation.store import Results, Store, experiment_status
from e2etts.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Killed(BaseException):
    """The process ends here, wherever it is."""


def session(experiment, stand, published=None, **options):
    store = Store("abl")
    results = Results(store.root / "ablation.json")
    publish = (lambda: None) if published is None else lambda: published.append(len(results.runs))
    return Session(experiment, store, results, call=stand, publish=publish, say=lambda text: None,
                   **options)


def test_everything_is_done_once_and_published_as_it_comes(here):
    experiment, published = make_experiment(here), []
    stand = Stand(experiment)
    session(experiment, stand, published).go()
    trained = [tuple(c[1:3]) for c in stand.calls if c[0] == "train"]
    assert len(trained) == len(experiment.units)
    assert trained.count(("vocoder", "seed=5")) == 1 and trained.count(("joint", "seed=1")) == 1
    assert published == [1, 2, 3, 4, 5, 6]
    stored = json.loads((here / "exp/abl/ablation.json").read_text())
    record = stored["runs"]["stage3-seed1"]
    assert record["train_seconds"] == 30.0 and len(record["units"]) == 4
    assert record["scores"]["tts"]["test_en"]["edits"] == [1, 1]
    assert stored["facts"]["recordings"]["test_en"]["words"] == [10, 10]
    two, three = (next(r for r in experiment.runs if r.name == f"{name}-seed0")
                  for name in ("stage2", "stage3"))
    lm = Store("abl").unit(two.units[2])
    assert lm == Store("abl").unit(three.units[2]) and lm.name == "lm"
    assert {p.name for p in lm.iterdir()} == {"best", "summary.json"}
    assert f"stages.joint.init={lm}" in Store("abl").sources(three, three.units[3])
    assert (here / "exp/abl/runs/stage2-seed0/probe.json").is_file()
    assert not [p for p in (here / "exp").rglob("*") if p.is_symlink()]
    again = Stand(experiment)
    session(experiment, again).go()
    assert again.calls == []


def test_a_part_of_the_runs_leaves_what_the_whole_would_not_do_again(here):
    experiment = make_experiment(here, seeds=[0, 1])
    part = Stand(experiment)
    session(experiment.only(["stage2-seed1"]), part).go()
    assert [c[1:3] for c in part.calls if c[0] == "train"] == [
        ["vocoder", "seed=5"], ["tokenizer", "seed=1"], ["lm", "seed=1"]]
    whole = Stand(experiment)
    session(experiment, whole).go()
    trained = [c for c in part.calls + whole.calls if c[0] == "train"]
    assert len(trained) == len(experiment.units)
    assert sum(c[0] == "score" for c in part.calls + whole.calls) == len(experiment.runs)


def test_killed_at_any_command_it_resumes_and_repeats_only_that(here):
    experiment, calls = make_experiment(here, seeds=[0]), []
    for _ in range(100):
        # Each session is killed in its second command.
        def kill(words, count=[]):  # noqa: B006
            count.append(1)
            if len(count) % 2 == 0:
                raise Killed
        stand = Stand(experiment, kill)
        try:
            session(experiment, stand).go()
        except Killed:
            calls += stand.calls[:-1]  # what was finished
            continue
        calls += stand.calls
        break
    assert len([c for c in calls if c[0] == "train"]) == len(experiment.units) == 6
    assert len(Results(Path("exp/abl/ablation.json")).runs) == 3


def test_changed_settings_train_and_measure_only_what_they_decide(here):
    path = make_folder(here)
    experiment = load_experiment(path)
    session(experiment, Stand(experiment)).go()
    wav = here / "exp/abl/runs/stage3-seed0/wavs"
    wav.mkdir()
    changed = load_experiment(path, ["stages.joint.train.lr=0.5"])
    assert Results(here / "exp/abl/ablation.json").outdated(changed) == [
        "stage3-seed0", "stage3-seed1"]
    stand = Stand(changed)
    session(changed, stand).go()
    assert [c[:2] for c in stand.calls if c[0] == "train"] == 2 * [["train", "joint"]]
    assert not wav.exists()  # spoken by another system


def test_results_alone_are_enough_to_resume(here):
    """A checkout brings ablation.json, not exp/: what is measured is not trained again."""
    experiment = make_experiment(here)
    session(experiment, Stand(experiment)).go()
    kept = (here / "exp/abl/ablation.json").read_text()
    subprocess.run(["rm", "-r", "exp"], check=True)
    (here / "exp/abl").mkdir(parents=True)
    (here / "exp/abl/ablation.json").write_text(kept)
    more = load_experiment(make_folder(here, {**ABLATION, "seeds": [0, 1, 2]}))
    stand = Stand(more)
    session(more, stand).go()
    assert {c[2] for c in stand.calls if c[0] == "train"} == {"seed=2", "seed=5"}


def test_time_ends_training_at_a_checkpoint_and_nothing_else(here, monkeypatch):
    experiment, asked, clock = make_experiment(here), [], [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def note(words):
        asked.append(words[0])
        if words[0] == "train" and len(asked) == 3:
            clock[0] += 3600  # the end comes while the third command trains
            return 130

    stand = Stand(experiment, note)
    with pytest.raises(TimeIsUp):
        session(experiment, stand, hours=1).go()
    assert asked == ["train"] * 3
    with pytest.raises(KeyboardInterrupt):  # asked to stop before its time
        session(experiment, Stand(experiment, lambda words: 130), hours=1).go()
    with pytest.raises(TimeIsUp):
        session(experiment, Stand(experiment), hours=0).go()


def test_what_fails_does_not_stop_the_others(here):
    experiment = make_experiment(here, seeds=[0])
    stand = Stand(experiment, lambda words: 2 if words[:2] == ["train", "joint"] else 0)
    with pytest.raises(UserError, match="1 runs have failed: stage3-seed0"):
        session(experiment, stand).go()
    assert set(Results(here / "exp/abl/ablation.json").runs) == {"cascade-seed0", "stage2-seed0"}
    stand = Stand(experiment, lambda words: 2 if words[:2] == ["train", "tokenizer"] else 0)
    fresh = make_experiment(here, seeds=[3])
    with pytest.raises(UserError, match="3 runs have failed"):
        session(fresh, Stand(fresh, stand.on_call)).go()


def test_runs_scored_by_another_recogniser_are_not_mixed(here):
    experiment = make_experiment(here, seeds=[0])
    stand = Stand(experiment, lambda words: 130 if words[:2] == ["train", "joint"] else 0)
    with pytest.raises(KeyboardInterrupt):
        session(experiment, stand).go()
    deaf = Stand(experiment)
    deaf.ear = "another ear"
    with pytest.raises(UserError, match="stage3-seed0"):
        session(experiment, deaf).go()
    assert len(Results(here / "exp/abl/ablation.json").runs) == 2
    again = Stand(experiment)
    session(experiment, again).go()
    assert again.calls == [["score"]]


def test_status_tells_done_from_left(here):
    experiment = make_experiment(here, seeds=[0, 1])
    stand = Stand(experiment, lambda words: 130 if words[1:3] == ["joint", "seed=0"] else 0)
    with pytest.raises(KeyboardInterrupt):
        session(experiment, stand).go()
    store, results = Store("abl"), Results(here / "exp/abl/ablation.json")
    said = experiment_status(experiment, store, results, None)
    assert "2 of 6 runs measured" in said and said.count("done in 10.0 s") == 5
    stages = said.splitlines()[1:12]
    assert [s.split("  ")[-1] for s in stages[:4]] == ["all", "cascade", "cascade",
                                                       "stage2, stage3"]
    # 600 s of audio at 60 a second, known from the other seed; the joint stage is known of none.
    assert said.count("about 10.0 s left") == 4 and said.count("time unknown") == 2
    scored = here / "scored.json"
    scored.write_text(json.dumps({
        "training": {"joint": {"audio_seconds": 400, "seconds": 10}}, "expected": 10,
        "stages": [{"name": "synthesize", "seconds": 6}, {"name": "score", "seconds": 4}]}))
    said = experiment_status(experiment, store, results, scored)
    # 4 units of 10 s, 2 of 15 s, and 4 runs of 6 clips at 1 s
    assert "unknown" not in said and "about 1 min 34 s left" in said


def test_the_lock_is_held_by_commands_that_outlive_the_session(here):
    with locked(here / "exp"), pytest.raises(UserError, match=f"processes {os.getpid()}"), \
            locked(here / "exp"):
        pass
    program = (
        "from pathlib import Path; import subprocess, sys\n"
        "from e2etts.ablation import session\n"
        "session.sys = type('s', (), {'executable': sys.executable})\n"
        "real = subprocess.Popen\n"
        "session.subprocess.Popen = lambda c, **k: real([sys.executable, '-c', "
        "'import time; time.sleep(30)'], **k)\n"
        "with session.locked(Path('exp')) as lock:\n"
        "    session.in_process_of_its_own(lock)(['train'], None)\n")
    path = here / "exp/lock"
    parent = subprocess.Popen([sys.executable, "-c", program])
    for _ in range(200):
        time.sleep(0.05)
        pids = path.read_text().split()
        if len(pids) == 2 and pids[0] == str(parent.pid):
            break
    parent.kill()
    parent.wait()
    with pytest.raises(UserError, match="left behind"), locked(here / "exp"):
        pass
    os.kill(int(pids[1]), signal.SIGKILL)
    for _ in range(100):
        try:
            with locked(here / "exp"):
                return
        except UserError:
            time.sleep(0.05)
    pytest.fail("the lock outlives all of its processes")


def test_a_command_is_stopped_when_time_is_up(here, monkeypatch):
    program = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit(7))\n" \
              "print('ready', flush=True)\ntime.sleep(30)"
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: real(
        [sys.executable, "-c", program], **options))
    begin = time.monotonic()
    with locked(here / "exp") as lock:
        assert in_process_of_its_own(lock)(["train"], 0.3) == 130
    assert time.monotonic() - begin < 10
