import json

import numpy as np
import pytest
from made_up import make_experiment, tone

from e2etts.errors import UserError
from e2etts.score.charts import histogram, line_chart, thin, ticks
from e2etts.score.config import ScoreConfig
from e2etts.score.media import RANGE_DB, ROWS, spectrogram_db
from e2etts.score.report import report_html
from e2etts.score.training import curves, read_records, training_section


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
    errors = page[page.index("Errors heard"):].partition("</div>")[0]
    assert "judge_error, last 0.5" in errors and "rm_error, last 0.3" in errors


def test_a_stage_of_another_name_is_charted_too(tmp_path):
    exp = make_experiment(tmp_path / "exp")
    (exp / "judge").mkdir()
    (exp / "judge" / "log.jsonl").write_text(
        "".join(json.dumps({"step": s, "split": "train", "loss": 1.0 / s}) + "\n" for s in (1, 2)))
    assert "loss of stage judge against training steps" in training_section(exp)


def test_the_report_needs_results(tmp_path):
    with pytest.raises(UserError, match="run e2etts score first"):
        report_html(make_experiment(tmp_path / "exp"), ScoreConfig())


def test_a_broken_score_is_named(tmp_path):
    exp = make_experiment(tmp_path / "exp")
    (exp / "results.json").write_text(json.dumps({"systems": {}}))
    (exp / "scores.jsonl").write_text('{"system": "tts", "set": "a", "utt": "b"}\n{}\n')
    with pytest.raises(UserError, match=r"scores.jsonl:2: not a score"):
        report_html(exp, ScoreConfig())
