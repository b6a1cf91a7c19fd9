import json

import numpy as np
import pytest
from made_up import make_experiment

from e2etts.report.page import report_html
from e2etts.report.results_markdown import results_markdown
from e2etts.score.config import ScoreConfig
from e2etts.score.results import score_experiment
from e2etts.stages.reward_model import (
    Recognised,
    equal_error_rate,
    summarise_rm,
    text_errors,
    verification,
)


def eer(same_scores, other_scores):
    score = np.array([*same_scores, *other_scores], float)
    same = np.array([True] * len(same_scores) + [False] * len(other_scores))
    order = np.argsort(score, kind="stable")
    return equal_error_rate(score[order], same[order], np.ones(len(score)))


def test_equal_error_rate_by_hand():
    assert eer([0.8, 0.9], [0.1, 0.2]) == 0
    assert eer([0.1, 0.2], [0.8, 0.9]) == 1
    # One of four of either kind is on the wrong side of 0.5.
    assert eer([0.4, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.55]) == pytest.approx(0.25)
    assert eer([0.5] * 3, [0.5] * 5) == pytest.approx(0.5)  # nothing is told apart


def test_equal_error_rate_of_two_normal_distributions():
    random = np.random.default_rng(0)
    got = eer(random.normal(2, 1, 20000), random.normal(0, 1, 20000))
    assert got == pytest.approx(0.1587, abs=0.01)  # the normal tail beyond one deviation
    score, weight = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 2, 1, 3])
    same = np.array([False, True, False, True])
    repeated = [np.repeat(x, weight.astype(int)) for x in (score, same)]
    assert equal_error_rate(score, same, weight) == pytest.approx(
        equal_error_rate(*repeated, np.ones(7)))


def test_verification_of_clear_and_of_mixed_voices():
    random = np.random.default_rng(0)
    speakers = [s for s in "abc" for _ in range(8)]
    axes = dict(zip("abc", np.eye(3), strict=True))
    clear = verification(speakers, [axes[s] + 0.1 * random.standard_normal(3) for s in speakers],
                         100, 0)
    assert clear["eer"] == 0 and clear["same"] == 3 * 28 and clear["different"] == 3 * 64
    mixed = verification(speakers, list(random.standard_normal((24, 3))), 100, 0)
    assert 0.35 < mixed["eer"] < 0.65 and mixed["eer_ci"][0] < mixed["eer"] < mixed["eer_ci"][1]
    assert verification(["a", "a"], [np.ones(2)] * 2, 10, 0) is None
    assert verification(["a", "b"], [np.ones(2)] * 2, 10, 0) is None
    many = verification(["a", "b"] * 500, list(random.standard_normal((1000, 3))), 5, 0)
    assert many is None or many["utterances"] <= 400


def test_words_are_compared_without_punctuation():
    errors = text_errors("wʌn, tuː θɹiː.", "wʌn tuː fɔːɹ")
    assert (errors.edits, errors.words) == (1, 3)
    assert text_errors(".", "wʌn") is None


def made(name, text, got, emotion=None, speaker=None, voice=None):
    return Recognised(name, {"ctc": text_errors(text, got)}, emotion, speaker, voice)


def test_numbers_by_set_and_over_all():
    heard = [made("x", "a b c", "a b", ("fast", "fast"), ("s", "s")),
             made("x", "a", "a", ("slow", "fast")), made("x", "b b", "b b", ("slow", "slow")),
             made("y", "a b", "c d", ("slow", "slow")), made("y", "a", "a")]
    found = summarise_rm(heard, 100, 0)
    x, every = found["sets"]["x"], found["sets"]["all"]
    assert x["ctc"]["wer"] == pytest.approx(1 / 6) and x["ctc"]["words"] == 6
    assert "attention" not in x and x["n"] == 3
    assert x["emotion"]["accuracy"] == pytest.approx(2 / 3) and x["emotion"]["labelled"] == 3
    assert x["emotion"]["mean_recall"] == pytest.approx((1 + 0.5) / 2)
    assert x["speaker"]["accuracy"] == 1 and "speaker" not in found["sets"]["y"]
    assert every["n"] == 5 and every["emotion"]["labelled"] == 4
    assert every["ctc"]["wer"] == pytest.approx(3 / 9)
    low, high = every["ctc"]["wer_ci"]
    assert low < 3 / 9 < high and found["speaker"] is None


def test_the_rm_alone_is_in_results_tables_and_report(tmp_path):
    exp = make_experiment(tmp_path / "exp")
    config = ScoreConfig(metrics=(), workers=1, bootstrap_samples=20)
    before = score_experiment(exp, config, 0, "x", say=lambda line: None)
    assert "rm" not in before and "Reward model alone" not in results_markdown(before)
    random = np.random.default_rng(0)
    heard = [made("test_en", "a b", "a c", None, (s, s), random.standard_normal(4))
             for s in "aabb"]
    (exp / "rm.json").write_text(json.dumps(
        {"system": "rm", "conditions": {"clean": summarise_rm(heard, 50, 0)}}))
    found = score_experiment(exp, config, 0, "x", say=lambda line: None)
    page = results_markdown(found)
    assert "| test_en, clean | 50.0 [50.0, 50.0] | – | – | 100.0 [100.0, 100.0] of 4 | 4 |" in page
    assert "equal error rate" in page and "(2 pairs of one speaker, 4 of two" in page
    html = report_html([exp], config)
    assert "<h2>Reward model alone</h2>" in html and "test_en, clean" in html
