"""Systems on the same utterances: differences, confidence intervals and p-values.

Legend: R runs of a system (training seeds), N utterances, S bootstrap samples.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from e2etts.errors import UserError
from e2etts.score.score_files import read_scores

# Metrics that are a ratio of sums over utterances: where in a row, summands of the numerator, and
# the denominator. Any other is a number of each utterance.
RATIOS = {"wer": ("errors", ("substituted", "deleted", "inserted"), "words"),
          "cer": ("errors", ("char_edits",), "chars"),
          "rtf": ("metrics.rtf", ("work_seconds",), "speech_seconds"),
          "seed_tts_eval_corpus_wer": ("metrics.seed_tts_eval_wer", ("edits",), "words")}
PATHS = {"dnsmos": "dnsmos.ovrl", "seed_tts_eval_wer": "metrics.seed_tts_eval_wer.wer"}

Rows = dict[tuple[str, str], dict[str, Any]]  # (set, utterance) -> row of a score file


class Counts(NamedTuple):
    """A metric of R runs on N utterances: the value of a run is top.sum() / bottom.sum()."""

    top: np.ndarray
    bottom: np.ndarray

    def values(self) -> np.ndarray:
        """(R,) value of each run."""
        return self.top.sum(1) / self.bottom.sum(1)


class Estimate(NamedTuple):
    """A value with its 95 % interval and the two-sided p-value of its being zero; None where there
    is only one run of one utterance."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    runs: int
    utts: int


def estimate(a: Counts, b: Counts | None = None, *, samples: int = 2000,
             seed: int = 0) -> Estimate:
    """Mean over runs of a metric, or with ``b`` of its difference a - b, paired by run and by
    utterance.

    Two things vary, crossed with each other: which utterances a test set holds, and the chance of
    training. Utterances are drawn with replacement, the same for all runs and both systems (Bisani
    and Ney, ICASSP 2004). The variance between runs beyond the draws is added to that: a
    bootstrap of both would count their interaction three times (Owen, arXiv 0712.1111). With so
    few runs a normal interval is too narrow: it is Student's t, with Satterthwaite's degrees of
    freedom. With three runs it covers 88 to 96 % in simulations, least where runs and utterances
    vary alike. Raises ValueError where the shapes of a and b differ.
    """
    if b is not None and a.top.shape != b.top.shape:
        raise ValueError(f"a has shape {a.top.shape}, b {b.top.shape}")
    runs, utts = a.top.shape
    each = a.values() - (0.0 if b is None else b.values())
    value = float(each.mean())
    if runs * utts == 1:
        return Estimate(value, None, None, None, runs, utts)
    draws = np.random.default_rng(seed).multinomial(utts, np.full(utts, 1 / utts), samples)
    drawn = _rates(a, draws) - (0.0 if b is None else _rates(b, draws))  # (S, R)
    by_utts = float(drawn.mean(1).var(ddof=1)) if utts > 1 else 0.0
    by_runs = 0.0
    if runs > 1:
        interaction = (float(drawn.var(0, ddof=1).mean()) - by_utts) / (runs - 1)
        by_runs = max(0.0, float(each.var(ddof=1)) / runs - max(0.0, interaction))
    return _student(value, by_utts, by_runs, runs, utts)


def _rates(counts: Counts, draws: np.ndarray) -> np.ndarray:
    return (draws @ counts.top.T) / (draws @ counts.bottom.T)


def _student(value: float, by_utts: float, by_runs: float, runs: int, utts: int) -> Estimate:
    from scipy.stats import t

    variance = by_utts + by_runs
    if variance < 1e-24:  # all utterances of all runs agree
        return Estimate(value, value, value, float(abs(value) < 1e-12), runs, utts)
    inverse = (by_utts**2 / (utts - 1) if utts > 1 else 0.0) + \
        (by_runs**2 / (runs - 1) if runs > 1 else 0.0)
    freedom, error = variance**2 / inverse, variance**0.5
    half = float(t.ppf(0.975, freedom)) * error
    return Estimate(value, value - half, value + half,
                    float(2 * t.sf(abs(value) / error, freedom)), runs, utts)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for their number by the step-down method of Holm (1979): at any level, the
    chance of one or more false rejections is at most that level. None stays None and counts not."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    out, highest = list(p_values), 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        out[i] = highest
    return out


def read_rows(path: str | Path, system: str | None = None) -> Rows:
    """Rows of ``system`` in a score file (see ``read_scores``); without it, of the only one, or
    of tts. Rows that name no system are of any.

    Raises UserError where there is no such system.
    """
    scores = read_scores(Path(path))
    systems = {name for name, _, _ in scores} - {""}
    system = system or (systems.pop() if len(systems) == 1 else "tts")
    rows = {(name, utt): row for (of, name, utt), row in scores.items() if of in (system, "")}
    if not rows:
        raise UserError(f"{path}: no scores of '{system}', name one with --system; systems: "
                        f"{', '.join(sorted(systems)) or 'none'}")
    return rows


def metrics_of(rows: Rows) -> list[str]:
    """Names of all metrics with a number in some row."""
    names = dict.fromkeys(["wer", "cer", "sim", "dnsmos",
                           *(k for row in rows.values() for k in row.get("metrics", {}))])
    return [m for m in names if any(counts_of(row, m) for row in rows.values())]


def counts_of(row: dict[str, Any], metric: str) -> tuple[float, float] | None:
    """(top, bottom) of one utterance; None where the metric did not run on it. ``metric``: a name
    of RATIOS or PATHS, of a metric of ``e2etts score``, or the path of a number in the row."""
    if metric not in RATIOS:
        value = _number(row, metric)
        return None if value is None else (value, 1.0)
    where, tops, bottom = RATIOS[metric]
    found = _at(row, where)
    return (float(sum(found[k] for k in tops)), float(found[bottom])) if found else None


def _number(row: dict[str, Any], metric: str) -> float | None:
    path = PATHS.get(metric, metric)
    value = _at(row, path)
    value = _at(row, f"metrics.{path}") if value is None else value
    return float(value) if isinstance(value, (int, float)) else None


def _at(row: dict[str, Any], path: str) -> Any:
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def common(systems: Sequence[Sequence[Rows]], metric: str,
           sets: Sequence[str] | None = None) -> tuple[list[Counts], int] | None:
    """Counts of each system over the utterances that all runs of all systems have scored, and how
    many utterances were left out because some run lacks them. None where nothing is left."""
    every = [rows for runs in systems for rows in runs]
    keys = sorted({key for rows in every for key in rows if not sets or key[0] in sets})
    found = [[counts_of(rows[key], metric) if key in rows else None for rows in every]
             for key in keys]
    whole = [v for v in found if all(v)]
    # Where the metric ran in no run, the utterance is of a set that it does not measure.
    lacking = sum(any(v) and not all(v) for v in found)
    if not whole:
        return None
    table = np.array(whole, float).transpose(2, 1, 0)  # (top or bottom, runs of all systems, N)
    ends = np.cumsum([len(runs) for runs in systems])[:-1]
    return [Counts(*part) for part in np.split(table, ends, axis=1)], lacking


def compare(systems: Sequence[Sequence[Rows]], metrics: Sequence[str], sets: Sequence[str] | None,
            samples: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(means of each system over the utterances of all its runs, differences of the first system
    and each other one over the utterances of both), a row for each metric and system. The systems
    are called A, B, ..."""
    return ([row for m in metrics for row in _own_means(systems, m, sets, samples)],
            [row for m in metrics for row in _differences(systems, m, sets, samples)])


def _own_means(systems: Sequence[Sequence[Rows]], metric: str, sets: Sequence[str] | None,
               samples: int) -> list[dict[str, Any]]:
    out = []
    for i, runs in enumerate(systems):
        if found := common([runs], metric, sets):
            (counts,), _ = found
            e = estimate(counts, samples=samples)
            out.append({"metric": metric, "system": letter(i), "mean": e.value, "low": e.low,
                        "high": e.high, "utts": e.utts, "runs": counts.values().tolist()})
    return out


def _differences(systems: Sequence[Sequence[Rows]], metric: str, sets: Sequence[str] | None,
                 samples: int) -> list[dict[str, Any]]:
    out = []
    for i, other in enumerate(systems[1:], 1):
        if found := common([systems[0], other], metric, sets):
            (first, second), left_out = found
            e = estimate(first, second, samples=samples)
            out.append({"metric": metric, "a_name": "A", "b_name": letter(i),
                        "a": float(first.values().mean()), "b": float(second.values().mean()),
                        "difference": e.value, "low": e.low, "high": e.high, "p": e.p,
                        "utts": e.utts, "runs": e.runs, "left_out": left_out})
    return out


def letter(i: int) -> str:
    return chr(ord("A") + i)
