import json

import numpy as np
import pytest
import soundfile
from made_up import RATE_HZ, write_manifest

from e2etts.data.datadir import DataDir
from e2etts.report.results_markdown import results_markdown
from e2etts.score.config import ScoreConfig
from e2etts.score.metrics.style import StyleMeter, features, labelled_recordings, summarise_styles
from e2etts.score.results import score_experiment

pytest.importorskip("sklearn")
TEXT = "these are the words of a made up sentence"
# Seconds and pitch of each style; without a pitch it is noise.
STYLES = {"neutral": (2.0, 120), "fast": (1.2, 120), "high": (2.0, 170), "whisper": (2.0, None)}


def spoken(style, seed):
    """Harmonics, or noise, under the envelope of a voice, in half a second of silence."""
    random = np.random.default_rng(seed)
    seconds, hz = STYLES[style]
    t = np.arange(int(seconds * random.uniform(0.95, 1.05) * RATE_HZ)) / RATE_HZ
    if hz is None:
        wav = random.standard_normal(len(t))
    else:
        phase = 2 * np.pi * hz * random.uniform(0.95, 1.05) * t
        wav = sum(np.sin(k * phase) / k for k in range(1, 20))
    wav = np.pad(wav * (1.2 + np.sin(20 * t)), 4000)
    return (random.uniform(0.1, 0.9) * wav / np.abs(wav).max()).astype(np.float32)


def prepared(folder, per_style=6):
    """A prepared set with labels, and one utterance without."""
    data = DataDir({}, {}, {}, {}, {})
    for style in STYLES:
        for i in range(per_style):
            utt = f"{style}-{i}"
            soundfile.write(folder / f"{utt}.wav", spoken(style, i), RATE_HZ)
            data.text[utt], data.utt2lang[utt], data.utt2spk[utt] = TEXT, "en", "a"
            data.wav[utt], data.utt2emo[utt] = str(folder / f"{utt}.wav"), style
    del data.utt2emo["fast-0"]
    data.save(folder / "dump")
    return folder / "dump"


def clips(exp, system, requested_and_spoken):
    folder, rows = exp / "wavs" / system / "test_style", []
    folder.mkdir(parents=True)
    for i, (requested, style) in enumerate(requested_and_spoken):
        soundfile.write(folder / f"u{i}.wav", spoken(style, 100 + i), RATE_HZ)
        rows.append({"utt": f"u{i}", "wav": f"u{i}.wav", "text": TEXT, "lang": "en",
                     "emotion": requested or ""})
    write_manifest(folder, rows)


def score(exp, dump):
    config = ScoreConfig(metrics=("style",), workers=1, bootstrap_samples=200)
    return score_experiment(exp, config, seed=0, command="./run.sh", say=lambda line: None,
                            labelled=labelled_recordings(dump))


def test_what_is_measured():
    def measure(wav, lang):
        return StyleMeter().open("cpu")([wav], lang)[0]
    seconds, voiced, pitch, spread, *levels = measure(spoken("high", 1), "en")
    assert abs(seconds - 2.0) < 0.15 and voiced > 0.9 and 161 < 2**pitch < 179 and spread < 0.5
    assert len(levels) == 12 and abs(sum(levels)) < 1e-4 and levels[0] > levels[-1]
    assert measure(spoken("whisper", 1), "en")[1] < 0.1
    quiet = measure(spoken("high", 1) * 0.1, "en")
    np.testing.assert_allclose(quiet[1:], [voiced, pitch, spread, *levels], atol=0.05)
    assert measure(np.zeros(8000, np.float32), "en") is None
    assert features([2.0, 0.5], "2 words.", "en") == [4.0, 0.5]


def test_styles_are_recognised_and_wrong_ones_counted(tmp_path):
    dump = prepared(tmp_path)
    assert len(labelled_recordings(dump)) == 23
    exp = tmp_path / "exp"
    every = [s for s in STYLES for _ in range(3)]
    clips(exp, "recording", zip(every, every, strict=True))
    clips(exp, "tts", [("fast", "fast"), ("fast", "neutral"), ("whisper", "whisper"),
                       ("high", "whisper"), (None, "fast")])
    found = score(exp, dump)
    assert found["style"]["training_recordings"] == 23
    recordings = found["style"]["systems"]["recording"]["test_style"]
    assert recordings["accuracy"] == 1.0 and recordings["n"] == 12
    tts = found["style"]["systems"]["tts"]["test_style"]
    assert tts["accuracy"] == 0.5 and tts["n"] == 4 and tts["ci"][0] < 0.5 < tts["ci"][1]
    assert tts["heard_as"] == {"fast": {"fast": 1, "neutral": 1}, "high": {"whisper": 1},
                               "whisper": {"whisper": 1}}
    rows = [json.loads(x) for x in (exp / "scores.jsonl").read_text().splitlines()]
    assert [r["metrics"].get("style") for r in rows if r["system"] == "tts"] == [
        "fast", "neutral", "whisper", "whisper", None]
    page = results_markdown(found)
    assert "## Style control" in page and "23 labelled recordings" in page
    assert "| high | 3 of 3 | 0 of 1 |" in page
    assert "| test_style | 100.0 [100.0, 100.0] of 12 |" in page
    assert score(exp, dump)["style"] == found["style"]


def test_without_styles_there_is_no_such_section(tmp_path):
    exp = tmp_path / "exp"
    clips(exp, "tts", [(None, "fast")])
    found = score(exp, prepared(tmp_path, 1))
    assert "style" not in found and "Style" not in results_markdown(found)
    assert not [r for r in found["not_run"] if r["metric"] == "style"]
    assert labelled_recordings(tmp_path) == []


def test_a_train_set_of_one_style_trains_no_classifier(tmp_path):
    clips(tmp_path / "exp", "tts", [("fast", "fast")])
    found = score(tmp_path / "exp", tmp_path)
    assert "style" not in found
    assert any(r["metric"] == "style" and "utt2emo" in r["remedy"] for r in found["not_run"])


def test_an_interval_of_nothing_but_right_ones():
    found = summarise_styles([("tts", "s", "a", "a")] * 5, 100, 0)
    assert found["tts"]["s"] == {"accuracy": 1.0, "ci": [1.0, 1.0], "n": 5,
                                 "heard_as": {"a": {"a": 5}}}
