"""Means with intervals, and differences with p-values, from the records of runs."""

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from e2etts.ablation.experiment import Experiment
from e2etts.ablation.store import Results
from e2etts.score.compare import Counts, Estimate, estimate

Record = dict[str, Any]
Columns = dict[str, list]
# Name of a metric -> the columns whose sums are divided; None counts utterances.
METRICS = {"wer": ("edits", "words"), "cer": ("char_edits", "chars"), "sim": ("sim", None),
           "dnsmos": ("dnsmos", None)}
RECOGNITION = {"labels": ("edits", "labels"), "speaker": ("speaker_right", None)}
TOKENS = ("entropy_bits", "mutual_information_bits", "mutual_information_plug_in_bits",
          "mutual_information_shuffled_bits", "used_share")

Take = Callable[[Record], Columns]


def records(experiment: Experiment, results: Results) -> dict[str, list[Record]]:
    """System -> records of its measured runs, by seed; none of a system that has not run."""
    out: dict[str, list[Record]] = {name: [] for name in experiment.config.systems}
    for run in experiment.runs:
        record = results.of(run)
        if record is not None:
            out[run.system].append(record)
    return out


def training_seconds(runs: list[Record]) -> float | None:
    """A system's median over its runs, None without any. Budgets are audio; time on a machine that
    did other work or was halted would spoil a mean."""
    return statistics.median(r["train_seconds"] for r in runs) if runs else None


def spoken(kind: str, sets: tuple[str, ...]) -> Take:
    """Columns of one kind of speech, "tts" or "copy", sets joined."""
    return lambda record: joined([record["scores"].get(kind, {}).get(s, {}) for s in sets])


def recognised(sets: tuple[str, ...]) -> Take:
    """Columns of the RM's recognition of recordings."""
    return lambda record: joined([record["recognition"].get(s, {}) for s in sets])


def joined(tables: list[Columns]) -> Columns:
    """Columns of several sets below each other."""
    return {name: [v for t in tables for v in t.get(name, [])]
            for name in dict.fromkeys(n for t in tables for n in t)}


def counts(tables: list[Columns], metric: tuple[str, str | None]) -> Counts | None:
    """Of tables of the same utterances, one a run; an utterance on which the metric failed in one
    of them is left out of all. None where nothing is left. Raises ValueError for tables of other
    utterances."""
    top_name, bottom_name = metric
    if not tables or any(top_name not in t for t in tables):
        return None
    if any(t["utts"] != tables[0]["utts"] for t in tables):
        raise ValueError("tables of different utterances")
    top = np.array([[np.nan if v is None else float(v) for v in t[top_name]] for t in tables])
    bottom = np.array([[np.nan if v is None else float(v) for v in t[bottom_name]]
                       for t in tables]) if bottom_name else np.ones_like(top)
    whole = np.isfinite(top + bottom).all(0)
    return Counts(top[:, whole], bottom[:, whole]) if whole.any() else None


def cell(runs: list[Record], take: Take, metric: tuple[str, str | None]) -> Estimate | None:
    """A system's mean over its runs, None without any or where the metric did not run."""
    found = counts([take(r) for r in runs], metric)
    return None if found is None else estimate(found)


def difference(a: list[Record], b: list[Record], take: Take,
               metric: tuple[str, str | None]) -> Estimate | None:
    """Of the runs with seeds that both systems have, on the same utterances."""
    pairs = same_seeds(a, b)
    both = counts([take(r) for pair in zip(*pairs, strict=True) for r in pair] if pairs[0] else [],
                  metric)
    if both is None:
        return None
    return estimate(Counts(both.top[::2], both.bottom[::2]),
                    Counts(both.top[1::2], both.bottom[1::2]))


def token_cell(runs: list[Record], name: str) -> Estimate | None:
    """A token statistic: its mean over runs, None without any."""
    return estimate(_single(runs, name)) if runs else None


def token_difference(a: list[Record], b: list[Record], name: str) -> Estimate | None:
    """Of the runs with seeds that both systems have."""
    a, b = same_seeds(a, b)
    return estimate(_single(a, name), _single(b, name)) if a else None


def unscored(record: Record) -> list[str]:
    """Where a metric failed on some clips of a run, as "2 of 60 clips of copy test_en without wer":
    they are left out of its cells, and of its comparisons on both sides."""
    out = []
    for kind, sets in record["scores"].items():
        for name, columns in sets.items():
            for metric, (top, _) in METRICS.items():
                lacking, count = columns[top].count(None), len(columns[top])
                if 0 < lacking < count:  # all: not run, which is listed once for all runs
                    out.append(f"{lacking} of {count} clips of {kind} {name} without {metric}")
    return out


def events(runs: list[Record]) -> list[str]:
    """Events in the training of these runs: recoveries from loss spikes, trip-wires,
    and steps that were not finite. A stage that runs share is listed once, for the first."""
    out: dict[str, list[str]] = {}
    for r in runs:
        for unit in r["units"]:
            some = list(unit.get("events", []))  # older records do not have them
            if unit["skipped_steps"]:
                some.append(f"{unit['skipped_steps']} steps were not finite")
            out.setdefault(unit["key"], [
                f"{r['system']}-seed{r['seed']}, stage {unit['stage']}: {what}" for what in some])
    return [line for lines in out.values() for line in lines]


def _single(runs: list[Record], name: str) -> Counts:
    values = np.array([[r["tokens"][name]] for r in runs], float)
    return Counts(values, np.ones_like(values))


def same_seeds(a: list[Record], b: list[Record]) -> tuple[list[Record], list[Record]]:
    """The runs of both systems with seeds that both have, in the same order."""
    left, right = ({r["seed"]: r for r in runs} for runs in (a, b))
    seeds = [s for s in left if s in right]
    return [left[s] for s in seeds], [right[s] for s in seeds]
