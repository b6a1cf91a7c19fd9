"""The experiment and the curve with the real commands, on a corpus of tones and tiny nets."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from made_corpus import make_set
from made_up import ToyMeter

from e2etts.ablation import session
from e2etts.ablation.experiment import load_experiment
from e2etts.ablation.store import Store
from e2etts.ablation.wer_curve import kept_checkpoints
from e2etts.bin import ablate
from e2etts.bin.main import main
from e2etts.files import write_text
from e2etts.recipe import recipe_from
from e2etts.score.metrics import wer

pytest.importorskip("whisper_normalizer")
ROOT = Path(__file__).resolve().parents[2]
TRUNK = {"dim": 16, "layers": 1, "heads": 2, "hidden_dim": 32}
TRAIN = {"max_audio_seconds": 30, "batch_seconds": 6, "log_every": 1, "workers": 0,
         "warmup_steps": 1}
RECIPE = {
    "corpus": {"tests": ["test_en"], "sentences": ["sentences_en"]},
    "audio": {"mel_bands": 8}, "text": {"phonemes": False},
    "model": {"tokenizer": {"encoder": TRUNK, "q_dim": 8}, "lm": {"trunk": TRUNK},
              "fm": {"trunk": TRUNK, "encoder_layers": 1}, "rm": {"trunk": TRUNK}},
    "vocoder": {"dim": 16, "layers": 1, "fft_samples": 640},
    "stages": {
        "vocoder": {"task": "vocoder", "weights": {"mel": 1.0, "magnitude": 1.0,
                                                   "convergence": 1.0, "pitch": 0.1,
                                                   "voicing": 0.1},
                    "options": {"crop_frames": 10}, "data": {"crop_seconds": 0.2},
                    "train": TRAIN},
        "tokenizer": {"task": "first_order", "trainable": ["tokenizer", "lm", "fm", "rm"],
                      "weights": {"lm": 0.1, "fm": 1.0, "ctc": 1.0},
                      "train": {**TRAIN, "keep_every": 3}},
        "joint": {"task": "second_order", "init": "tokenizer", "trainable": ["lm"],
                  "weights": {"ce": 1.0, "ctc": 1.0}, "train": TRAIN}},
    "synthesis": {"candidates": 1, "prompt_clips": 0, "references": 2,
                  "sampling": {"max_ratio": 1.0}, "solver": {"steps": 1}},
    "score": {"metrics": ["wer"], "workers": 1}}
ABLATION = {
    "recipe": "recipe.yaml", "seeds": [3],
    "systems": {
        "apart": {"about": "LM after all else", "speaks": "joint", "overrides": {"stages": {
            "tokenizer": {"trainable": ["tokenizer", "fm", "rm"], "weights": {"lm": 0}}}}},
        "stage1": {"about": "stage 1", "speaks": "tokenizer"},
        "stage3": {"about": "and by samples", "speaks": "joint"}},
    "comparisons": [["stage3", "apart"], ["stage3", "stage1"]]}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(wer, "find_recognizer", lambda config, warn: ToyMeter("one two"))
        make_set(folder, "train", 12)
        make_set(folder, "dev", 3, seed=1)
        make_set(folder, "test_en", 3, seed=2)
        make_set(folder, "sentences_en", 2, seed=3, wav=False)
        for name, tree in (("recipe", RECIPE), ("ablation", ABLATION)):
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        assert main(["prepare", "--config", "recipe.yaml"]) == 0
        commands = []
        patch.setattr(session, "in_process_of_its_own", lambda lock: lambda words, seconds: (
            commands.append(words[0]), main(words))[1])
        patch.setattr(ablate.signal, "signal", lambda *a: None)
        assert main(["ablate", "--config", "ablation.yaml"]) == 0
        assert commands.count("train") == 5  # of 8: vocoder and tokenizer are shared
        commands.clear()
        assert main(["ablate", "--config", "ablation.yaml"]) == 0
        assert not commands
        assert main(["curve", *curve_arguments()]) == 0
    return folder


def curve_arguments() -> list[str]:
    """Of stage3: of the folder of its last stage."""
    run = load_experiment("ablation.yaml").runs[-1]
    store, joint = Store("ablation"), run.units[-1]
    return ["--config", str(store.unit(joint) / "config.yaml"),
            "--tag", f"ablation/stages/{joint.name}", "--vocoder", str(store.unit(run.units[0]))]


def test_the_tables_come_from_what_was_trained_and_spoken(recipe):
    root = recipe / "exp/ablation"
    page = (root / "ABLATION.md").read_text()
    assert "3 of 3 measured" in page and "## 5 Tokens" in page
    record = json.loads((root / "ablation.json").read_text())["runs"]["stage3-seed3"]
    assert [u["stage"] for u in record["units"]] == ["vocoder", "tokenizer", "joint"]
    assert all(30 <= u["audio_seconds"] < 37 for u in record["units"])
    assert len(record["scores"]["tts"]["sentences_en"]["words"]) == 2
    assert len(record["scores"]["copy"]["test_en"]["edits"]) == 3
    assert record["tokens"]["tokens"] > 100 and record["tokens"]["entropy_bits"] > 0
    assert set(record["recognition"]) == {"dev", "test_en"}
    assert record["parameters"].keys() == {"tokenizer", "lm", "fm", "rm", "speaker"}
    assert (root / "figures/token_usage.svg").is_file()


def test_a_run_is_an_experiment_for_every_other_command(recipe, monkeypatch, capsys):
    monkeypatch.chdir(recipe)
    runs = "exp/ablation/runs"
    assert main(["compare", f"{runs}/stage3-seed3", f"{runs}/apart-seed3"]) == 0
    assert "wer" in capsys.readouterr().out


def test_curve_has_a_point_for_every_kept_checkpoint_and_stage(recipe, monkeypatch, capsys):
    monkeypatch.chdir(recipe)
    run = recipe / "exp" / curve_arguments()[3]
    points = json.loads((run / "curve.json").read_text())
    names = [p["checkpoint"] for p in points]
    assert names[0] == "tokenizer/kept/3" and names[-2:] == ["tokenizer/best", "joint/best"]
    seconds = [p["seconds"] for p in points]
    assert seconds == sorted(seconds) and seconds[-1] > seconds[-2]
    assert points[0]["tts"]["test_en"]["n"] == 3 and (run / "curve.svg").is_file()
    assert main(["curve", *curve_arguments(), "--stage", "joint"]) == 2
    assert "keep_every" in capsys.readouterr().err


def test_curve_takes_stages_that_train_lm_or_fm(tmp_path):
    alone = {name: {"task": "first_order", "init": init, "trainable": [name],
                    "weights": {loss: 1.0}, "train": TRAIN}
             for name, init, loss in (("fm", "tokenizer", "fm"), ("rm", "fm", "ctc"))}
    stages = {**RECIPE["stages"], **alone, "joint": {**RECIPE["stages"]["joint"], "init": "rm"}}
    recipe = recipe_from({**RECIPE, "stages": stages}, {})
    for name in ("tokenizer", "fm", "rm", "joint"):
        for step in ("1", "2"):
            write_text(tmp_path / name / "kept" / step / "meta.json", f'{{"seconds": {step}}}')
        write_text(tmp_path / name / "summary.json", '{"seconds": 10}')
    found = [(seconds, str(path.relative_to(tmp_path)))
             for seconds, path in kept_checkpoints(recipe, tmp_path, "joint")]
    assert [f for f in found if not f[1].startswith("tokenizer")] == [
        (11, "fm/kept/1"), (12, "fm/kept/2"), (20, "fm/best"),
        (31, "joint/kept/1"), (32, "joint/kept/2"), (40, "joint/best")]
    assert [path for _, path in kept_checkpoints(recipe, tmp_path, "joint", ["rm"])] == [
        tmp_path / "rm" / "kept" / "1", tmp_path / "rm" / "kept" / "2", tmp_path / "rm" / "best"]


def test_the_shell_front_asks_for_what_it_needs(tmp_path):
    (tmp_path / "run_ablation.sh").write_text(
        f"default_config=ablation.yaml\n. {ROOT}/utils/ablation.sh\nablation \"$@\"\n")

    def run(*arguments):
        return subprocess.run(["bash", "run_ablation.sh", *arguments], cwd=tmp_path, text=True,
                              capture_output=True, timeout=60)

    assert run("--help").returncode == 0 and "--status" in run("--help").stdout
    for arguments, message in ((("--hour", "2"), "unknown argument '--hour'"),
                               (("--hours",), "--hours needs a value"),
                               ((), "ablation.yaml: no such experiment")):
        done = run(*arguments)
        assert done.returncode == 2 and message in done.stderr


def test_a_slip_in_the_last_system_shows_before_any_training(recipe, monkeypatch, capsys):
    monkeypatch.chdir(recipe)
    for slip, message in (("options={bridgee: 1}", "stages.joint.options.bridgee"),
                          ("weights.ctcc=1", "no such loss: ctcc")):
        assert main(["ablate", "--config", "ablation.yaml", "--tag", "slip",
                     f"stages.joint.{slip}"]) == 2
        said = capsys.readouterr().err
        assert message in said and "system 'apart'" in said
        assert not (recipe / "exp/slip").exists()


def test_without_data_it_names_the_stages_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, tree in (("recipe", RECIPE), ("ablation", ABLATION)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    assert main(["ablate", "--config", "ablation.yaml"]) == 2
    assert "dump/train: not prepared: run stages 1 and 2" in capsys.readouterr().err
    assert main(["ablate", "--config", "ablation.yaml", "--status"]) == 0
    assert "0 of 3 runs measured" in capsys.readouterr().out
    assert main(["ablate", "--config", "ablation.yaml", "--recipe"]) == 0
    assert capsys.readouterr().out.strip() == "recipe.yaml"
