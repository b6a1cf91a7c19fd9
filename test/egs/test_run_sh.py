"""run.sh of the recipes for published corpora, from the first stage to the last and then from
stage 5 alone, with tiny nets on small trees in the published layout."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import published
import pytest
from recipe_copy import copied

PRELOADED = Path(__file__).with_name("preloaded.py")
INSTALL = """#!/bin/sh
[ "$1" != --where ] || echo "$(dirname "$0")/venv"
"""
TINY = """
base: default.yaml
corpus_data: {miniature: true, dev_utts: 4, test_utts: 2, enrol_utts: 1, workers: 1}
text: {phonemes: false}
model:
  tokenizer:
    trunk: &trunk {dim: 32, layers: 1, heads: 1, head_dim: 32, hidden_dim: 64}
    levels: [5, 5]
    q_dim: 16
  lm: {trunk: *trunk, reader_layers: 1}
  fm: {trunk: *trunk, encoder_layers: 1}
  rm: {trunk: *trunk}
  speaker: {voice_dim: 8, dim: 16, dilations: [1]}
vocoder: {dim: 16, layers: 1}
stages:
  vocoder:
    train: &tiny {max_steps: 2, batch_seconds: 20, accumulation: 1, warmup_steps: 1,
                  validate_every: 2, log_every: 1, workers: 0}
  tokenizer: {train: *tiny}
  lm: {train: *tiny}
  fm: {train: *tiny}
  rm: {train: *tiny}
  joint: {train: *tiny}
synthesis:
  {candidates: 1, prompt_clips: 1, references: 2, sampling: {max_ratio: 0.5}, flow: {steps: 1}}
score: {metrics: [], workers: 1}
"""


@pytest.fixture(scope="module")
def programs():
    """Address of a server that runs python and e2etts without their start-up time."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/socket"
        server = subprocess.Popen([sys.executable, str(PRELOADED), address])
        while not os.path.exists(address):
            assert server.poll() is None
            time.sleep(0.05)
        yield address
        server.kill()
        server.wait()


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def run(recipe: Path, *arguments: str) -> str:
    done = subprocess.run([recipe / "run.sh", "--config", "conf/tiny.yaml", *arguments], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


OVERRIDES = {"emilia": ["corpus_data.held_out_speakers=0.5"]}
RECIPES = [pytest.param(name, marks=[] if name == "libritts" else pytest.mark.nightly)
           for name in ("libritts", "ljspeech", "vctk", "aishell3", "esd", "emilia")]


@pytest.mark.parametrize("name", RECIPES)
def test_all_stages_then_stage_5_alone(name, programs, tmp_path):
    getattr(published, name)(tmp_path / "corpus")
    recipe = copied(name, tmp_path)
    (recipe / "conf/tiny.yaml").write_text(TINY)
    write_program(tmp_path / "tools/install.sh", INSTALL)
    write_program(tmp_path / "tools/get_whisper.sh", "#!/bin/sh\nexit 2\n")
    for program in ("python", "e2etts"):
        write_program(tmp_path / "tools/venv/bin" / program,
                      f'#!/bin/sh\nexec "{sys.executable}" -S -E "{PRELOADED}" "{programs}" '
                      f'{program} "$@"\n')
    run(recipe, "--corpus_dir", str(tmp_path / "corpus"), *OVERRIDES.get(name, []))
    log = json.loads((recipe / "exp/tiny/stages.json").read_text())
    assert [entry["stage"] for entry in log] == list(range(1, 12))
    assert (recipe / "exp/tiny/pack/SHA256SUMS").is_file()
    again = run(recipe, "--stage", "5", "--stop_stage", "5")
    assert "finished at step 2, nothing to do" in again
    more = run(recipe, "--stage", "5", "--stop_stage", "5", "stages.lm.train.max_steps=3")
    assert "step 3" in more
