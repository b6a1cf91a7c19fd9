"""Charts and spectrograms of the report."""

import numpy as np
from made_up import tone

from e2etts.report.charts import histogram, line_chart, thin, ticks
from e2etts.report.media import RANGE_DB, ROWS, spectrogram_db


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
