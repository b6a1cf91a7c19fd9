"""Two systems on the same utterances: how large is the difference, and could it be chance?

Legend: R runs of a system (training seeds), N utterances, S bootstrap samples.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from e2etts.errors import UserError

# Metrics that are a ratio of sums over utterances; any other is a number of each utterance.
RATIOS = {"wer": ("edits", "words"), "cer": ("char_edits", "chars")}

Rows = dict[tuple[str, str], dict[str, Any]]  # (set, utterance) -> row of a score file


class Counts(NamedTuple):
    """A metric of R runs on N utterances: the value of a run is top.sum() / bottom.sum()."""

    top: np.ndarray
    bottom: np.ndarray

    def values(self) -> np.ndarray:
        """(R,) value of each run."""
        return self.top.sum(1) / self.bottom.sum(1)


class Estimate(NamedTuple):
    """A value with its 95 % interval and the p-value of its being zero (two-sided); None where
    one run of one utterance says nothing of chance."""

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
    and Ney, ICASSP 2004). To that variance is added what the runs differ in beyond the draws: a
    bootstrap of both ways would count their interaction three times (Owen, arXiv 0712.1111). So
    few runs make a normal interval too narrow: it is Student's t, with Satterthwaite's degrees of
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
    if variance < 1e-24:  # every utterance of every run says the same
        return Estimate(value, value, value, float(abs(value) < 1e-12), runs, utts)
    inverse = (by_utts**2 / (utts - 1) if utts > 1 else 0.0) + \
        (by_runs**2 / (runs - 1) if runs > 1 else 0.0)
    freedom, error = variance**2 / inverse, variance**0.5
    half = float(t.ppf(0.975, freedom)) * error
    return Estimate(value, value - half, value + half,
                    float(2 * t.sf(abs(value) / error, freedom)), runs, utts)


def read_rows(path: str | Path, system: str = "tts") -> Rows:
    """Rows of ``system`` in a score file: JSON objects, one a line, as ``e2etts score`` writes
    them. A folder means its scores.jsonl. Rows that name no system are of any.

    Raises UserError naming file:line for what is not a score, for an utterance that occurs twice,
    and where there is no such system.
    """
    path = Path(path)
    path = path / "scores.jsonl" if path.is_dir() else path
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as e:
        raise UserError(f"{path}: cannot read ({e.strerror}): run e2etts score first") from e
    rows: Rows = {}
    systems = set()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            key = (str(row.get("set", "")), str(row["utt"]))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise UserError(f"{path}:{number}: not a score: want a JSON object with 'utt'") from e
        systems.add(str(row.get("system", system)))
        if row.get("system", system) != system:
            continue
        if key in rows:
            raise UserError(f"{path}:{number}: '{key[1]}' occurs twice: remove one of the lines")
        rows[key] = row
    if not rows:
        raise UserError(f"{path}: no scores of '{system}'; systems: "
                        f"{', '.join(sorted(systems)) or 'none'}")
    return rows


def counts_of(row: dict[str, Any], metric: str) -> tuple[float, float] | None:
    """(top, bottom) of one utterance; None where the metric did not run on it. ``metric``: wer,
    cer, or the path of a number such as sim or dnsmos.ovrl."""
    if metric in RATIOS:
        errors = row.get("errors")
        if not errors:
            return None
        values = {**errors, "edits": sum(errors[k] for k in ("substituted", "deleted",
                                                             "inserted"))}
        top, bottom = (float(values[k]) for k in RATIOS[metric])
        return top, bottom
    value: Any = row
    for part in metric.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else (float(value), 1.0)


def paired(a: Sequence[Rows], b: Sequence[Rows], metric: str,
           sets: Sequence[str] | None = None) -> tuple[Counts, Counts, int] | None:
    """Counts of both systems over the utterances that all their runs have scored, and how many
    utterances were left out because some run lacks them. None where nothing is left.

    Raises ValueError for different numbers of runs."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} runs against {len(b)}: they are compared in pairs")
    every = {key for rows in (*a, *b) for key in rows if not sets or key[0] in sets}
    found = {key: [counts_of(rows[key], metric) if key in rows else None for rows in (*a, *b)]
             for key in sorted(every)}
    whole = [v for v in found.values() if all(v)]
    # An utterance on which the metric ran nowhere belongs to a set that it does not measure.
    lacking = sum(any(v) and not all(v) for v in found.values())
    if not whole:
        return None
    table = np.array(whole, float).transpose(2, 1, 0)  # (top or bottom, runs of a and b, N)
    first, second = (Counts(*table[:, rows]) for rows in (slice(len(a)), slice(len(a), None)))
    return first, second, lacking
