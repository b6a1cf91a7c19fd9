"""The reward model on its own: what it recognises in the tokens of recordings."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from e2etts.score.wer import Errors, error_rates, errors_between, mean_interval, rate_interval
from e2etts.text import PUNCTUATION

READERS = ("ctc", "attention")
MOST_TRIAL_UTTS = 400  # 79,800 pairs


@dataclass
class Heard:
    """What the RM makes of one utterance: errors by reader, (true, recognised) emotion and speaker
    where the label is known, and the vector that its speaker head looks at."""

    set: str
    errors: dict[str, Errors] = field(default_factory=dict)
    emotion: tuple[str, str] | None = None
    speaker: tuple[str, str] | None = None
    voice: np.ndarray | None = None


def summarise_rm(heard: list[Heard], samples: int, seed: int) -> dict[str, Any]:
    """{"sets": {set: numbers}, "speaker": verification over all sets, or None}."""
    names = sorted({h.set for h in heard})
    sets = {name: _numbers([h for h in heard if h.set == name], samples, seed) for name in names}
    if len(names) > 1:
        sets["all"] = _numbers(heard, samples, seed)
    known = [(h.speaker[0], h.voice) for h in heard if h.speaker and h.voice is not None]
    return {"sets": sets, "speaker": verification(
        [s for s, _ in known], [v for _, v in known], samples, seed)}


def _numbers(heard: list[Heard], samples: int, seed: int) -> dict[str, Any]:
    out: dict[str, Any] = {"n": len(heard)}
    for reader in READERS:
        errors = [h.errors[reader] for h in heard if reader in h.errors]
        if errors:
            wer, cer = error_rates(errors)
            out[reader] = {"wer": wer, "wer_ci": rate_interval(errors, samples, seed),
                           "cer": cer, "words": sum(e.words for e in errors)}
    for task in ("emotion", "speaker"):
        pairs = [p for p in (getattr(h, task) for h in heard) if p]
        if pairs:
            right = [float(true == got) for true, got in pairs]
            recalls = [np.mean([r for r, (t, _) in zip(right, pairs, strict=True) if t == true])
                       for true in sorted({t for t, _ in pairs})]
            out[task] = {"accuracy": float(np.mean(right)), "labelled": len(pairs),
                         "accuracy_ci": mean_interval(right, samples, seed),
                         "mean_recall": float(np.mean(recalls)), "classes": len(recalls)}
    return out


def verification(speakers: list[str], voices: list[np.ndarray], samples: int,
                 seed: int) -> dict[str, Any] | None:
    """Equal error rate of the cosine between two utterances as evidence for one speaker, over all
    pairs (of at most MOST_TRIAL_UTTS utterances, evenly spread), with a 95 % bootstrap interval
    over utterances. None where there are no pairs of one, or of two speakers."""
    step = max(1, -(-len(speakers) // MOST_TRIAL_UTTS))
    speakers, voices = speakers[::step], voices[::step]
    if len(set(speakers)) < 2 or len(set(speakers)) == len(speakers):
        return None
    unit = np.stack([v / np.linalg.norm(v) for v in voices])
    i, j = np.triu_indices(len(unit), 1)
    score = (unit[i] * unit[j]).sum(1)
    same = np.array(speakers)[i] == np.array(speakers)[j]
    order = np.argsort(score, kind="stable")
    i, j, score, same = i[order], j[order], score[order], same[order]
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(samples):
        times = np.bincount(random.integers(0, len(unit), len(unit)), minlength=len(unit))
        weight = (times[i] * times[j]).astype(float)
        if weight[same].sum() and weight[~same].sum():
            drawn.append(equal_error_rate(score, same, weight))
    return {"eer": equal_error_rate(score, same, np.ones(len(score))),
            "eer_ci": [float(v) for v in np.percentile(drawn, [2.5, 97.5])],
            "utterances": len(unit), "speakers": len(set(speakers)),
            "same": int(same.sum()), "different": int((~same).sum())}


def equal_error_rate(score: np.ndarray, same: np.ndarray, weight: np.ndarray) -> float:
    """Where the share of pairs of one speaker that are refused meets the share of pairs of two that
    are accepted. score: (P,) in rising order; same: (P,) bool; weight: (P,). Pairs of equal score
    stand on one side of the threshold together."""
    last = np.append(score[1:] != score[:-1], True)
    refused = np.cumsum(weight * same)[last] / (weight * same).sum()
    accepted = 1 - np.cumsum(weight * ~same)[last] / (weight * ~same).sum()
    refused, accepted = np.append(0.0, refused), np.append(1.0, accepted)
    k = int(np.argmax(refused >= accepted))
    # The curves are straight between thresholds; they cross where their difference is zero.
    gap = accepted[k - 1 : k + 1] - refused[k - 1 : k + 1]
    share = gap[0] / (gap[0] - gap[1])
    return float(refused[k - 1] + share * (refused[k] - refused[k - 1]))


def heard_errors(reference: str, heard: str) -> Errors | None:
    """Errors between two texts of the text front end, without punctuation. Words are what stands
    between spaces: of phonemes where the front end makes phonemes."""
    said, got = ("".join(" " if c in PUNCTUATION else c for c in t).split()
                 for t in (reference, heard))
    return errors_between(said, got)
