"""The recipe on a test set in miniature, in the layout of the published one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_pack import write_pack

ROOT = Path(__file__).resolve().parents[2]
META = """\
common_voice_en_1-common_voice_en_2|hello there|prompt-wavs/common_voice_en_1.wav|one two three
common_voice_en_1-common_voice_en_3|hello there|prompt-wavs/common_voice_en_1.wav|hello three
"""


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def recipe(tmp_path):
    """The recipe's folder in a copied tree that needs no installation, and the test set."""
    shutil.copytree(ROOT / "egs/seed_tts_eval", tmp_path / "egs/seed_tts_eval",
                    ignore=shutil.ignore_patterns("data", "exp"))
    program(tmp_path / "tools/install.sh",
            '#!/bin/sh\n[ "$1" != --where ] || echo "$(cd "$(dirname "$0")" && pwd)/venv"\n')
    program(tmp_path / "tools/venv/bin/python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program(tmp_path / "tools/venv/bin/e2etts",
            f'#!/bin/sh\nexec "{sys.executable}" -m e2etts.bin.main "$@"\n')
    prompts = tmp_path / "seedtts_testset/en/prompt-wavs"
    prompts.mkdir(parents=True)
    (prompts.parent / "meta.lst").write_text(META)
    noise = np.random.default_rng(0).normal(0, 0.1, 24000)
    soundfile.write(prompts / "common_voice_en_1.wav", noise, 24000)
    return tmp_path / "egs/seed_tts_eval"


def run(recipe: Path, *arguments: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
           "XDG_CACHE_HOME": str(recipe / "cache")}
    return subprocess.run(["./run.sh", "--sets", "en", *arguments], cwd=recipe, env=env, text=True,
                          capture_output=True)


def test_from_the_test_set_to_scores(recipe):
    pytest.importorskip("pocketsphinx")
    pytest.importorskip("zhon")
    write_pack(recipe.parent / "pack")
    done = run(recipe, "--corpus_dir", "../../seedtts_testset", "--system", "../pack",
               "synthesis.candidates=1", "synthesis.sampling.max_ratio=1.5", "score.workers=1",
               "score.recognizer=pocketsphinx")
    assert done.returncode == 0, done.stderr
    assert "2 texts, 1 prompts, 1 s; WARNING: the published list has 1088" in done.stdout
    folder = recipe / "exp/default/seed0"
    assert sorted(p.stem for p in (folder / "wavs/en").iterdir()) == \
        [line.split("|")[0] for line in META.splitlines()]
    found = json.loads((folder / "en/results.json").read_text())
    figures = found["details"]["default"]["en"]["metrics"]
    wer = figures["seed_tts_eval_wer"]
    assert (wer["scored"], wer["expected"]) == (2, 2) and wer["macro_wer"] > 0
    assert figures["rtf"]["real_time_factor"] > 0
    assert [r["metric"] for r in found["not_run"]] == ["seed_tts_eval_sim"]
    assert "not the protocol" in done.stderr and "2 scored of 2 expected" in done.stdout


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "no test set"), (["--corpus_dir", "none"], "none: no such folder"),
    (["--stage", "9"], "--system"), (["lm.lr=1"], "unknown argument"),
    (["--sets", "fr"], "expected some of"), (["--sets", ","], "expected some of")])
def test_what_is_wrong_is_said(recipe, arguments, said):
    done = run(recipe, *arguments)
    assert done.returncode == 2 and said in done.stderr


def test_a_lost_prompt_is_named(recipe):
    (recipe.parents[1] / "seedtts_testset/en/prompt-wavs/common_voice_en_1.wav").unlink()
    done = run(recipe, "--corpus_dir", "../../seedtts_testset", "--stop_stage", "1")
    assert done.returncode == 2 and "meta.lst:1: " in done.stderr
    assert "common_voice_en_1.wav: missing or unreadable" in done.stderr
