"""``e2etts prepare`` and ``e2etts train`` on a made corpus and a tiny system."""

import json
import shutil

import pytest
import yaml
from made_corpus import make_set

from e2etts.bin.main import main
from e2etts.train.checkpoint import load_checkpoint

TRUNK = {"dim": 16, "layers": 1, "heads": 2, "hidden_dim": 32}
STAGE = {"data": {"concat_probability": 0.5, "concat_max_seconds": 2},
         "train": {"max_steps": 3, "batch_seconds": 6, "log_every": 1, "workers": 0}}
CONFIG = {
    "corpus": {"sentences": ["sentences"]},
    "audio": {"mel_bands": 8},
    "text": {"phonemes": False},
    "model": {"tokenizer": {"encoder": TRUNK, "q_dim": 8}, "lm": {"trunk": TRUNK},
              "fm": {"trunk": TRUNK, "encoder_layers": 1}, "rm": {"trunk": TRUNK}},
    "stages": {
        "tokenizer": {"task": "first_order", "trainable": ["tokenizer", "lm", "fm", "rm"],
                      "weights": {"lm": 0.1, "fm": 1.0, "ctc": 1.0}, **STAGE},
        "lm": {"task": "first_order", "init": "tokenizer", "trainable": ["lm"],
               "weights": {"lm": 1.0}, **STAGE},
        "judge": {"task": "first_order", "init": {"tokenizer": "tokenizer"},
                  "trainable": ["rm"], "weights": {"ctc": 1.0}, **STAGE},
        "joint": {"task": "second_order", "init": "lm", "trainable": ["lm"], "judge": "judge",
                  "weights": {"ce": 1.0, "ctc": 1.0}, **STAGE}}}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe folder that is prepared and whose tokenizer is trained."""
    folder = tmp_path_factory.mktemp("recipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_set(folder, "train", 24)
        make_set(folder, "dev", 4, seed=1)
        make_set(folder, "sentences", 2, seed=2, wav=False)
        (folder / "conf.yaml").write_text(yaml.safe_dump(CONFIG))
        assert run("prepare") == 0
        assert run("train", "tokenizer") == 0
    return folder


@pytest.fixture
def here(recipe, tmp_path, monkeypatch):
    shutil.copytree(recipe, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    return main([*arguments, "--config", "conf.yaml", "--tag", "t"])


def test_stage_leaves_its_files_and_the_next_starts_from_it(here):
    folder = here / "exp/t/tokenizer"
    assert {p.name for p in folder.iterdir()} == {
        "best", "last", "state", "tb", "config.yaml", "log.jsonl", "summary.json"}
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["lm"]["trunk"]["dim"] == 16
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 3 and summary["parameters"] > 0
    assert run("train", "lm") == 0
    before, after = (load_checkpoint(here / f"exp/t/{s}/best")[0] for s in ("tokenizer", "lm"))
    assert before.keys() == after.keys()
    changed = {k.split(".")[0] for k in before if not before[k].equal(after[k])}
    assert changed == {"lm"}


def test_a_run_goes_on_when_its_data_are_summarised_anew(here, capsys):
    """Dumps of earlier versions have no ratio of speech to text tokens; preparing adds it."""
    path = here / "dump/vocab.json"
    vocab = json.loads(path.read_text())
    stored = load_checkpoint(here / "exp/t/tokenizer/best")[1]["config"]["sizes"]
    assert stored["tokens_per_text_token"] == vocab["tokens_per_text_token"]
    vocab["tokens_per_text_token"] = None
    path.write_text(json.dumps(vocab))
    assert run("train", "lm") == 0  # its start has the figure, its data have not
    sizes = load_checkpoint(here / "exp/t/lm/best")[1]["config"]["sizes"]
    assert sizes["tokens_per_text_token"] is None
    assert run("prepare") == 0
    capsys.readouterr()
    assert run("train", "lm", "stages.lm.train.max_steps=5") == 0
    sizes = load_checkpoint(here / "exp/t/lm/last")[1]["config"]["sizes"]
    assert sizes == stored and "going on from step 3" in capsys.readouterr().out
    vocab["text_size"] += 1  # what shapes the nets still decides
    path.write_text(json.dumps(vocab))
    assert run("train", "lm") == 2 and "text_vocab" in capsys.readouterr().err


def test_finished_stage_is_left_alone(here, capsys):
    before = {p: p.stat().st_mtime_ns for p in (here / "exp/t/tokenizer").rglob("*.*")
              if p.name != "config.yaml"}
    assert run("train", "tokenizer") == 0
    assert "finished at step 3" in capsys.readouterr().out
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())


@pytest.mark.parametrize("arguments,message", [
    (("lm", "stages.tokenizer.train.lr=0.1", "model.lm.trunk.layers=2"),
     "stages.lm.init: exp/t/tokenizer/best: lm of another configuration (stored != wanted): "
     "model.lm.trunk.layers: 1 != 2"),
    (("tokenizer", "stages.tokenizer.train.lr=0.5"), "train.lr: 0.001 != 0.5"),
    (("tokenizer", "stages.tokenizer.train.max_steps=2"), "train.max_steps: 3 != 2"),
    (("tokenizer", "stages.tokenizer.data.speaker_weights={ghost: 2}"), "fits no speaker"),
    (("vocoder",), "no stage 'vocoder'"),
    (("lm", "stages.lm.train.batch_seconds=0.5"), "longer than a batch"),
    (("lm", "corpus.dump_dir=absent"), "absent/vocab.json: no such file"),
    (("lm", "corpus.dev=sentences"), "dump/sentences/mel.scp: no such file"),
])
def test_what_does_not_fit_is_refused_in_one_line(here, capsys, arguments, message):
    config = (here / "exp/t/tokenizer/config.yaml").read_text()
    capsys.readouterr()
    assert run("train", *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("e2etts train: error: ") and "\n" not in said
    assert message in said
    assert not (here / "exp/t/lm").exists()
    assert (here / "exp/t/tokenizer/config.yaml").read_text() == config


def test_samples_are_heard_by_a_judge_before_and_after_the_joint_stage(here, capsys):
    assert run("train", "lm") == 0
    assert run("train", "joint") == 2
    assert "exp/t/judge/best/model.safetensors: no such" in capsys.readouterr().err
    assert run("train", "judge") == 0 and run("train", "joint") == 0
    log = [json.loads(line) for line in (here / "exp/t/joint/log.jsonl").read_text().splitlines()]
    dev = [r for r in log if r["split"] == "dev"]
    assert [r["step"] for r in dev] == [0, 1, 2, 3]
    dev = [r for r in dev if r["step"] in (0, 3)]  # between validations there are no samples
    assert all(r["judge_error"] > 0 and r["rm_error"] > 0 and r["length_ratio"] > 0 for r in dev)
    assert "q_grad_ctc" in log[1] and "q_grad_ce" not in log[1]  # CE does not pass the samples
    summary = json.loads((here / "exp/t/joint/summary.json").read_text())
    assert summary["recoveries"] == summary["warnings"] == []
    first = [json.loads(line) for line in
             (here / "exp/t/tokenizer/log.jsonl").read_text().splitlines()][1]
    assert {f"token_entropy_bits_{d}" for d in range(4)} | {"used_share", "q_grad_lm"} <= set(first)


def test_probe_reads_every_recording_of_dev(here):
    assert run("probe", "tokenizer") == 0
    found = json.loads((here / "exp/t/tokenizer/probe.json").read_text())
    table = found["recognition"]["dev"]
    assert len(table["utts"]) == len(table["edits"]) == 4 and min(table["labels"]) > 0
    assert all(right in (True, False) for right in table["speaker_right"])
    assert found["tokens"]["tokens"] > 24 and found["parameters"]["lm"] > 0


def test_stage_before_its_input_names_the_missing_checkpoint(here, capsys):
    shutil.rmtree(here / "exp/t/tokenizer")
    assert run("train", "lm") == 2
    assert "exp/t/tokenizer/best/model.safetensors: no such" in capsys.readouterr().err


def test_retrained_start_is_noticed(here, capsys):
    assert run("train", "lm") == 0
    shutil.rmtree(here / "exp/t/tokenizer")
    assert run("train", "tokenizer", "stages.tokenizer.train.lr=0.002") == 0
    assert run("train", "lm") == 2
    assert "start." in capsys.readouterr().err
