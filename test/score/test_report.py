import json

import numpy as np
import pytest
from made_up import make_experiment, tone

from e2etts.errors import UserError
from e2etts.score.charts import histogram, line_chart, thin, ticks
from e2etts.score.config import ScoreConfig
from e2etts.score.media import RANGE_DB, ROWS, spectrogram_db
from e2etts.score.report import read_curves, report_html


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
    curves = read_curves(exp / "lm" / "log.jsonl")
    assert len(curves["loss"]["train"]) == 30 and len(curves["lm"]["train"]) == 29
    assert len(curves["loss"]["dev"]) == 3
    assert read_curves(exp / "nowhere") == {}


def test_the_report_needs_results(tmp_path):
    with pytest.raises(UserError, match="run e2etts score first"):
        report_html(make_experiment(tmp_path / "exp"), ScoreConfig())


def test_a_broken_score_is_named(tmp_path):
    exp = make_experiment(tmp_path / "exp")
    (exp / "results.json").write_text(json.dumps({"systems": {}}))
    (exp / "scores.jsonl").write_text('{"system": "tts", "set": "a", "utt": "b"}\n{}\n')
    with pytest.raises(UserError, match=r"scores.jsonl:2: not a score"):
        report_html(exp, ScoreConfig())
