"""``e2etts score --wavs``: any folder of wavs, by every metric that can run."""

import json

import numpy as np
import pytest
import soundfile
from made_up import Loud, ToyMeter, tone

from e2etts.bin.main import main
from e2etts.score.judges import emotion_classifiers
from e2etts.score.measure import ScoreCache
from e2etts.score.meter import Meter, WavJob, each
from e2etts.score.metrics import wer
from e2etts.score.metrics.registry import REGISTRY


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "out").mkdir()
    for i, utt in enumerate("ab"):
        soundfile.write(tmp_path / f"out/{utt}.wav", tone(0.5 + i, 300, i), 24000)
    (tmp_path / "texts.lst").write_text("a|one\nb|two\nc|three\n")
    return tmp_path


def test_every_metric_is_there_and_what_cannot_run_is_listed(folder, capsys):
    command = ["score", "--wavs", "out", "--metrics",
               "style,utmos,mcd,f0,duration,emotion,tokens,rtf,seed_tts_eval", "score.workers=1"]
    assert main(command) == 0
    found = json.loads((folder / "out_scores/results.json").read_text())
    assert {r["metric"] for r in found["not_run"]} == set(REGISTRY) - {"wer", "sim", "dnsmos"}
    assert all(r["reason"] and r["remedy"] for r in found["not_run"])
    assert "metrics" not in found["details"]["out"]["out"]
    page = (folder / "out_scores/RESULTS.md").read_text()
    assert "## Not run" in page and "SpeechMOS" in page and "--times FILE" in page
    printed = capsys.readouterr()
    assert "2 clips scored of 2 expected" in printed.out and " 0.0 %" not in printed.out


def test_times_and_labels(folder, monkeypatch, capsys):
    class Ear(Meter):
        name = "emotion"

        def key(self, lang):
            return "ear"

        def labels(self):
            return ["glad", "sad"]

        def open(self, device):
            return each(lambda wav, lang: "sad" if len(wav) < 16000 else "glad")

    monkeypatch.setattr(emotion_classifiers, "find", lambda config: Ear())
    (folder / "times").write_text("a 0.25\nb 0.25\n")
    (folder / "emo").write_text("a sad\nb sad\nc glad\n")
    assert main(["score", "--wavs", "out", "--list", "texts.lst", "--lang", "en", "--name", "mine",
                 "--times", "times", "--emotions", "emo", "--metrics", "rtf,emotion",
                 "--out", "here", "score.workers=1", "score.models.emotion=ear"]) == 0
    found = json.loads((folder / "here/results.json").read_text())
    figures = found["details"]["mine"]["texts"]["metrics"]
    # 0.5 s of work for a third of a second and one second: not the mean of 0.75 and 0.25
    assert figures["rtf"] == {"real_time_factor": 0.375, "scored": 2, "expected": 3}
    assert figures["emotion"] == {"accuracy": 0.5, "unweighted_accuracy": 0.5, "scored": 2,
                                  "expected": 3}
    assert "mine texts: rtf: real_time_factor 0.375 (2 scored of 3 expected)" in \
        capsys.readouterr().out
    rows = [json.loads(line) for line in (folder / "here/scores.jsonl").read_text().splitlines()]
    assert rows[0]["metrics"] == {
        "rtf": {"work_seconds": 0.25, "speech_seconds": pytest.approx(1 / 3)},
        "emotion": "sad", "emotion_right": 1.0}
    # The comparison takes the same figure as the table, not a mean over clips.
    assert main(["compare", "here", "--metric", "rtf"]) == 0
    assert "| rtf    | A | 0.3750 |" in capsys.readouterr().out
    assert rows[2]["problem"] == "missing" and rows[0]["wav"] == "../out/a.wav"
    (folder / "emo").write_text("a angry\nb sad\n")
    assert main(["score", "--wavs", "out", "--emotions", "emo", "--metrics", "emotion",
                 "score.workers=1", "score.models.emotion=ear"]) == 0
    refused = json.loads((folder / "out_scores/results.json").read_text())["not_run"][0]
    assert "'angry', its labels are glad, sad" in refused["reason"]  # and is not 0 % right


def test_what_a_foreign_folder_may_hold(folder, capsys, monkeypatch):
    """A list of Windows, other suffixes, files beyond the list, and wavs without sound."""
    lines = "a|one\nb|two\nempty|three\nnan|four\njunk|five\nd|six\n"
    (folder / "texts.lst").write_bytes(b"\xef\xbb\xbf" + lines.replace("\n", "\r\n").encode())
    (folder / "out/b.wav").rename(folder / "out/b.WAV")
    soundfile.write(folder / "out/d.flac", tone(0.3, 300), 22050)
    soundfile.write(folder / "out/e.wav", tone(0.3, 300), 16000)
    soundfile.write(folder / "out/empty.wav", [], 16000)
    soundfile.write(folder / "out/nan.wav", np.full(9, np.nan), 16000, subtype="FLOAT")
    (folder / "out/junk.wav").write_text("no wav")
    monkeypatch.setattr(wer, "find_recognizer", lambda config, warn: ToyMeter("one"))
    command = ["score", "--wavs", "out", "--list", "texts.lst", "--lang", "en", "--set", "foreign",
               "--metrics", "wer", "score.workers=1"]
    assert main(command) == 0
    found = json.loads((folder / "out_scores/results.json").read_text())
    assert {p["clip"].rpartition("/")[2]: p["problem"].removeprefix("unreadable: ")[:19]
            for p in found["problems"]} == {
        "empty": "no samples", "nan": "samples that are no", "junk": "Error opening 'out/"}
    assert all("texts.lst:" in p["where"] for p in found["problems"])
    printed = capsys.readouterr()
    # "one" is recognised for "one", "two" and "six"
    assert "out foreign: WER, %: 66.7; CER, %: 66.7 (3 scored of 6 expected)" in printed.out
    assert "not in texts.lst and so not scored: 1 of out, the first e.wav" in printed.err
    soundfile.write(folder / "out/d.wav", tone(0.3, 300), 16000)
    assert main(command) == 2 and "are both 'd'" in capsys.readouterr().err
    (folder / "texts.lst").write_bytes(b"a|one\nb|\xff\n")
    (folder / "out/d.wav").unlink()
    assert main(command) == 2 and "texts.lst:2: not UTF-8" in capsys.readouterr().err


def test_word_errors_of_a_list(folder, capsys):
    pytest.importorskip("pocketsphinx")
    assert main(["score", "--wavs", "out", "--list", "texts.lst", "--lang", "en", "--metrics",
                 "wer", "score.recognizer=pocketsphinx", "score.workers=1"]) == 0
    found = json.loads((folder / "out_scores/results.json").read_text())
    assert found["other_systems"]["out"]["texts"]["n"] == 2
    assert found["details"]["out"]["texts"]["expected"] == 3
    assert "out texts: WER" in capsys.readouterr().out


@pytest.mark.parametrize(("more", "printed"), [
    (["--wavs", "none"], "no such folder"), (["--wavs", "cache"], "no such folder"),
    (["--wavs", "out", "--list", "texts.lst"], "needs --lang"),
    (["--wavs", "out", "--lang", "English"], "such as en"),
    (["--wavs", "out", "--refs", "none"], "none: no such folder"),
    (["--wavs", "out", "--list", "none.lst", "--lang", "en"], "none.lst: cannot read (No such"),
    (["--wavs", "out", "--metrics", "mos"], "nearest 'utmos'"),
    (["--wavs", "out", "score.models.wavlm=x"], "nearest 'wavlm-sv'"),
    (["--wavs", "out", "seed=3"], "only score.KEY=VALUE")])
def test_user_errors_are_named(folder, capsys, more, printed):
    assert main(["score", *more]) == 2
    assert printed in capsys.readouterr().err


def test_batches_hold_one_language_and_one_bad_clip_spoils_no_other(tmp_path):
    jobs = []
    for i, seconds in enumerate((0.2, 0.4, 0.3, 0.1)):
        soundfile.write(tmp_path / f"{i}.wav", (i != 2) * tone(seconds, 300), 16000)
        jobs.append(WavJob(tmp_path / f"{i}.wav", "fr" if i == 3 else "en"))
    meter = Loud(tmp_path)
    found = ScoreCache(tmp_path / "c.json").measure(meter, jobs, 1, ("left",))
    assert [found[j] for j in jobs] == ["left 3200", "left 6400",
                                        {"error": "RuntimeError: silence"}, "left 1600"]
    assert meter.sizes == [2, 1, 1, 1, 1]  # the longest two, each alone, then the rest


def test_each_device_has_its_process(tmp_path):
    jobs = []
    for i in range(12):
        soundfile.write(tmp_path / f"{i}.wav", tone(0.1 + i / 50, 300), 16000)
        jobs.append(WavJob(tmp_path / f"{i}.wav", "en"))
    found = ScoreCache(tmp_path / "c.json").measure(Loud(tmp_path), jobs, 1, ("left", "right"))
    assert (tmp_path / "left").exists() and (tmp_path / "right").exists()
    assert {value.split()[0] for value in found.values()} <= {"left", "right"}
    assert len(found) == 12
