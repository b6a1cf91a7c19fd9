"""The recipe driver, in a copied tree whose commands are stand-ins that write what real ones do."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("stages", ROOT / "utils" / "stages.py")
stages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(stages)

RUN_SH = """#!/usr/bin/env bash
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2
corpus=toy about="Nothing but files" default_config=conf/default.yaml
. ../../utils/recipe.sh
recipe "$@"
"""
INSTALL = """#!/usr/bin/env bash
[ "$1" != --where ] || cd "$(dirname "$0")/venv" && pwd
"""
GET_WHISPER = """#!/usr/bin/env bash
echo "no network" >&2; exit 2
"""
DATA = """#!/usr/bin/env bash
set -e
echo "data.sh $*" >>calls
"${PYTHON:-python3}" -c pass
mkdir -p data/train && touch data/train/wav.scp
"""
# Answers at once what utils/stages.py would take seconds to say, where a test left it in facts.sh.
PYTHON = f"""#!/bin/sh
[ "$2" != facts ] || [ ! -f facts.sh ] || exec cat facts.sh
PYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"
"""
# Makes the files that the next stages ask for. FAIL names a verb or stage that fails, HANG one
# that waits to be interrupted.
E2ETTS = """#!/usr/bin/env bash
echo "e2etts $*" >>calls
verb=$1 what=$1
[ "$verb" != train ] || what=$2
for ((i = 1; i < $#; i++)); do [ "${!i}" != --tag ] || { i=$((i + 1)); tag=${!i}; }; done
exp=exp/$tag
[ "$what" != "${HANG:-}" ] || { touch hanging; sleep 30; }
[ "$what" != "${FAIL:-}" ] || { echo "e2etts $verb: error: asked to fail" >&2; exit 2; }
case $verb in
    prepare) mkdir -p dump && echo "{}" >dump/vocab.json ;;
    train) mkdir -p "$exp/$what/best" ;;
    synthesize) mkdir -p "$exp/wavs/tts" ;;
    score) echo "{}" >"$exp/results.json" ;;
    report) echo table >"$exp/RESULTS.md"; echo page >"$exp/report.html" ;;
    pack) mkdir -p "$exp/pack" ;;
esac
"""

CONFIG = """
corpus: {data_dir: data, dump_dir: dump, train: train}
stages:
  vocoder: {task: vocoder, weights: {mel: 1}, train: {max_steps: 1}}
  tokenizer: {task: first_order, weights: {lm: 1}, train: {max_steps: 1}}
  lm: {task: first_order, init: tokenizer, weights: {lm: 1}, train: {max_steps: 1}}
  fm: {task: first_order, init: lm, weights: {fm: 1}, train: {max_steps: 1}}
  rm: {task: first_order, init: fm, weights: {ctc: 1}, train: {max_steps: 1}}
  joint: {task: second_order, init: rm, weights: {ce: 1}, train: {max_steps: 1}}
"""


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def recipe(tmp_path):
    """Folder of a toy recipe in a copy of the tree."""
    folder = tmp_path / "egs" / "toy"
    shutil.copytree(ROOT / "utils", tmp_path / "utils",
                    ignore=shutil.ignore_patterns("__pycache__"))
    write_program(tmp_path / "tools" / "install.sh", INSTALL)
    write_program(tmp_path / "tools" / "get_whisper.sh", GET_WHISPER)
    bin_dir = tmp_path / "tools" / "venv" / "bin"
    write_program(bin_dir / "e2etts", E2ETTS)
    write_program(bin_dir / "python", PYTHON)
    write_program(folder / "run.sh", RUN_SH)
    write_program(folder / "local" / "data.sh", DATA)
    for name in ("default", "toy"):
        configure(folder, name, CONFIG)
    return folder


def configure(folder: Path, name: str, text: str) -> None:
    path = folder / "conf" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    (folder / "facts.sh").write_text(stages.facts(str(path), []))


def run(folder, *arguments, **env):
    return subprocess.run([str(folder / "run.sh"), *arguments], capture_output=True, text=True,
                          env={**os.environ, **env}, timeout=120)


def calls(folder):
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


TOY = ("--config", "conf/toy.yaml")


def test_all_stages_in_order(recipe):
    (recipe / "facts.sh").unlink()
    done = run(recipe, *TOY, "seed=7", PYTHON="another-python")
    assert done.returncode == 0, done.stderr
    shared = "--config conf/toy.yaml --tag toy seed=7"
    trained = ["vocoder", "tokenizer", "lm", "fm", "rm", "joint"]
    assert calls(recipe) == [
        "data.sh --config conf/toy.yaml seed=7", f"e2etts prepare {shared}",
        *[f"e2etts train {stage} {shared}" for stage in trained],
        *[f"e2etts {verb} {shared}"
          for verb in ("synthesize", "score-rm", "score", "report", "pack")]]
    announced = re.findall(r"^stage (\d+) (\w+): reads .+ -> writes .+$", done.stdout, re.M)
    assert [int(number) for number, _ in announced] == list(range(1, 12))
    log = json.loads((recipe / "exp" / "toy" / "stages.json").read_text())
    assert [(str(e["stage"]), e["name"]) for e in log] == announced
    assert all(e["seconds"] >= 0 for e in log)
    assert f"{recipe}/exp/toy/report.html" in done.stdout
    assert "warning: no Whisper" in done.stderr


def test_only_the_default_run_leaves_its_table_beside_run_sh(recipe):
    assert run(recipe, *TOY).returncode == 0
    assert run(recipe, "seed=3").returncode == 0
    assert not (recipe / "results.json").exists()
    assert run(recipe, "--stage", "10").returncode == 0
    assert (recipe / "results.json").exists() and (recipe / "RESULTS.md").exists()


def test_corpus_dir_goes_to_the_data_stage_alone(recipe):
    assert run(recipe, *TOY, "--corpus_dir", "/a b", "--stop_stage", "2").returncode == 0
    assert calls(recipe)[0].strip() == "data.sh --config conf/toy.yaml --corpus_dir /a b"
    assert "corpus_dir" not in calls(recipe)[1]
    done = run(recipe, *TOY, "--corpus_dir", "/a b", "--gpus", "2", "--stage", "3", FAIL="vocoder")
    assert "--stage 3 --config conf/toy.yaml --corpus_dir /a\\ b --gpus 2" in done.stderr


def test_without_data_sh_python_prepares(recipe):
    (recipe / "local/data.sh").unlink()
    (recipe / "local/prepare_data.py").write_text(
        "import pathlib, sys\nprint(sys.argv)\n"
        "pathlib.Path('data/train').mkdir(parents=True)\n")
    done = run(recipe, *TOY, "--stop_stage", "1", "seed=3")
    assert done.returncode == 0 and "'--config', 'conf/toy.yaml', 'seed=3'" in done.stdout


def test_gpus_start_as_many_processes_for_training_alone(recipe):
    write_program(recipe.parents[1] / "tools/venv/bin/torchrun",
                  '#!/bin/sh\necho "torchrun $*" >>calls\n'
                  'while [ "$1" != --no_python ]; do shift; done; shift; exec "$@"\n')
    assert run(recipe, *TOY, "--gpus", "8", "--stop_stage", "5").returncode == 0
    started = [call for call in calls(recipe) if call.startswith("torchrun")]
    assert len(started) == 3 and all("--nproc_per_node 8" in call for call in started)
    assert started[0].strip().endswith("e2etts train vocoder --config conf/toy.yaml --tag toy")


def test_stage_that_the_configuration_leaves_out(recipe):
    lines = [line for line in CONFIG.splitlines() if not line.startswith("  rm:")]
    configure(recipe, "toy", "\n".join(lines).replace("init: rm", "init: fm"))
    done = run(recipe, *TOY)
    assert done.returncode == 0, done.stderr
    assert "stage 7 rm: conf/toy.yaml has no such stage, nothing to do" in done.stdout
    assert not any("train rm" in call for call in calls(recipe))
    assert "stage 8 joint: reads dump/vocab.json exp/toy/fm/best ->" in done.stdout


def test_stage_range(recipe):
    assert run(recipe, *TOY, "--stop_stage", "4", "--tag", "other").returncode == 0
    assert len(calls(recipe)) == 4
    assert run(recipe, *TOY, "--stage", "4", "--stop_stage", "5", "--tag", "other").returncode == 0
    log = json.loads((recipe / "exp" / "other" / "stages.json").read_text())
    assert [e["stage"] for e in log] == [1, 2, 3, 4, 5]


def test_log_of_stages_keeps_the_most_that_a_stage_took(tmp_path):
    path = tmp_path / "exp" / "stages.json"
    for stage, name, seconds in ((5, "lm", 300.04), (2, "prepare", 20.0), (5, "lm", 3.0)):
        stages.record(path, stage, name, seconds)
    assert json.loads(path.read_text()) == [
        {"stage": 2, "name": "prepare", "seconds": 20.0},
        {"stage": 5, "name": "lm", "seconds": 300.0}]
    (path.parent / "lm").mkdir()
    (path.parent / "lm" / "summary.json").write_text('{"seconds": 420.5}')
    stages.record(path, 5, "lm", 120.0)  # the second half of a run that was interrupted
    assert json.loads(path.read_text())[1]["seconds"] == 420.5
    assert [p.name for p in path.parent.glob("stages*")] == ["stages.json"]


def test_setup_counts_when_it_took_time(recipe):
    write_program(recipe.parents[1] / "tools" / "install.sh",
                  INSTALL + '[ "$1" = --where ] || sleep 2.1\n')
    assert run(recipe, *TOY, "--stop_stage", "1").returncode == 0
    log = json.loads((recipe / "exp" / "toy" / "stages.json").read_text())
    assert [(e["stage"], e["name"]) for e in log] == [(0, "setup"), (1, "data")]
    assert log[0]["seconds"] >= 2.1


@pytest.mark.parametrize("stage, words", [
    (2, "stage 2 needs data/train/wav.scp: run --stage 1 first"),
    (3, "stage 3 needs dump/vocab.json: run --stage 2 first"),
    (8, "stage 8 needs dump/vocab.json: run --stage 2 first"),
    (9, "stage 9 needs exp/toy/vocoder/best: run --stage 3 first"),
    (10, "stage 10 needs exp/toy/wavs/tts: run --stage 9 first"),
])
def test_stage_without_its_input(recipe, stage, words):
    done = run(recipe, *TOY, "--stage", str(stage))
    assert (done.returncode, done.stderr) == (2, f"run.sh: error: {words}\n")
    assert not calls(recipe)


def test_stage_without_the_stage_it_starts_from(recipe):
    assert run(recipe, *TOY, "--stop_stage", "3").returncode == 0
    done = run(recipe, *TOY, "--stage", "6")
    assert done.stderr == (
        "run.sh: error: stage 6 needs exp/toy/lm/best: run --stage 5 first, or start from another "
        "run with stages.fm.init=exp/OTHER/lm\n")


def test_stage_5_alone_on_the_tokenizer_of_another_run(recipe):
    assert run(recipe, *TOY, "--stop_stage", "4", "--tag", "other").returncode == 0
    (recipe / "facts.sh").unlink()
    new = [*TOY, "--tag", "newlm", "--stage", "5", "--stop_stage", "5"]
    done = run(recipe, *new, "stages.lm.init=exp/other/tokenizer")
    assert done.returncode == 0, done.stderr
    assert ("stage 5 lm: reads dump/vocab.json exp/other/tokenizer -> writes exp/newlm/lm/\n"
            in done.stdout)
    assert calls(recipe)[4:] == ["e2etts train lm --config conf/toy.yaml --tag newlm "
                                 "stages.lm.init=exp/other/tokenizer"]
    done = run(recipe, *new, "stages.lm.init={tokenizer: exp/other/tokenizer, rm: fm}")
    assert done.stderr == (
        "e2etts: error: stages.lm.init: leads back to 'lm'\n")
    done = run(recipe, *new, "stages.lm.init=exp/none/tokenizer")
    assert done.returncode == 2 and "'exp/none/tokenizer' is neither a stage" in done.stderr
    assert len(calls(recipe)) == 5


def test_training_stages_follow_what_they_start_from(recipe):
    configure(recipe, "toy", CONFIG.replace("lm: {task: first_order, init: tokenizer",
                                            "lm: {task: first_order, init: fm")
              .replace("init: lm", "init: {tokenizer: tokenizer, rm: tokenizer}")
              .replace("init: fm, weights: {ctc", "init: tokenizer, weights: {ctc")
              .replace("init: rm", "init: {tokenizer: tokenizer, lm: lm, fm: fm, rm: rm}"))
    done = run(recipe, *TOY)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^stage (\d+) \w+: reads", done.stdout, re.M) == [
        "1", "2", "3", "4", "6", "5", "7", "8", "9", "10", "11"]
    trained = [call.split()[2] for call in calls(recipe) if call.startswith("e2etts train")]
    assert trained == ["vocoder", "tokenizer", "fm", "lm", "rm", "joint"]
    reads = [f"exp/toy/{stage}/best" for stage in ("tokenizer", "lm", "fm", "rm")]
    assert f"stage 8 joint: reads dump/vocab.json {' '.join(reads)} ->" in done.stdout


@pytest.mark.parametrize("arguments, words", [
    (["--stgae", "3"], "unknown argument '--stgae'"),
    (["lm"], "unknown argument 'lm'"),
    (["--stage"], "--stage needs a value"),
    (["--stage", "12"], "stage '12': expected a number from 1 to 11"),
    (["--stage", "two"], "stage 'two'"),
    (["--stage", "5", "--stop_stage", "4"], "--stage 5 is after --stop_stage 4"),
    (["--config", "conf/none.yaml"], "conf/none.yaml: no such configuration"),
    (["--tag", "../up"], "--tag '../up'"),
    (["--gpus", "0"], "--gpus '0'"),
    (["sede=3"], "unknown configuration key 'sede'; nearest known key: 'seed'"),
])
def test_wrong_arguments_are_one_line_and_nothing_runs(recipe, arguments, words):
    (recipe / "facts.sh").unlink()
    done = run(recipe, *arguments)
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.count("\n") == 1
    assert not calls(recipe) and not (recipe / "exp").exists()


def test_failed_stage_is_named_with_the_command_that_resumes(recipe):
    done = run(recipe, *TOY, "--tag", "a", "seed=7", FAIL="fm")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last == ("run.sh: stage 6 fm failed (status 2); resume with: ./run.sh --stage 6 "
                    "--config conf/toy.yaml --tag a seed=7")
    assert "train rm" not in "".join(calls(recipe))
    log = json.loads((recipe / "exp" / "a" / "stages.json").read_text())
    assert [e["stage"] for e in log] == [1, 2, 3, 4, 5]
    assert run(recipe, *last.split("./run.sh ")[1].split()).returncode == 0


def test_failed_scoring_stops_before_the_report(recipe):
    done = run(recipe, *TOY, FAIL="score")
    assert done.returncode == 2 and "stage 10 score failed" in done.stderr
    assert not any("report" in call for call in calls(recipe))


def test_interruption_stops_at_once_and_names_the_command_that_resumes(recipe):
    process = subprocess.Popen(
        [str(recipe / "run.sh"), *TOY], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "HANG": "tokenizer"}, start_new_session=True,
        # What runs in the background of a shell ignores it, and so would the recipe.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.monotonic() + 30
    while not (recipe / "hanging").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does: the whole group hears it
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "stage 4 tokenizer was interrupted; resume with: ./run.sh --stage 4" in said


def test_help_needs_nothing_set_up(recipe):
    shutil.rmtree(recipe.parents[1] / "tools")
    done = run(recipe, "--help")
    assert done.returncode == 0
    assert "--stop_stage M" in done.stdout and "Nothing but files" in done.stdout


def test_recipes_are_thin():
    for script in ROOT.glob("egs/*/run.sh"):
        lines = script.read_text().splitlines()
        assert len(lines) <= 30 and os.access(script, os.X_OK), script
