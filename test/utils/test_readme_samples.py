"""Samples and spectrograms for the front page, of a made run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "utils/readme_samples.py"


def run(folder, *arguments):
    return subprocess.run([sys.executable, SCRIPT, folder / "exp", "--docs", folder / "docs",
                           *arguments], capture_output=True, text=True)


def test_samples_and_spectrograms_of_a_run(tmp_path):
    tone = 0.3 * np.sin(np.arange(8000) / 9)
    for system, name, utt in (("recording", "test", "a"), ("copy", "test", "a"),
                              ("tts", "test", "a"), ("tts", "sentences", "s")):
        place = tmp_path / "exp/wavs" / system / name
        place.mkdir(parents=True)
        soundfile.write(place / f"{utt}.wav", tone, 16000)
        (place / "manifest.jsonl").write_text(json.dumps({
            "utt": utt, "wav": f"{utt}.wav", "text": f"text {utt}", "lang": "en", "speaker": "x",
            "emotion": "", "references": [], "prompt": None, "seconds": 0.5,
            "synthesis_seconds": 0.1, "rm_nats": 1.0}) + "\n")
    done = run(tmp_path, "--utt", "a", "--sentences", "s")
    assert done.returncode == 0, done.stderr
    samples = sorted((tmp_path / "docs/samples").iterdir())
    assert [p.name for p in samples] == ["copy_synthesis.ogg", "sentence_1.ogg",
                                         "text_to_speech.ogg"]
    assert all(soundfile.info(p).duration > 0.45 for p in samples)
    assert Image.open(tmp_path / "docs/figures/spectrograms.png").size[0] > 500
    missing = run(tmp_path, "--utt", "b")
    assert missing.returncode == 2 and "no clip 'b' of copy" in missing.stderr
