"""Metrics against a recording of the same text, on signals whose answer is known."""

import numpy as np
import pytest
import soundfile

from e2etts.score.clips import read_clips
from e2etts.score.config import ScoreConfig
from e2etts.score.metrics import mcd_f0
from e2etts.score.results import score_clips
from e2etts.score.utterance_lists import read_folder

pytest.importorskip("pyworld")
pytest.importorskip("librosa")
RATE_HZ = 16000
BINS = np.linspace(0, np.pi, 513)
WARPED = BINS + 2 * np.arctan(mcd_f0.WARP * np.sin(BINS) / (1 - mcd_f0.WARP * np.cos(BINS)))


def power(*c: float) -> np.ndarray:
    """(1, bins) power spectrum whose mel cepstrum is c."""
    return np.exp(2 * sum(x * np.cos(m * WARPED) for m, x in enumerate(c)))[None]


def voiced(hz, seconds: float = 1.0) -> np.ndarray:
    """Harmonics of a pitch, constant or (samples,), with a little noise."""
    n = int(seconds * RATE_HZ)
    hz = np.broadcast_to(hz, n)
    phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
    wav = sum(0.8**k * np.cos(k * phase) for k in range(1, 20) if k * hz.max() < 7600)
    noise = np.random.default_rng(0).normal(0, 0.001, n)
    return (0.1 * wav + noise).astype(np.float32)


def test_mel_cepstrum_of_a_known_envelope():
    c = mcd_f0.mel_cepstrum(np.concatenate([power(0.7, 0.5, 0, -0.2), power(2.7, 0.5, 0, -0.2)]))
    assert c.shape == (2, mcd_f0.COEFFICIENTS + 1)
    np.testing.assert_allclose(c[0, :5], [0.7, 0.5, 0, -0.2, 0], atol=1e-4)
    np.testing.assert_allclose(c[1, 1:], c[0, 1:], atol=1e-9)  # loudness is the first alone


def test_distortion_of_known_envelopes():
    a, b = (mcd_f0.mel_cepstrum(np.repeat(power(0, 0.5, x), 7, 0))[:, 1:] for x in (0.0, 0.3))
    assert mcd_f0.distortion_db(a, a) == 0
    # one coefficient differs by 0.3: 10 / ln 10 * sqrt(2) * 0.3
    assert mcd_f0.distortion_db(a, b) == pytest.approx(10 / np.log(10) * np.sqrt(2) * 0.3, rel=1e-3)


def test_another_speed_is_no_distortion():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20, mcd_f0.COEFFICIENTS))
    slow = np.repeat(a, [3 if i % 2 else 1 for i in range(20)], 0)
    i, j = mcd_f0.align(slow, a)
    assert mcd_f0.distortion_db(slow[i], a[j]) == pytest.approx(0, abs=1e-9)
    assert (i[0], j[0], i[-1], j[-1]) == (0, 0, len(slow) - 1, 19)
    assert set(np.diff(i)) <= {0, 1} and set(np.diff(j)) <= {0, 1}


def test_pitch_of_known_tones():
    (a, b) = (mcd_f0.pitch(voiced(hz))[0] for hz in (220.0, 200.0))
    found = mcd_f0.pitch_errors(a, b)
    assert found["f0_rmse_hz"] == pytest.approx(20, abs=0.5)
    assert found["f0_rmse_cents"] == pytest.approx(1200 * np.log2(1.1), abs=4)
    assert found["voicing_error"] < 0.03


def test_pitch_that_moves_alike_correlates():
    up, down = np.linspace(150, 300, RATE_HZ), np.linspace(300, 150, RATE_HZ)
    rising, falling = (mcd_f0.pitch(voiced(hz))[0] for hz in (up, down))
    assert mcd_f0.pitch_errors(mcd_f0.pitch(voiced(up * 1.2))[0], rising)["f0_correlation"] > 0.99
    assert mcd_f0.pitch_errors(falling, rising)["f0_correlation"] < -0.99


def test_pitch_of_silence_is_not_zero_error():
    found = mcd_f0.pitch_errors(np.zeros(100), np.full(100, 200.0))
    assert found["f0_rmse_hz"] is None and found["f0_correlation"] is None
    assert found["voicing_error"] == 1
    assert mcd_f0.pitch_errors(np.full(20, 210.0), np.full(20, 200.0))["f0_correlation"] is None


@pytest.fixture
def pairs(tmp_path):
    """a: twice as long as its recording; b: without one; c: not readable."""
    for folder in ("out", "refs"):
        (tmp_path / folder).mkdir()
    soundfile.write(tmp_path / "out/a.wav", voiced(220.0, 1.0), RATE_HZ)
    soundfile.write(tmp_path / "refs/a.wav", voiced(200.0, 0.5), RATE_HZ)
    soundfile.write(tmp_path / "out/b.wav", voiced(220.0, 0.5), RATE_HZ)
    (tmp_path / "out/c.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "refs/c.wav", voiced(200.0, 0.5), RATE_HZ)
    return tmp_path


def test_pairs_in_a_folder(pairs):
    clips = read_folder(pairs / "out", name="mine", lang="en", refs=pairs / "refs")
    assert [c.utt for c in clips] == ["a", "b", "c"]
    found = score_clips(clips, pairs, ScoreConfig(metrics=("mcd", "f0", "duration"), workers=1),
                        0, "", lambda line: None)
    figures = found["details"]["mine"]["out"]["metrics"]
    assert figures["duration"]["mean"] == 2.0
    assert figures["f0"]["f0_rmse_hz"] == pytest.approx(20, abs=1)
    assert figures["mcd"]["mean"] > 0
    assert all((f["scored"], f["expected"]) == (1, 3) for f in figures.values())
    assert [p["clip"] for p in found["problems"]] == ["mine/out/c"]
    assert {(f["clip"], f["metric"]) for f in found["failures"]} == {
        ("mine/out/b", m) for m in ("mcd", "f0", "duration")}
    assert all("refs/b.wav is missing" in f["problem"] for f in found["failures"])
    assert found["scoring"]["measured"] == 2  # a and c once: f0 is known from mcd


def test_a_recipes_clips_are_paired_with_their_recordings(tmp_path):
    from made_up import make_experiment

    clips = read_clips(make_experiment(tmp_path / "exp") / "wavs")
    targets = {(c.system, c.utt): c.target and c.target.parent.parent.name for c in clips}
    assert targets["tts", "u1"] == "recording" and targets["recording", "u1"] is None
    assert targets["tts", "s1"] is None
