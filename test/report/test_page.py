import json

import numpy as np
import pytest
import soundfile
from made_up import ToyMeter, add_set, make_experiment, tone

from e2etts.bin.main import main
from e2etts.errors import UserError
from e2etts.report.charts import histogram, line_chart, thin, ticks
from e2etts.report.media import RANGE_DB, ROWS, spectrogram_db
from e2etts.report.page import report_html
from e2etts.report.training_curves import curves, read_records, training_section
from e2etts.score.config import ScoreConfig
from e2etts.score.metrics import wer
from e2etts.score.results import score_experiment


def test_ticks_are_round():
    assert ticks(0, 1) == [0, 0.25, 0.5, 0.75, 1]
    assert ticks(3, 17) == [5, 10, 15]
    assert ticks(2, 2) == [2]


def test_long_curves_are_thinned_to_means():
    points = [(i, float(i % 2)) for i in range(1000)]
    assert len(thin(points, 100)) == 100 and {y for _, y in thin(points, 100)} == {0.5}
    assert line_chart([("a", "train", [])], "x", "x", "y") == ""
    assert "<circle" in line_chart([("a", "dev", [(1, 2.0)])], "x", "x", "y")
    assert histogram([0, 0], "x") == ""


def test_spectrogram_shows_where_a_tone_is():
    picture = spectrogram_db(tone(1.0, 1000), 16000)
    assert picture.shape[0] == ROWS and -RANGE_DB <= picture.min() <= picture.max() <= 0
    assert abs(np.argmax(picture.mean(1)) - 1000 / 8000 * ROWS) <= 1


def test_half_lines_and_null_losses_are_left_out(tmp_path):
    exp = make_experiment(tmp_path / "exp")
    found = curves(read_records(exp / "lm" / "log.jsonl"))
    assert len(found["loss"]["train"]) == 30 and len(found["lm"]["train"]) == 29
    assert len(found["loss"]["dev"]) == 3
    assert read_records(exp / "nowhere") == []


def test_health_is_charted_together_and_recoveries_are_marked_and_told(tmp_path):
    exp = make_experiment(tmp_path / "exp")
    with (exp / "lm" / "log.jsonl").open("w") as log:
        for step in range(1, 5):
            log.write(json.dumps({"step": step, "split": "train", "loss": 1.0, "seconds": 1,
                                  "q_grad_fm": 10.0 ** step, "q_grad_lm": 0.0}) + "\n")
        log.write(json.dumps({"step": 3, "split": "recovered", "back_to": 1, "lr_scale": 0.7,
                              "reason": "<fm> jumped"}) + "\n")
        log.write(json.dumps({"step": 2, "split": "warning", "what": "length",
                              "message": "step 2: samples are too long"}) + "\n")
        log.write(json.dumps({"step": 4, "split": "dev", "rm_error": 0.3, "judge_error": 0.5,
                              "loss": 1.0}) + "\n")
    page = training_section(exp)
    assert "&lt;fm&gt; jumped; back to step 1, then at 0.7 of the learning rate" in page
    assert "lm: step 2: samples are too long" in page and "back_to" not in page
    for event in ("recovered", "warning"):
        assert page.count(f'class="{event}"') == 2  # loss and gradients; of dev there is one step
    gradients = page[page.index("Gradient at q"):].partition("</div>")[0]
    assert "fm, last 1e+04" in gradients and "lm, last 0" in gradients
    assert "fm: last 4<" in page and "lm: last" not in gradients  # log10, of 0 there is none
    errors = page[page.index("Errors recognised"):].partition("</div>")[0]
    assert "judge_error, last 0.5" in errors and "rm_error, last 0.3" in errors


def test_a_stage_of_another_name_is_charted_too(tmp_path):
    exp = make_experiment(tmp_path / "exp")
    (exp / "judge").mkdir()
    (exp / "judge" / "log.jsonl").write_text(
        "".join(json.dumps({"step": s, "split": "train", "loss": 1.0 / s}) + "\n" for s in (1, 2)))
    assert "loss of stage judge against training steps" in training_section(exp)


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


def test_scored_folders_stand_beside_each_other(folders, capsys):
    assert main(["report", "--scores", "seed0,seed1,other", "--out", "page.html"]) == 0
    page = (folders / "page.html").read_text()
    # Two of one name are told apart by their folders, the third needs none.
    for said in ("mine (seed0)", "mine (seed1)", "other"):
        assert f"WER texts, {said}" in page and f"<h3>{said}</h3>" in page
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
