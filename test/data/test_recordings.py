"""Segments are exactly their samples; conversion changes only what does not match."""

import numpy as np
import pytest
import soundfile
import torch
from made_corpus import AUDIO, run_prepare

from e2etts.audio import log_mel
from e2etts.data.datadir import AudioSpan, DataDir, read_table
from e2etts.data.dataset import MelDataset
from e2etts.data.recordings import converted, header, read
from e2etts.data.sampler import Element
from e2etts.data.validate import Limits, clean_directory, faultless, validate
from e2etts.errors import UserError
from e2etts.text import TextConfig

RATE = 16000


def noise(seconds, seed=0):
    return 0.2 * np.random.default_rng(seed).standard_normal(int(seconds * RATE)).clip(-4, 4)


@pytest.fixture
def segmented(tmp_path):
    """Three utterances of two recordings of 4 s; the last one runs to the end of its own."""
    for name, seed in (("r1", 1), ("r2", 2)):
        soundfile.write(tmp_path / f"{name}.wav", noise(4, seed), RATE, "PCM_16")
    utts = ("a", "b", "c")
    data = DataDir(dict.fromkeys(utts, "some words"), dict.fromkeys(utts, "en"),
                   dict.fromkeys(utts, "s"), {r: str(tmp_path / f"{r}.wav") for r in ("r1", "r2")},
                   segments={"a": "r1 0.5 1.5", "b": "r1 2 3.25", "c": "r2 3 -1"})
    data.save(tmp_path / "data/train")
    return tmp_path


def test_a_segment_is_its_samples(segmented):
    data = DataDir.load(segmented / "data/train")
    whole = soundfile.read(segmented / "r1.wav", dtype="float32")[0]
    wav, rate = read(data.source("b"))
    assert rate == RATE and np.array_equal(wav[:, 0], whole[2 * RATE : int(3.25 * RATE)])
    assert header(data.source("b")) == (RATE, 1, int(1.25 * RATE))
    assert header(data.source("c")).seconds == 1.0


def test_a_segment_may_end_at_most_half_a_second_past_the_audio(segmented):
    path = str(segmented / "r1.wav")
    assert header(AudioSpan(path, 3.0, 4.4)).seconds == 1.0
    for source in (AudioSpan(path, 3.0, 4.6), AudioSpan(path, 5.0, None)):
        with pytest.raises(UserError, match="its 4.00 s do not hold the segment"):
            header(source)


def test_prepare_cuts_segments(segmented):
    dump = run_prepare(segmented, sets=["train"], text=TextConfig(phonemes=False))
    data = DataDir.load(segmented / "data/train")
    item = MelDataset(dump / "train", AUDIO, with_wav=True)[Element((1,), 0)]
    wav = torch.from_numpy(read(data.source("b"))[0][:, 0])
    torch.testing.assert_close(item.mel[:62], log_mel(wav, AUDIO)[:62])
    assert torch.equal(item.wav[: 62 * 320], wav[: 62 * 320])
    assert read_table(dump / "train/wav.scp") == {
        u: str(dump / f"train/wav/{u}.wav") for u in "abc"}
    assert not (dump / "train/segments").exists()


@pytest.mark.parametrize("line, message", [
    ("b r1 3 2", "no valid interval"), ("b r1 2", "expected 'recording start end'"),
    ("b r9 2 3", "recording 'r9' is not in wav.scp"), ("b r1 3 7", "do not hold the segment")])
def test_a_broken_segment_is_found_and_left_out(segmented, line, message):
    folder = segmented / "data/train"
    (folder / "segments").write_text(f"a r1 0.5 1.5\n{line}\nc r2 3 -1\n")
    (finding,) = [str(f) for f in validate(folder, Limits())]
    assert finding.startswith(f"{folder / 'segments'}:2: b: ") and message in finding
    if "hold" not in message:
        with pytest.raises(UserError, match="segments:2: 'b'"):
            DataDir.load(folder)
    clean_directory(folder, Limits(), "skip")
    assert DataDir.load(folder).utts == ["a", "c"]


def test_recordings_without_utterances_go_with_them(segmented):
    left = DataDir.load(segmented / "data/train").subset(["c"])
    assert list(left.wav) == ["r2"] and list(left.segments) == ["c"]


def test_a_header_has_rate_and_length_but_does_not_detect_damage(segmented):
    folder, headers = segmented / "data/train", Limits(samples=False)
    wav = noise(4)
    wav[2 * RATE + 5] = np.nan
    soundfile.write(segmented / "r1.wav", wav, RATE, "FLOAT")
    assert validate(folder, headers) == []
    assert "samples are not numbers" in str(validate(folder, Limits())[0])
    assert len(validate(folder, Limits(samples=False, sample_rate_hz=24000))) == 3


def test_results_do_not_depend_on_workers(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1), RATE)
    utts = [f"u{i:03d}" for i in range(500)]
    wav = {u: str(tmp_path / ("none.wav" if i % 7 == 0 else "a.wav")) for i, u in enumerate(utts)}
    DataDir(dict.fromkeys(utts, "some words"), dict.fromkeys(utts, "en"), dict.fromkeys(utts, "s"),
            wav).save(tmp_path / "set")
    alone, together = (validate(tmp_path / "set", Limits(), workers=n) for n in (1, 2))
    assert alone == together and len(alone) == 72


def test_conversion_changes_only_audio_that_does_not_match(tmp_path):
    t = np.arange(48000) / 48000
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(tmp_path / "high.flac", np.stack([tone, tone], 1), 48000)
    soundfile.write(tmp_path / "fits.wav", noise(1), RATE)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    utts = ("broken", "fits", "high", "none")
    files = {"broken": "broken.wav", "fits": "fits.wav", "high": "high.flac", "none": "none.wav"}
    data = DataDir(dict.fromkeys(utts, "words"), dict.fromkeys(utts, "en"),
                   dict.fromkeys(utts, "s"), {u: str(tmp_path / f) for u, f in files.items()})
    out, wrong = converted(data, tmp_path / "new", RATE)
    assert out.utts == ["fits", "high"] and out.wav["fits"] == data.wav["fits"]
    assert "unreadable audio" in wrong["broken"] and "no such file" in wrong["none"]
    wav, rate = soundfile.read(out.wav["high"])
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert rate == RATE and np.abs(wav - wanted)[200:-200].max() < 0.01
    before = (tmp_path / "new/high.wav").stat().st_mtime_ns
    converted(data, tmp_path / "new", RATE)
    assert (tmp_path / "new/high.wav").stat().st_mtime_ns == before
    soundfile.write(tmp_path / "high.flac", np.stack([-tone, -tone], 1), 48000)
    converted(data, tmp_path / "new", RATE)
    assert soundfile.read(tmp_path / "new/high.wav")[0][100] == pytest.approx(-wav[100], abs=1e-4)


def test_conversion_never_overwrites_a_recording(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1), 8000)
    before = (tmp_path / "a.wav").read_bytes()
    data = DataDir({"a": "t"}, {"a": "en"}, {"a": "s"}, {"a": str(tmp_path / "a.wav")})
    with pytest.raises(UserError, match="would overwrite the recording"):
        converted(data, tmp_path, RATE)
    assert (tmp_path / "a.wav").read_bytes() == before


def test_faultless_leaves_the_directory_as_it_was(segmented):
    folder = segmented / "data/train"
    (folder / "text").write_text("a some words\nb\nc some words\n")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    data, findings = faultless(folder, Limits())
    assert data.utts == ["a", "c"] and [f.utt for f in findings] == ["b"]
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
