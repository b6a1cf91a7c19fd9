import json

import pytest
import soundfile
from made_up import ToyMeter, add_set, make_experiment, tone

from e2etts.bin.main import main
from e2etts.errors import UserError
from e2etts.report.page import report_html
from e2etts.score.config import ScoreConfig
from e2etts.score.metrics import wer
from e2etts.score.results import score_experiment


def test_the_report_needs_results(tmp_path):
    with pytest.raises(UserError, match="run e2etts score first"):
        report_html([make_experiment(tmp_path / "exp")], ScoreConfig())


def test_a_broken_score_is_named(tmp_path):
    exp = make_experiment(tmp_path / "exp")
    (exp / "results.json").write_text(json.dumps({"systems": {}}))
    (exp / "scores.jsonl").write_text('{"system": "tts", "set": "a", "utt": "b"}\n{}\n')
    with pytest.raises(UserError, match=r"scores.jsonl:2: not a score"):
        report_html([exp], ScoreConfig())


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two systems that spoke the same list, and one of them once more with another seed."""
    pytest.importorskip("whisper_normalizer")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wer, "find_recognizer", lambda config, warn: ToyMeter("one"))
    (tmp_path / "texts.lst").write_text("a|one\nb|two\n")
    (tmp_path / "times").write_text("a 0.1\nb 0.2\n")
    for name, out in (("mine", "seed0"), ("mine", "seed1"), ("other", "other")):
        (tmp_path / f"wavs/{out}").mkdir(parents=True)
        soundfile.write(tmp_path / f"wavs/{out}/a.wav", tone(0.5, 300), 24000)
        assert main(["score", "--wavs", f"wavs/{out}", "--list", "texts.lst", "--lang", "en",
                     "--name", name, "--times", "times", "--out", out,
                     "--metrics", "wer,rtf,mcd", "score.workers=1"]) == 0
    return tmp_path


def test_scored_folders_are_shown_side_by_side(folders, capsys):
    assert main(["report", "--scores", "seed0,seed1,other", "--out", "page.html"]) == 0
    page = (folders / "page.html").read_text()
    # Two of one name are told apart by their folders, the third needs none.
    for title in ("mine (seed0)", "mine (seed1)", "other"):
        assert f"WER texts, {title}" in page and f"<h3>{title}</h3>" in page
    assert "<h3>other (" not in page
    assert page.count("<audio") == 3 and "No sound" in page  # b was spoken by none
    assert "<h2>rtf</h2>" in page and "real_time_factor" in page and "<td>1 of 2</td>" in page
    assert "other: mcd: no clip has a recording of the same text" in page
    assert "<code>seed1: mine/texts/b</code> (texts.lst:2): missing" in page
    assert "Only 3 of 6 expected clips" in page and "Recogniser: toy" in page
    assert page.count("<dt>command</dt>") == 3
    assert 'id="training"' not in page and 'href="#training"' not in page
    # One folder alone, after it was moved together with its wavs.
    (folders / "moved").mkdir()
    for part in ("wavs", "other"):
        (folders / part).rename(folders / "moved" / part)
    assert main(["report", "--scores", "moved/other", "--out", "page.html"]) == 0
    assert (folders / "page.html").read_text().count("<audio") == 1
    assert main(["report", "--scores", "nowhere"]) == 2
    assert "run e2etts score first" in capsys.readouterr().err


def test_recognisers_that_differ_are_named(folders):
    scored = json.loads((folders / "other/results.json").read_text())
    scored["recognizer"]["name"] = "an ear"
    (folders / "other/results.json").write_text(json.dumps(scored))
    page = report_html([folders / "seed0", folders / "other"], ScoreConfig())
    assert "different ones, whose error rates do not compare: an ear; toy" in page
    assert page.count("<h3>mine</h3>") == 2 and "mine (" not in page


def test_the_page_of_a_recipe_holds_every_metric(tmp_path):
    exp = make_experiment(tmp_path / "exp")
    score_experiment(exp, ScoreConfig(metrics=("duration", "rtf", "utmos"), workers=1), 0, "x",
                     say=lambda line: None)
    page = report_html([exp], ScoreConfig())
    assert "<h2>duration</h2>" in page and "<h2>rtf</h2>" in page and "<h2>Not run</h2>" in page
    assert 'href="#training"' in page and 'href="#tokens"' in page
    assert page.count("<audio") == 7
    other = tmp_path / "other"
    for system in ("tts", "tts_prompt"):
        add_set(other, system, "test_en", {"u1": "one two"})
    score_experiment(other, ScoreConfig(metrics=(), workers=1), 0, "x", say=lambda line: None)
    page = report_html([exp, other], ScoreConfig())
    for name in (f"text-to-speech ({exp})", f"text-to-speech ({other})", "voice prompt",
                 "copy synthesis"):
        assert f"<h3>{name}</h3>" in page, name
    assert page.count("<audio") == 9
