"""run.sh of the recipes for published corpora, from the first stage to the last and then from
stage 5 alone, with tiny nets on small trees in the published layout."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import published
import pytest
from recipe_copy import ROOT, copied

from e2etts.stages.packs import archive_pack

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
    encoder: &trunk {dim: 32, layers: 1, heads: 1, head_dim: 32, hidden_dim: 64}
    levels: [5, 5]
    q_dim: 16
  lm: {trunk: *trunk, text_encoder_layers: 1}
  fm: {trunk: *trunk, encoder_layers: 1}
  rm: {trunk: *trunk}
  speaker: {embedding_dim: 8, dim: 16, dilations: [1]}
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
  {candidates: 1, prompt_clips: 1, references: 2, sampling: {max_ratio: 0.5}, solver: {steps: 1}}
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


@pytest.fixture(scope="module")
def finished(programs, tmp_path_factory):
    """Function: name of a recipe -> its folder after all stages."""
    recipes = {}

    def folder(name: str) -> Path:
        if name not in recipes:
            above = tmp_path_factory.mktemp(name)
            recipes[name] = tiny_copy(name, above,
                                      f'"{sys.executable}" -S -E "{PRELOADED}" "{programs}" {{}}')
            run(recipes[name], "--corpus_dir", str(above / "corpus"), *OVERRIDES.get(name, []))
        return recipes[name]
    return folder


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


def archive_of(pack: Path) -> bytes:
    archive_pack(pack, pack.parent / "pack.tar.gz")
    return (pack.parent / "pack.tar.gz").read_bytes()


def tiny_copy(name: str, folder: Path, program: str) -> Path:
    """A copy of a recipe with its corpus and a tiny configuration; ``program``: shell words that
    run python ("python") and the command ("e2etts")."""
    getattr(published, name)(folder / "corpus")
    recipe = copied(name, folder)
    (recipe / "conf/tiny.yaml").write_text(TINY)
    write_program(folder / "tools/install.sh", INSTALL)
    write_program(folder / "tools/get_whisper.sh", "#!/bin/sh\nexit 2\n")
    for called in ("python", "e2etts"):
        write_program(folder / "tools/venv/bin" / called,
                      f'#!/bin/sh\nexec {program.format(called)} "$@"\n')
    return recipe


@pytest.mark.parametrize("name", RECIPES)
def test_all_stages_then_stage_5_alone(name, finished):
    recipe = finished(name)
    log = json.loads((recipe / "exp/tiny/stages.json").read_text())
    assert [entry["stage"] for entry in log] == list(range(1, 12))
    assert (recipe / "exp/tiny/pack/SHA256SUMS").is_file()
    again = run(recipe, "--stage", "5")
    assert re.findall(r"^stage (\d+) \w+: reads", again, re.M) == [
        "7", "5", "6", "8", "9", "10", "11"]  # the LM is aligned by the RM of stage 7
    more = run(recipe, "--stage", "5", "--stop_stage", "5", "stages.lm.train.max_steps=3")
    assert "step 3" in more and "step 3" not in again


def test_the_commands_of_the_page_on_stages_run(finished):
    """docs/stages.md says "default" where this says "tiny"."""
    recipe = finished("libritts")
    page = (ROOT / "docs/stages.md").read_text().replace("default", "tiny")
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S))
    (recipe / "theirs.tar.gz").write_bytes(archive_of(recipe / "exp/tiny/pack"))
    path = f"{recipe.parents[1]}/tools/venv/bin:{os.environ['PATH']}"
    script = blocks.replace("./run.sh", "./run.sh --config conf/tiny.yaml") \
        .replace("e2etts synthesize", "e2etts synthesize --config conf/tiny.yaml")
    done = subprocess.run(["bash", "-eu", "-c", script], cwd=recipe, text=True,
                          env={**os.environ, "PATH": path}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    printed = re.search(r"^```text\n(.*?)^```", page, re.M | re.S)[1]
    assert printed in done.stdout
    for made in ("newlm/pack", "newfm/fm/best", "theirs/joint/best", "theirs/wavs/tts"):
        assert (recipe / "exp" / made).is_dir(), made


@pytest.mark.nightly
def test_two_processes_train_together(tmp_path):
    recipe = tiny_copy("ljspeech", tmp_path, f'"{sys.executable}"')
    bin_dir = tmp_path / "tools/venv/bin"
    write_program(bin_dir / "e2etts",
                  f'#!/bin/sh\nexec "{sys.executable}" -m e2etts.bin.main "$@"\n')
    write_program(bin_dir / "torchrun",
                  f'#!/bin/sh\nexec "{sys.executable}" -m torch.distributed.run "$@"\n')
    run(recipe, "--corpus_dir", str(tmp_path / "corpus"), "--gpus", "2", "--stop_stage", "7")
    state = json.loads((recipe / "exp/tiny/lm/summary.json").read_text())
    assert state["steps"] == 2
