import json

import numpy as np
import pytest
from made_up import ToyMeter, add_set, make_experiment, write_manifest

from e2etts.config import build
from e2etts.errors import UserError
from e2etts.report.results_markdown import results_markdown
from e2etts.score.config import ScoreConfig
from e2etts.score.judges import resemblyzer
from e2etts.score.judges.dnsmos_p835 import WINDOW_SAMPLES, windows
from e2etts.score.judges.recognizers import SphinxMeter
from e2etts.score.measure import ScoreCache
from e2etts.score.meter import WavJob, loop_to, pack
from e2etts.score.metrics import wer
from e2etts.score.metrics.sim import cosine, mean_embedding
from e2etts.score.results import score_experiment

pytest.importorskip("whisper_normalizer")
WER_ONLY = ScoreConfig(metrics=("wer",), workers=1, bootstrap_samples=50)


@pytest.fixture
def toy(monkeypatch):
    meter = ToyMeter()
    monkeypatch.setattr(wer, "find_recognizer", lambda config, warn: meter)
    return meter


def score(exp, config=WER_ONLY):
    printed = []
    return score_experiment(exp, config, seed=3, command="./run.sh", say=printed.append), printed


def test_results_have_the_agreed_shape(tmp_path, toy):
    exp = make_experiment(tmp_path / "exp")
    found, _ = score(exp)
    assert json.loads((exp / "results.json").read_text()) == found
    assert set(found["systems"]) == {"recording", "vocoded", "copy", "tts"}
    assert found["systems"]["vocoded"] == {}  # there is no such speech here
    assert set(found["systems"]["tts"]) == {"test_en", "sentences_es"}
    cell = found["systems"]["tts"]["test_en"]
    assert set(cell) == {"wer", "wer_ci", "cer", "sim", "dnsmos", "n"}
    # "say one and two" against "three four", and "three four" against itself
    assert cell["n"] == 2 and 0 < cell["wer"] < 1 and len(cell["wer_ci"]) == 2
    assert found["train_seconds"] == 90.5 and found["peak_gib"] >= 2.5 and found["seed"] == 3
    assert found["wall_seconds"] >= 105 and found["stages"][-1]["name"] == "score"
    assert found["hardware"] and found["commit"] and found["units"]["wer"]
    same = found["paired"]["test_en"]["tts - copy"]
    assert same == {"difference": 0, "ci": [0, 0], "p": 1, "n": 2}


def test_metrics_that_do_not_run_are_listed_and_never_zero(tmp_path, toy):
    found, printed = score(make_experiment(tmp_path / "exp"))
    assert found["systems"]["tts"]["test_en"]["sim"] is None
    assert {r["metric"] for r in found["not_run"]} == {"sim", "dnsmos"}
    page = results_markdown(found)
    assert "## Not run" in page and "score.metrics" in page and any("not run" in s for s in printed)


def test_missing_and_unreadable_wavs_are_counted_and_listed(tmp_path, toy):
    exp = make_experiment(tmp_path / "exp")
    folder = exp / "wavs" / "tts" / "test_en"
    (folder / "u1.wav").unlink()
    (folder / "u2.wav").write_bytes(b"no sound")
    found, printed = score(exp)
    assert found["expected"] == 7 and found["scored"] == 5
    assert found["systems"]["tts"]["test_en"] == {
        "wer": None, "wer_ci": None, "cer": None, "sim": None, "dnsmos": None, "n": 0}
    assert found["details"]["tts"]["test_en"]["missing"] == 1
    assert found["details"]["tts"]["test_en"]["unreadable"] == 1
    assert [p["clip"] for p in found["problems"]] == ["tts/test_en/u1", "tts/test_en/u2"]
    assert any("manifest.jsonl:1" in s and "missing" in s for s in printed)
    page = results_markdown(found)
    assert "0 of 2" in page and "5 scored of 7 expected" in page


def test_a_second_run_measures_nothing(tmp_path, toy):
    exp = make_experiment(tmp_path / "exp")
    first, _ = score(exp)
    calls = toy.calls
    assert first["scoring"]["measured"] == calls == 7
    second, _ = score(exp)
    assert toy.calls == calls and second["scoring"]["from_cache"] == 7
    assert second["systems"] == first["systems"]
    (exp / "score_cache.json").write_text("{damaged")
    assert score(exp)[0]["systems"] == first["systems"] and toy.calls == 2 * calls


def test_equal_sound_is_measured_once_and_changed_sound_again(tmp_path):
    exp, meter = tmp_path / "exp", ToyMeter()
    for system in ("copy", "tts"):
        add_set(exp, system, "test_en", {"u1": "a"}, hz=200)
    jobs = [WavJob(exp / "wavs" / s / "test_en" / "u1.wav", "en") for s in ("copy", "tts")]
    cache = ScoreCache(exp / "cache.json")
    assert len(cache.measure(meter, jobs, 1)) == 2 and meter.calls == 1
    add_set(exp, "tts", "test_en", {"u1": "a"}, hz=500)
    ScoreCache(exp / "cache.json").measure(meter, jobs, 1)
    assert meter.calls == 2


def test_worker_processes_give_what_one_process_gives(tmp_path):
    pytest.importorskip("pocketsphinx")
    add_set(tmp_path, "tts", "test_en", {"u1": "a", "u2": "b"})
    jobs = [WavJob(tmp_path / "wavs/tts/test_en" / f"{u}.wav", "en") for u in ("u1", "u2")]
    one = ScoreCache(tmp_path / "a.json").measure(SphinxMeter(), jobs, 1)
    assert ScoreCache(tmp_path / "b.json").measure(SphinxMeter(), jobs, 2) == one


def test_a_model_that_does_not_load_is_a_users_error(tmp_path):
    class Broken(ToyMeter):
        def open(self, device):
            raise RuntimeError("bad magic")

    add_set(tmp_path, "tts", "test_en", {"u1": "a"})
    with pytest.raises(UserError, match="bad magic"):
        ScoreCache(tmp_path / "c.json").measure(
            Broken(), [WavJob(tmp_path / "wavs/tts/test_en/u1.wav", "en")], 1)


def test_a_hub_model_that_does_not_load_is_a_metric_that_did_not_run(tmp_path, monkeypatch):
    class HalfFetched(ToyMeter):
        remedy = "hf download"

        def open(self, device):
            raise OSError("no weights")

    monkeypatch.setattr(wer, "find_recognizer", lambda config, warn: HalfFetched())
    found, _ = score(make_experiment(tmp_path / "exp"))
    assert found["not_run"][0]["metric"] == "wer"
    assert "no weights" in found["not_run"][0]["reason"]
    assert found["systems"]["tts"]["test_en"]["wer"] is None


def test_pocketsphinx_leaves_other_languages_without_wer(tmp_path, monkeypatch):
    class EnglishOnly(ToyMeter):
        def understands(self, lang):
            return lang == "en"

    monkeypatch.setattr(wer, "find_recognizer", lambda config, warn: EnglishOnly())
    found, printed = score(make_experiment(tmp_path / "exp"))
    assert found["systems"]["tts"]["sentences_es"]["wer"] is None
    assert found["systems"]["tts"]["test_en"]["wer"] is not None
    assert found["not_run"][0]["sets"] == ["sentences_es"]
    assert any("sentences_es" in s and "get_whisper" in s for s in printed)


def test_a_reference_without_words_is_noted(tmp_path, toy):
    write_manifest(tmp_path / "exp/wavs/tts/test_en", [])
    add_set(tmp_path / "exp", "tts", "test_en", {"u1": "[music]", "u2": "three four"})
    found, _ = score(tmp_path / "exp")
    assert found["details"]["tts"]["test_en"]["with_wer"] == 1
    assert found["systems"]["tts"]["test_en"]["wer"] == 0
    rows = (tmp_path / "exp/scores.jsonl").read_text().splitlines()
    assert "no words" in json.loads(rows[0])["notes"][0]


def test_own_recording_is_no_reference_of_its_copy(tmp_path, monkeypatch):
    exp = make_experiment(tmp_path / "exp")
    reference = exp / "wavs/recording/test_en/u1.wav"
    rows = [json.loads(line) for line in
            (exp / "wavs/copy/test_en/manifest.jsonl").read_text().splitlines()]
    for row in rows:
        row["references"] = [f"../../recording/test_en/{u}.wav" for u in ("u1", "u2")]
    write_manifest(exp / "wavs/copy/test_en", rows)
    vectors = {"u1": [1.0, 0.0], "u2": [0.0, 1.0]}

    def measure(self, meter, jobs, workers, devices=()):
        return {j: pack(np.array(vectors.get(j.path.stem, [0.6, 0.8]))) for j in jobs}

    monkeypatch.setattr(ScoreCache, "measure", measure)
    monkeypatch.setattr(resemblyzer, "require", lambda *a: None)
    score(exp, ScoreConfig(metrics=("sim",), workers=1))
    rows = [json.loads(line) for line in (exp / "scores.jsonl").read_text().splitlines()]
    copies = {r["utt"]: r["sim"] for r in rows if r["system"] == "copy"}
    assert copies == {"u1": 0.0, "u2": 0.0} and reference.exists()  # each against the other only
    assert all(r["sim"] is None for r in rows if r["system"] == "tts")  # no references given


def test_short_clips_are_looped():
    assert loop_to(np.arange(3), 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert len(loop_to(np.arange(9), 7)) == 9
    assert [len(w) for w in windows(np.zeros(100))] == [WINDOW_SAMPLES]
    assert len(windows(np.zeros(WINDOW_SAMPLES + 5 * 16000))) == 3


def test_voices():
    voice = mean_embedding([pack(np.array([1.0, 0.0])), pack(np.array([0.0, 1.0]))])
    assert cosine(pack(np.array([1.0, 0.0])), voice) == pytest.approx(0.5**0.5)
    assert cosine(None, voice) == 0.0 and mean_embedding([]) is None


def test_settings_are_checked():
    assert build(ScoreConfig, {"metrics": ["wer"], "recognizer": "x"}).metrics == ("wer",)
    with pytest.raises(UserError, match="no metric 'mos'"):
        build(ScoreConfig, {"metrics": ["mos"]})
    config = ScoreConfig(report_clips={"test_en": 2, "": 1})
    assert (config.clips_of("test_en"), config.clips_of("test_es")) == (2, 1)
    assert ScoreConfig(report_clips={}).clips_of("x") == 0
