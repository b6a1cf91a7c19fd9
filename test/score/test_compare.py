import itertools
import json

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from e2etts.bin.main import main
from e2etts.errors import UserError
from e2etts.score.compare import (
    Counts,
    common,
    counts_of,
    estimate,
    holm,
    metrics_of,
    read_rows,
)


def mean_counts(values) -> Counts:
    values = np.atleast_2d(np.array(values, float))
    return Counts(values, np.ones_like(values))


def test_one_run_agrees_with_the_paired_t_test():
    random = np.random.default_rng(0)
    a = random.normal(0.3, 1, 80)
    b = a * 0.5 + random.normal(0, 0.5, 80)
    found, known = estimate(mean_counts(a), mean_counts(b), samples=20000), ttest_rel(a, b)
    assert found.value == pytest.approx((a - b).mean())
    assert found.p == pytest.approx(known.pvalue, rel=0.15)
    low, high = known.confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_one_utterance_of_several_runs_agrees_with_the_t_test_over_runs():
    a, b = np.array([[3.0], [4.0], [6.0]]), np.array([[2.0], [3.5], [4.0]])
    found = estimate(Counts(a, a * 0 + 1), Counts(b, b * 0 + 1))
    assert found.p == pytest.approx(ttest_rel(a[:, 0], b[:, 0]).pvalue)


def test_rates_are_ratios_of_sums_and_runs_weigh_the_same():
    counts = Counts(np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[10.0, 2.0], [10.0, 2.0]]))
    assert counts.values().tolist() == [0.25, 0.0]
    assert estimate(counts).value == 0.125


def test_equal_systems_and_a_single_observation():
    a = mean_counts([[1.0, 2.0, 4.0], [2.0, 3.0, 5.0]])
    same = estimate(a, a)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    constant = estimate(a, Counts(a.top - 1, a.bottom))
    assert (constant.value, constant.low, constant.high, constant.p) == (1, 1, 1, 0)
    assert estimate(mean_counts([[1.0]])).low is None
    with pytest.raises(ValueError, match="shape"):
        estimate(a, mean_counts([[1.0, 2.0]]))


def test_a_paired_bootstrap_by_hand():
    """All 27 draws of three utterances, equally likely, are enough to know its deviation."""
    a = Counts(np.array([[0.0, 2.0, 1.0]]), np.array([[2.0, 4.0, 2.0]]))
    b = Counts(np.array([[1.0, 2.0, 2.0]]), np.array([[2.0, 4.0, 2.0]]))
    draws = np.array(list(itertools.product(range(3), repeat=3)))
    differences = [a.top[0, d].sum() / a.bottom[0, d].sum()
                   - b.top[0, d].sum() / b.bottom[0, d].sum() for d in draws]
    found = estimate(a, b, samples=200_000)
    assert found.value == pytest.approx(3 / 8 - 5 / 8)
    error = (found.high - found.low) / 2 / t.ppf(0.975, 2)
    assert error == pytest.approx(np.std(differences), rel=0.01)
    assert found.p == pytest.approx(2 * t.sf(0.25 / error, 2))
    # Alone, each varies far more than their difference: pairing is what is paid for.
    alone = [estimate(x, samples=2000) for x in (a, b)]
    assert (found.high - found.low) ** 2 < sum((e.high - e.low) ** 2 for e in alone)


def test_intervals_of_error_rates_cover_what_they_claim():
    """Two systems, one run each: few errors, in clusters, on utterances of many lengths."""
    random, trials, utts = np.random.default_rng(2), 400, 150
    covered = 0
    for trial in range(trials):
        words = random.integers(3, 25, utts)
        hard = random.gamma(0.5, 2.0, utts)  # some utterances are hard for both
        tops = [random.poisson(rate * hard * words) for rate in (0.06, 0.04)]
        a, b = (Counts(top[None].astype(float), words[None].astype(float)) for top in tops)
        e = estimate(a, b, samples=300, seed=trial)
        covered += e.low <= 0.02 <= e.high
    assert 0.91 < covered / trials < 0.98


# (deviation of runs, of utterances, of both together): which of them rules should not matter.
@pytest.mark.parametrize("by_run,by_utt,by_both", [(0.0, 0.0, 1.0), (0.3, 0.0, 1.0),
                                                   (0.0, 1.0, 0.5), (1.0, 0.3, 0.5)])
def test_intervals_cover_what_they_claim(by_run, by_utt, by_both):
    random, trials, runs, utts = np.random.default_rng(1), 300, 3, 40
    covered, widths = 0, []
    for trial in range(trials):
        table = (0.5 + by_run * random.standard_normal((runs, 1))
                 + by_utt * random.standard_normal((1, utts))
                 + by_both * random.standard_normal((runs, utts)))
        e = estimate(mean_counts(table), mean_counts(table * 0), samples=200, seed=trial)
        covered += e.low <= 0.5 <= e.high
        widths.append(e.high - e.low)
    assert covered / trials > 0.87
    if not by_run:  # nor may they be wide for safety's sake
        true = 2 * 1.96 * (by_utt**2 / utts + by_both**2 / (runs * utts)) ** 0.5
        assert np.median(widths) < 1.35 * true


def score_file(path, edits, system="tts", words=10, **more):
    rows = [{"system": system, "set": "test_en", "utt": f"u{i}", "sim": 0.5 + 0.1 * e,
             "dnsmos": {"ovrl": 3.0}, "errors": {
                 "substituted": e, "deleted": 0, "inserted": 1, "words": words, "char_edits": e,
                 "chars": 40}, **more} for i, e in enumerate(edits)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_command_compares_runs_in_pairs(tmp_path, capsys):
    for seed in range(2):
        score_file(tmp_path / f"a{seed}" / "scores.jsonl", [seed, 1, 2, 1])
        score_file(tmp_path / f"b{seed}" / "scores.jsonl", [3, 4 + seed, 2])
    a, b = (",".join(str(tmp_path / f"{x}{s}") for s in range(2)) for x in "ab")
    assert main(["compare", a, b, "--json", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    wer, cer, sim, mos = json.loads((tmp_path / "out.json").read_text())["rows"]
    # u3 is missing in b: [0+1, 1+1, 2+1] and [1+1, ...] of 30 words; [4, 5, 3] and [4, 6, 3]
    assert wer["a"] == pytest.approx((6 / 30 + 7 / 30) / 2)
    assert wer["b"] == pytest.approx((12 / 30 + 13 / 30) / 2)
    assert wer["difference"] == pytest.approx(wer["a"] - wer["b"]) and wer["low"] < wer["high"]
    assert (wer["utts"], wer["runs"], wer["left_out"]) == (3, 2, 1)
    assert sim["difference"] < 0 and mos["p"] == 1.0 and cer["utts"] == 3
    assert "left out" in printed and "wer" in printed


def test_what_cannot_be_compared_is_one_line(tmp_path, capsys):
    a = score_file(tmp_path / "a.jsonl", [1, 2])
    other = score_file(tmp_path / "b.jsonl", [1, 2], system="copy")
    for arguments, message in [
            ((a, other, "--system", "tts"), "no scores of 'tts', name one with --system; systems: "
                                            "copy"),
            ((f"{a},{a}", other), "2 runs, 1 runs: runs are compared in pairs"),
            ((a, a, "--set", "test_es"), "no utterance was scored in all of"),
            ((a, tmp_path / "absent"), "run e2etts score first")]:
        assert main(["compare", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
    a.write_text(a.read_text() * 2)
    with pytest.raises(UserError, match=r"a\.jsonl:3: 'u0' occurs twice"):
        read_rows(a)
    a.write_text("{}\n")
    with pytest.raises(UserError, match=r"a\.jsonl:1: not a score"):
        read_rows(a)


def test_corrected_p_values_by_hand():
    """Holm's own steps: 3 x 0.01, then 2 x 0.02, and 0.03, which may not fall below it."""
    a, b, absent, c = holm([0.03, 0.01, None, 0.02])
    assert [a, b, c] == pytest.approx([0.04, 0.03, 0.04]) and absent is None
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == [] and holm([0.04]) == [0.04]


def test_any_number_of_a_score_file_is_a_metric():
    assert counts_of({"dnsmos": {"sig": 3.5}}, "dnsmos.sig") == (3.5, 1.0)
    assert counts_of({"dnsmos": None}, "dnsmos.sig") is None
    row = {("", "u"): {"mos": 4.0}}
    assert common([[row], [{("", "v"): {"mos": 2.0}}]], "mos") is None
    scored = {"set": "en", "metrics": {"seed_tts_eval_wer": {"wer": 0.5, "edits": 3, "words": 6},
                                       "mcd": 4.5, "tokens": "AAAA"}, "dnsmos": {"ovrl": 3.0}}
    assert counts_of(scored, "seed_tts_eval_wer") == (0.5, 1.0)
    assert counts_of(scored, "seed_tts_eval_corpus_wer") == (3.0, 6.0)
    assert counts_of(scored, "mcd") == (4.5, 1.0) and counts_of(scored, "tokens") is None
    assert metrics_of({("en", "u"): scored}) == ["dnsmos", "seed_tts_eval_wer", "mcd"]


def test_any_number_of_systems_of_any_name(tmp_path, capsys):
    files = [score_file(tmp_path / f"{name}{seed}" / "scores.jsonl", edits, system=name)
             for name, edits in (("ours", [1, 2, 0]), ("theirs", [2, 2, 2]), ("old", [4, 3, 5]))
             for seed in (0, 1)]
    pairs = [",".join(map(str, files[i : i + 2])) for i in (0, 2, 4)]
    assert main(["compare", *pairs, "--metric", "wer", "--json", str(tmp_path / "c.json")]) == 0
    found = json.loads((tmp_path / "c.json").read_text())
    assert [(r["system"], round(r["mean"], 4), len(r["runs"])) for r in found["means"]] == \
        [("A", 0.2, 2), ("B", 0.3, 2), ("C", 0.5, 2)]
    assert [(r["b_name"], round(r["difference"], 4)) for r in found["rows"]] == \
        [("B", -0.1), ("C", -0.3)]
    printed = capsys.readouterr().out
    assert "A: " in printed and "| wer    | A - C |" in printed and "0.2000 0.2000" in printed
    assert main(["compare", pairs[0]]) == 0  # one system: a table of its seeds
    printed = capsys.readouterr().out
    assert "| sim" in printed and "difference" not in printed
