"""The validator finds each fault with its location, and skips only faulty utterances."""

import os

import numpy as np
import pytest
import soundfile

from e2etts.bin.main import main
from e2etts.data.datadir import DataDir
from e2etts.data.validate import Limits, clean_directory, validate
from e2etts.errors import UserError

RATE = 16000


def tone(seconds=1.0, rate=RATE, level=0.3):
    return (level * np.sin(np.arange(round(seconds * rate)) * 0.05)).astype(np.float32)


@pytest.fixture
def data(tmp_path):
    """A good set of four utterances, one second each."""
    utts = ["a", "b", "c", "d"]
    for utt in utts:
        soundfile.write(tmp_path / f"{utt}.wav", tone(), RATE)
    folder = tmp_path / "set"
    DataDir(dict.fromkeys(utts, "some words"), dict.fromkeys(utts, "en"),
            dict.fromkeys(utts, "s"), {u: str(tmp_path / f"{u}.wav") for u in utts}).save(folder)
    return folder


def findings_of(folder):
    return [str(f) for f in validate(folder, Limits())]


def test_a_good_set_has_no_findings(data):
    assert findings_of(data) == []


def break_audio(data, kind):
    path = data.parent / "b.wav"
    if kind == "missing":
        path.unlink()
    elif kind == "damaged":
        path.write_bytes(b"RIFF and then nonsense")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:30])
    elif kind == "empty file":
        path.write_bytes(b"")
    elif kind == "zero length":
        soundfile.write(path, tone()[:0], RATE)
    elif kind == "rate":
        soundfile.write(path, tone(rate=8000), 8000)
    elif kind == "stereo":
        soundfile.write(path, np.stack([tone(), tone()], 1), RATE)
    elif kind == "nan":
        wav = tone()
        wav[100:103] = np.nan
        soundfile.write(path, wav, RATE, subtype="FLOAT")
    elif kind == "clipped":
        soundfile.write(path, np.clip(tone(level=0.9) * 3, -1, 1), RATE)
    elif kind == "too short for its text":
        soundfile.write(path, tone(0.1), RATE)
    elif kind == "too long for its text":
        soundfile.write(path, tone(20), RATE)


@pytest.mark.parametrize("kind, reason", [
    ("missing", "no such file"), ("damaged", "unreadable audio"),
    ("truncated", "unreadable audio"), ("empty file", "unreadable audio"),
    ("zero length", "zero length"), ("rate", "8000 Hz, expected 16000"),
    ("stereo", "2 channels"), ("nan", "3 samples are not numbers"), ("clipped", "at full scale"),
    ("too short for its text", "100.0 characters a second"),
    ("too long for its text", "0.5 characters a second")])
def test_each_fault_of_audio_is_found_with_its_place(data, kind, reason):
    break_audio(data, kind)
    (finding,) = findings_of(data)
    assert finding.startswith(f"{data / 'wav.scp'}:2: b: ") and reason in finding


@pytest.mark.parametrize("name, content, place, reason", [
    ("text", "a some words\nb some words\nb again\nc some words\nd some words\n", "text:3: b",
     "occurs twice, first on line 2"),
    ("text", "a some words\nc some words\nb some words\nd some words\n", "text:3: b",
     "out of order"),
    ("text", "a some words\nb\nc some words\nd some words\n", "text:2: b", "empty value"),
    ("text", "a some words\nb " + "word " * 90 + "\nc some words\nd some words\n", "text:2: b",
     "449 characters, at most 400"),
    ("utt2spk", "a s\nc s\nd s\n", "utt2spk:0: b", "missing here, but in text:2"),
    ("utt2emo", "a sad\nz sad\n", "utt2emo:2: z", "not in the other files"),
    ("wav.scp", "a {a}\nb sph2pipe {b} |\nc {c}\nd {d}\n", "wav.scp:2: b", "a command"),
])
def test_each_fault_of_files_is_found_with_its_place(data, name, content, place, reason):
    paths = {u: str(data.parent / f"{u}.wav") for u in "abcd"}
    (data / name).write_text(content.format(**paths))
    findings = [f for f in findings_of(data) if place in f]
    assert len(findings) == 1 and reason in findings[0]


def test_bytes_that_are_not_utf8_are_found_once(data):
    (data / "text").write_bytes(b"a some words\nb \xe9t\xe9\nc some words\nd some words\n")
    (finding,) = findings_of(data)
    assert "text:2: b: not UTF-8" in finding


def test_missing_files_and_directories(data, tmp_path):
    (data / "utt2lang").unlink()
    assert findings_of(data) == [f"{data / 'utt2lang'}:0: missing file"]
    with pytest.raises(UserError, match="no such data directory"):
        validate(tmp_path / "none", Limits())


def test_an_empty_set_is_a_finding(data):
    for name in ("text", "utt2lang", "utt2spk", "wav.scp"):
        (data / name).write_text("")
    assert findings_of(data) == [f"{data / 'text'}:0: no utterances"]


def test_fail_names_the_first_finding_and_changes_nothing(data):
    break_audio(data, "stereo")
    before = (data / "text").read_bytes()
    with pytest.raises(UserError, match="wav.scp:2: b: .*2 channels"):
        clean_directory(data, Limits(), "fail")
    assert (data / "text").read_bytes() == before and not (data / "skipped.tsv").exists()


def test_skip_leaves_out_the_faulty_and_lists_them(data):
    break_audio(data, "nan")
    (data / "text").write_text("c some words\na some words\nb some words\nd\n")
    clean_directory(data, Limits(), "skip")
    assert DataDir.load(data, need_wav=True).utts == ["a", "c"]
    listed = (data / "skipped.tsv").read_text()
    assert "b\twav.scp:2\t" in listed and "d\ttext:4\tempty value" in listed
    assert findings_of(data) == [] and not [n for n in os.listdir(data) if n.endswith(".part")]


def test_a_later_clean_run_removes_the_old_list(data):
    (data / "skipped.tsv").write_text("old")
    clean_directory(data, Limits(), "skip")
    assert not (data / "skipped.tsv").exists()


def test_skip_never_empties_a_set(data):
    for utt in "abcd":
        (data.parent / f"{utt}.wav").unlink()
    with pytest.raises(UserError, match="all 4 utterances have faults"):
        clean_directory(data, Limits(), "skip")
    assert len(DataDir.load(data)) == 4


def test_skip_cannot_repair_a_missing_file(data):
    (data / "utt2spk").unlink()
    with pytest.raises(UserError, match="missing file"):
        clean_directory(data, Limits(), "skip")


def test_relative_paths_start_at_the_current_folder(data, monkeypatch):
    (data / "wav.scp").write_text("".join(f"{u} {u}.wav\n" for u in "abcd"))
    monkeypatch.chdir(data.parent)
    assert validate(data, Limits()) == []
    monkeypatch.chdir(data)
    assert len(validate(data, Limits())) == 4


def test_the_command(data, capsys):
    assert main(["validate", str(data)]) == 0
    break_audio(data, "rate")
    assert main(["validate", str(data)]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert "8000 Hz" in shown[0] and shown[-1].startswith("e2etts validate: error: findings in")
    assert main(["validate", str(data), "--policy", "skip"]) == 0
    assert main(["validate", str(data)]) == 0
    assert main(["validate", str(data), "--rate", "8000"]) == 2
